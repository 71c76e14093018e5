//! Reads and writes NumPy's `.npy` files of one array. Existing crates trust the header, so a hostile file
//! controls how much they allocate and how deeply they recurse.

use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::{bytes::Bytes, floats, not_finite};
use crate::{Error, Result, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";

/// The maximum length of a header. A plain array's header has about 100 bytes.
const MOST_HEADER: u32 = 1 << 16;

/// An array in a file, read on demand.
#[derive(Debug)]
pub struct Npy {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
    /// The offset of the values.
    start: u64,
    /// The size of the values in bytes.
    len: u64,
}

/// The header of a file.
#[derive(Debug, PartialEq)]
struct Header {
    dtype: Dtype,
    big_endian: bool,
    /// True if the first dimension varies fastest.
    fortran: bool,
    dims: Vec<usize>,
}

impl Npy {
    /// Opens an array of floating-point numbers, of either byte order and either order of dimensions.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::File`] if it is not such an array.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = Bytes::open(path)?;
        let refused = |reason: String| Error::file(path, reason);
        let start = bytes.read(0, 12).map_err(Error::io(path))?.into_owned();
        let (from, length) = match (start.strip_prefix(MAGIC), &start[..]) {
            (Some([1, _, ..]), [.., a, b, _, _]) => (10, u32::from(u16::from_le_bytes([*a, *b]))),
            (Some([2 | 3, _, ..]), [.., a, b, c, d]) => (12, u32::from_le_bytes([*a, *b, *c, *d])),
            (Some([version, ..]), _) if !(1..=3).contains(version) => {
                return Err(refused(format!("is a NumPy array of version {version}, not of 1, 2 or 3")));
            }
            (Some(_), _) => return Err(refused("is a NumPy array that is cut short".into())),
            (None, _) => return Err(refused("is not a NumPy array: save one with numpy.save".into())),
        };
        if length > MOST_HEADER {
            return Err(refused(format!(
                "claims a header of {length} bytes, which is too long for an array"
            )));
        }
        let text = bytes.read(from, length.into()).map_err(Error::io(path))?.into_owned();
        let header = Header::parse(&String::from_utf8_lossy(&text)).map_err(refused)?;
        let start = from + u64::from(length);
        let mut sizes = header.dims.iter().map(|&dim| dim as u64).chain([header.dtype.bitsize() as u64 / 8]);
        let len = sizes.try_fold(1u64, u64::checked_mul);
        let available = bytes.len().saturating_sub(start);
        match len {
            Some(len) if len == available => Ok(Self { path: path.into(), bytes, header, start, len }),
            _ => Err(refused(format!(
                "has {available} bytes of values, not those of shape {:?}: cut short, or more than one array",
                header.dims
            ))),
        }
    }

    /// The shape of the array.
    pub fn dims(&self) -> &[usize] {
        &self.header.dims
    }

    /// Reads the values.
    ///
    /// # Errors
    /// [`Error::File`] if there are none, one is not finite, or the file has become shorter since it was
    /// opened; [`Error::Io`] if it cannot be read.
    pub fn tensor(&self) -> Result<Tensor> {
        let Header { dtype, big_endian, fortran, ref dims } = self.header;
        if dims.contains(&0) {
            return Err(Error::file(&self.path, format!("has no values: its shape is {dims:?}")));
        }
        let bytes = self.bytes.read(self.start, self.len).map_err(Error::io(&self.path))?;
        if bytes.len() as u64 != self.len {
            return Err(Error::file(&self.path, "has become shorter since it was opened"));
        }
        let mut bytes = bytes.into_owned();
        if big_endian {
            bytes.chunks_exact_mut(dtype.bitsize() / 8).for_each(<[u8]>::reverse);
        }
        let values = floats(dtype, &bytes).unwrap_or_default();
        if let Some(reason) = not_finite(&values) {
            return Err(Error::file(&self.path, reason));
        }
        Tensor::new(dims.clone(), if fortran { to_c_order(&values, dims) } else { values })
    }

    /// Encodes a tensor as such a file, f32 in C order.
    pub fn encode(tensor: &Tensor) -> Vec<u8> {
        let dims: String = tensor.dims().iter().map(|dim| format!("{dim}, ")).collect();
        // A tuple of one dimension needs its comma.
        let dims = if tensor.dims().len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}");
        // Values begin at a multiple of 64 bytes, after a line feed.
        let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
        let mut bytes = [MAGIC, &[1, 0], &(length as u16).to_le_bytes()].concat();
        bytes.extend(format!("{header:<0$}\n", length - 1).bytes());
        bytes.extend(tensor.data().iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }
}

impl Header {
    /// Parses the subset of Python that NumPy writes.
    fn parse(text: &str) -> Result<Self, String> {
        let odd = || {
            format!(
                "has a header that is not that of a plain array: {:?}",
                text.chars().take(120).collect::<String>()
            )
        };
        let (descr, fortran, dims) = dictionary(text.trim()).ok_or_else(odd)?;
        let (order, kind) = descr.split_at_checked(1).ok_or_else(odd)?;
        let dtype = match kind {
            "f2" => Dtype::F16,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            _ => return Err(format!("holds {descr}, not f2, f4 or f8: save it with .astype('float32')")),
        };
        let big_endian = match order {
            ">" => true,
            "=" => cfg!(target_endian = "big"),
            "<" => false,
            _ => return Err(odd()),
        };
        Ok(Self { dtype, big_endian, fortran, dims })
    }
}

/// Parses the three fields of the header.
fn dictionary(text: &str) -> Option<(&str, bool, Vec<usize>)> {
    let mut rest = text.strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut descr, mut fortran, mut dims) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let after = after.trim_start().strip_prefix(':')?.trim_start();
        let after = match key {
            "descr" => {
                let (value, after) = quoted(after)?;
                descr = Some(value);
                after
            }
            "fortran_order" => {
                let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                fortran = Some(value == "True").filter(|_| value == "True" || value == "False");
                after
            }
            "shape" => {
                let (inside, after) = after.strip_prefix('(')?.split_once(')')?;
                // Python 2 writes an L after large numbers.
                let dim = |dim: &str| dim.trim().trim_end_matches('L').parse().ok();
                let inside = inside.trim().trim_end_matches(',');
                dims = match inside {
                    "" => Some(Vec::new()),
                    _ => inside.split(',').map(dim).collect(),
                };
                after
            }
            _ => return None,
        };
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some((descr?, fortran?, dims?))
}

/// Parses a string without escapes; also returns the rest of the text.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    text[1..].split_once(quote)
}

/// Reorders values whose first dimension varies fastest, so that the last one does.
fn to_c_order(values: &[f32], dims: &[usize]) -> Vec<f32> {
    let mut index = vec![0; dims.len()];
    let value = |_| {
        let at = index.iter().zip(dims).rev().fold(0, |at, (i, dim)| at * dim + i);
        for (i, dim) in index.iter_mut().zip(dims).rev() {
            *i += 1;
            if *i < *dim {
                break;
            }
            *i = 0;
        }
        values[at]
    };
    (0..values.len()).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8]) -> Result<Npy> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Npy::open(file.path())
    }

    /// A file with this header and these values.
    fn file(version: u8, header: &str, values: &[u8]) -> Vec<u8> {
        let length = match version {
            1 => (header.len() as u16).to_le_bytes().to_vec(),
            _ => (header.len() as u32).to_le_bytes().to_vec(),
        };
        [MAGIC, &[version, 0], &length, header.as_bytes(), values].concat()
    }

    #[test]
    fn encoded_tensors_are_read_back() {
        for dims in [vec![], vec![5], vec![2, 3], vec![1, 2, 3, 4]] {
            let tensor = Tensor::from_fn(dims, |at| at as f32 - 1.5);
            let bytes = Npy::encode(&tensor);
            let header = &bytes[..bytes.len() - 4 * tensor.data().len()];
            assert!(header.len().is_multiple_of(64) && header.ends_with(b"\n"));
            assert_eq!(open(&bytes).unwrap().tensor().unwrap(), tensor);
        }
        let bytes = Npy::encode(&Tensor::from_fn([5], |_| 0.0));
        // As `numpy.save` writes it.
        assert!(
            bytes.starts_with(
                b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }  "
            )
        );
    }

    #[test]
    fn every_order_and_width_gives_the_same_values() {
        let expected = Tensor::from_fn([2, 3], |at| at as f32);
        let columns = [0.0f32, 3.0, 1.0, 4.0, 2.0, 5.0];
        let f8: Vec<u8> = expected.data().iter().flat_map(|v| f64::from(*v).to_be_bytes()).collect();
        let f2: Vec<u8> =
            expected.data().iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        let f4: Vec<u8> = columns.iter().flat_map(|v| v.to_le_bytes()).collect();
        for (version, header, values) in [
            (1, "{'descr': '>f8', 'fortran_order': False, 'shape': (2, 3), }\n", f8),
            (2, "{\"shape\":(2L,3L),\"fortran_order\":False,\"descr\":\"<f2\"}", f2),
            (3, "  { 'descr' : '<f4' , 'fortran_order' : True , 'shape' : ( 2 , 3 , ) }   \n", f4),
        ] {
            assert_eq!(
                open(&file(version, header, &values)).unwrap().tensor().unwrap(),
                expected,
                "{header}"
            );
        }
    }

    #[test]
    fn hostile_and_broken_files_are_refused() {
        let whole = Npy::encode(&Tensor::from_fn([2, 3], |_| 1.0));
        for len in 0..whole.len() {
            assert!(open(&whole[..len]).is_err(), "cut to {len} bytes");
        }
        let fails = |bytes: Vec<u8>, words: &str| {
            let error = open(&bytes).and_then(|npy| npy.tensor()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        let plain = |descr: &str, shape: &str| {
            file(1, &format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"), &[0; 4])
        };
        fails([&whole[..], &[0]].concat(), "more than one array");
        fails(b"\x93NUMPY\x02\0\xff\xff\xff\xff".to_vec(), "a header of 4294967295 bytes");
        fails(b"\x93NUMPY\x09\0\x10\0\0\0".to_vec(), "version 9");
        fails(plain("'<i8'", "(1,)"), "holds <i8");
        fails(plain("'|O'", "(1,)"), "holds |O");
        fails(plain("'<f4'", "(4294967296, 4294967296, 4294967296)"), "cut short");
        fails(plain("'<f4'", "(18446744073709551617,)"), "header");
        fails(plain("'<f4'", "(-1,)"), "header");
        fails(plain("[('a', '<f4')]", "(1,)"), "header");
        fails(plain("'é4'", "(1,)"), "header");
        fails(plain(&"(".repeat(60_000), "(1,)"), "header");
        fails(file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}", &[]), "no value");
        let nan = f32::NAN.to_le_bytes();
        fails(file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", &nan), "NaN");
    }
}
