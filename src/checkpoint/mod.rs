//! Files to named tensors and constants: formats by what they hold, the wrappers that training puts
//! around a network, names, the configuration beside the weights, and where each value came from.
//! Knows no family.

mod config;
mod format;
mod names;
mod origin;
mod pickle;
mod said;
mod torch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::SafeTensorError};

pub(crate) use config::Config;
pub(crate) use names::{Anchor, Tensors, superfluous};
pub use names::{TensorUse, Use};
pub use origin::{Origin, Source};
pub(crate) use origin::{Origins, Sourced};
pub use said::Said;

use crate::{Error, Result, Tensor};
use format::Format;

/// A checkpoint: tensors by the names that its files give them, read when they are asked for.
///
/// ```no_run
/// # fn main() -> goldcrest::Result<()> {
/// let checkpoint = goldcrest::checkpoint::Checkpoint::open("mobilenet_v2-b0353104.pth")?;
/// assert_eq!(checkpoint.shape("features.0.0.weight"), Some(&[32, 3, 3, 3][..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<(PathBuf, Bytes)>,
    tensors: BTreeMap<String, Entry>,
    /// `config.json` beside the weights.
    pub(crate) config: Option<Config>,
    /// `preprocessor_config.json` beside the weights.
    pub(crate) preprocessor: Option<Config>,
    /// What training called the network, in a file of its own.
    pub(crate) arch: Option<String>,
    /// What is suspicious about the files.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Where a tensor lies.
#[derive(Debug)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    /// First byte in the file, and the one past the last.
    Bytes(usize, usize),
    /// Wherever PyTorch's reader finds it.
    Torch(pytorch_reader::Tensor),
}

/// The endings of files of weights in a folder, in the order in which they are looked for.
const ENDINGS: [&str; 8] = [".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".th", ".pth.tar", ".pkl"];

impl Checkpoint {
    /// Opens a file of safetensors or of PyTorch, or a folder that holds one or several. In a folder an
    /// index (`*.safetensors.index.json`, `*.bin.index.json`) says which belong together; without one it
    /// is `model.safetensors` or `pytorch_model.bin`, or else all safetensors, or the only other.
    ///
    /// Nothing in a file is executed, and what reading takes is bounded by its size.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, [`Error::File`] if one is not what it should be (it then
    /// says what it is) or two files claim one tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut checkpoint = Self::empty(path);
        let folder = if path.is_dir() {
            let (files, keys) = weights_in(path)?;
            for file in files {
                let bytes = map(&file)?;
                checkpoint.add(&file, bytes, true)?;
            }
            if let Some(key) = keys.iter().find(|key| !checkpoint.contains(key)) {
                return Err(checkpoint.error(key, "is in the index but in none of its files"));
            }
            path
        } else {
            checkpoint.add(path, map(path)?, true)?;
            path.parent().unwrap_or(Path::new("."))
        };
        checkpoint.config = Config::open(folder.join("config.json"))?;
        checkpoint.preprocessor = Config::open(folder.join("preprocessor_config.json"))?;
        Ok(checkpoint)
    }

    /// The tensors of one file, without what lies beside it.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut checkpoint = Self::empty(path);
        checkpoint.add(path, map(path)?, true)?;
        Ok(checkpoint)
    }

    /// A checkpoint that is already in memory: the bytes of one file, under a name for errors, and the
    /// text of the `config.json` and `preprocessor_config.json` that belong to it.
    ///
    /// # Errors
    /// [`Error::File`] if the bytes are no such file, or a text is no JSON object.
    pub fn from_bytes(
        name: impl AsRef<Path>,
        bytes: Vec<u8>,
        config: Option<&str>,
        preprocessor: Option<&str>,
    ) -> Result<Self> {
        let mut checkpoint = Self::empty(name.as_ref());
        checkpoint.add(name.as_ref(), Bytes::Owned(bytes), false)?;
        checkpoint.config = config.map(|text| Config::parse("config.json", text)).transpose()?;
        checkpoint.preprocessor =
            preprocessor.map(|text| Config::parse("preprocessor_config.json", text)).transpose()?;
        Ok(checkpoint)
    }

    fn empty(path: &Path) -> Self {
        Self {
            path: path.into(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            config: None,
            preprocessor: None,
            arch: None,
            warnings: Vec::new(),
        }
    }

    /// Adds the tensors of one file's bytes; `on_disk` if they are what `path` holds.
    fn add(&mut self, path: &Path, bytes: Bytes, on_disk: bool) -> Result<()> {
        let file = self.files.len();
        let entries: Vec<(String, Entry)> = match Format::of(bytes.get(), path) {
            Format::Safetensors => {
                let (header, metadata) = SafeTensors::read_metadata(bytes.get())
                    .map_err(|error| Error::file(path, reason(&error, bytes.get())))?;
                // The data follows the eight bytes of the header's length, and the header.
                let start = 8 + header;
                // Sorted, so that of several faults the same one is told each time.
                let sorted = metadata.tensors().into_iter().collect::<BTreeMap<_, _>>();
                let entry = |(key, info): (String, &safetensors::tensor::TensorInfo)| {
                    let (from, to) = info.data_offsets;
                    let data = Data::Bytes(start + from, start + to);
                    (key, Entry { file, dtype: info.dtype, shape: info.shape.clone(), data })
                };
                sorted.into_iter().map(entry).collect()
            }
            Format::Torch(container) => {
                let opened = torch::open(bytes.get(), on_disk, path, container);
                let opened = opened.map_err(|reason| Error::file(path, reason))?;
                self.arch = self.arch.take().or(opened.arch);
                self.warnings.extend(opened.warning);
                let entry = |(key, tensor): (String, pytorch_reader::Tensor)| {
                    let (dtype, shape) = (torch::dtype(tensor.dtype()), tensor.shape().to_vec());
                    (key, Entry { file, dtype, shape, data: Data::Torch(tensor) })
                };
                opened.tensors.into_iter().map(entry).collect()
            }
            Format::Other(reason) => return Err(Error::file(path, reason)),
        };
        for (key, entry) in entries {
            if let Some(other) = self.tensors.get(&key) {
                let other = self.files[other.file].0.display();
                return Err(Error::Checkpoint {
                    path: path.into(),
                    key,
                    reason: format!("is in {other} too: say which file is meant"),
                });
            }
            self.tensors.insert(key, entry);
        }
        self.files.push((path.into(), bytes));
        Ok(())
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the file, or of the only one of the folder, without what follows the last dot.
    pub(crate) fn stem(&self) -> Option<&str> {
        match &self.files[..] {
            [(path, _)] => path.file_stem()?.to_str(),
            _ => None,
        }
    }

    /// The tensors' names, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    /// A tensor's shape, if there is one of this name.
    pub fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors.get(key).map(|entry| &entry.shape[..])
    }

    /// A tensor in f32, its shape checked where `shape` says a size.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is missing, misshapen, empty, neither of F64, F32, F16 and BF16, or
    /// has a value that is not finite; [`Error::File`] if its bytes cannot be had.
    pub fn tensor(&self, key: &str, shape: &[Option<usize>]) -> Result<Tensor> {
        let Some(entry) = self.tensors.get(key) else {
            return Err(self.error(key, "is missing"));
        };
        if let Some(misfit) = misfit(&entry.shape, shape) {
            return Err(self.error(key, misfit));
        }
        if entry.shape.contains(&0) {
            return Err(self.error(key, format!("holds no value: its shape is {:?}", entry.shape)));
        }
        let owned;
        let bytes = match &entry.data {
            Data::Bytes(from, to) => &self.files[entry.file].1.get()[*from..*to],
            Data::Torch(tensor) => {
                owned = tensor.read().map_err(|error| {
                    let reason = error.to_string().replace('\n', " ");
                    Error::file(&self.files[entry.file].0, format!("is damaged: {reason}"))
                })?;
                &owned
            }
        };
        let data: Vec<f32> = match entry.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            other => {
                let hint = match other {
                    Dtype::I8 | Dtype::U8 => ": weights of 8 bits are not read, save the network in f32",
                    _ => "",
                };
                return Err(self.error(key, format!("expected F32, F16, BF16 or F64, found {other:?}{hint}")));
            }
        };
        if let Some(i) = data.iter().position(|v| !v.is_finite()) {
            let count = data.iter().filter(|v| !v.is_finite()).count();
            let (value, len) = (data[i], data.len());
            return Err(self.error(
                key,
                format!("{count} of {len} values are not finite: the first is {value} at index {i}"),
            ));
        }
        Tensor::new(entry.shape.clone(), data)
    }

    /// An [`Error::Checkpoint`] for a tensor.
    pub(crate) fn error(&self, key: &str, reason: impl Into<String>) -> Error {
        let path = self.tensors.get(key).map_or(&self.path, |entry| &self.files[entry.file].0);
        Error::Checkpoint {
            path: path.clone(),
            // A hostile name must not break the message's line.
            key: key.escape_debug().to_string(),
            reason: reason.into(),
        }
    }
}

/// What is wrong with a shape where another is wanted.
fn misfit(found: &[usize], wanted: &[Option<usize>]) -> Option<String> {
    let fits = found.len() == wanted.len()
        && found.iter().zip(wanted).all(|(found, wanted)| wanted.is_none_or(|w| w == *found));
    if fits {
        return None;
    }
    let wanted: Vec<String> = wanted.iter().map(|d| d.map_or("*".into(), |d| d.to_string())).collect();
    Some(format!("expected shape [{}], found {found:?}", wanted.join(", ")))
}

/// Why a file with these bytes is no safetensors file, for people.
fn reason(error: &SafeTensorError, bytes: &[u8]) -> String {
    let len = bytes.len();
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("truncated or overlong: its tensors do not fill its {len} bytes exactly")
        }
        SafeTensorError::HeaderTooSmall => format!("not a safetensors file: only {len} bytes"),
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            format!("truncated, or not a safetensors file: its header would end past its {len} bytes")
        }
        other => format!("not a safetensors file: {other}").replace('\n', " "),
    }
}

/// Maps a file into memory.
#[allow(unsafe_code)]
fn map(path: &Path) -> Result<Bytes> {
    let mut file = fs::File::open(path).map_err(Error::io(path))?;
    let metadata = file.metadata().map_err(Error::io(path))?;
    if !metadata.is_file() || metadata.len() == 0 {
        // A pipe cannot be mapped, nor an empty file everywhere.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io(path))?;
        return Ok(Bytes::Owned(bytes));
    }
    // SAFETY: the map is private to this checkpoint and only read. If another process changes
    // or cuts the file meanwhile, values are wrong or the program is stopped, as it would be by
    // any library that maps its weights; nothing here relies on the bytes staying the same
    // beyond what is checked on every read.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
    Ok(Bytes::Mapped(map))
}

/// The files that make up a folder's checkpoint, and the keys that its index promises.
fn weights_in(folder: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        names.push(entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let ending = |end: &str| names.iter().filter(|n| n.ends_with(end)).collect::<Vec<_>>();
    for end in [".safetensors.index.json", ".bin.index.json"] {
        match ending(end)[..] {
            [] => {}
            [index] => return indexed(folder, &folder.join(index)),
            [a, b, ..] => return Err(Error::file(folder, format!("has two indices, {a} and {b}"))),
        }
    }
    for usual in ["model.safetensors", "pytorch_model.bin"] {
        if names.iter().any(|name| name == usual) {
            return Ok((vec![folder.join(usual)], Vec::new()));
        }
    }
    let safetensors = ending(ENDINGS[0]);
    if !safetensors.is_empty() {
        return Ok((safetensors.iter().map(|n| folder.join(n)).collect(), Vec::new()));
    }
    let one_of = |found: &[&String]| match *found {
        [] => None,
        [only] => Some(Ok((vec![folder.join(only)], Vec::new()))),
        [a, b, ..] => {
            Some(Err(Error::file(folder, format!("has several files of weights, {a} and {b}: name one"))))
        }
    };
    let torch = |name: &&String| ENDINGS[2..].iter().any(|end| name.ends_with(end));
    if let Some(found) = one_of(&names.iter().filter(torch).collect::<Vec<_>>()) {
        return found;
    }
    // Before others that are called .bin, which exports are too.
    if let Some((name, what)) = format::folder(&names) {
        let path = folder.join(name);
        // The file itself says more, and what helps, unless it only lists the others.
        let told = match name.ends_with("Manifest.json") || !path.is_file() {
            true => None,
            false => Some(Format::of(map(&path)?.get(), &path)),
        };
        return Err(match told {
            Some(Format::Other(reason)) => Error::file(path, reason),
            _ => Error::file(
                folder,
                format!("holds {what} ({name}), and neither safetensors nor PyTorch's files"),
            ),
        });
    }
    one_of(&ending(ENDINGS[1])).unwrap_or_else(|| {
        let what =
            if names.is_empty() { "is empty" } else { "has no .safetensors file, nor one of PyTorch's" };
        Err(Error::file(folder, what))
    })
}

/// The files and keys of an index.
fn indexed(folder: &Path, index: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let config = Config::open(index)?.ok_or_else(|| Error::io(index)(gone()))?;
    let map = config.get("weight_map").and_then(|v| v.as_object());
    let map = map.ok_or_else(|| Error::file(index, "has no weight_map"))?;
    let mut files = BTreeSet::new();
    for file in map.values() {
        match file.as_str() {
            // A shard lies beside its index, never elsewhere.
            Some(name) if Path::new(name).file_name() == Some(name.as_ref()) => {
                files.insert(folder.join(name))
            }
            _ => return Err(Error::file(index, format!("{file} is no file name"))),
        };
    }
    Ok((files.into_iter().collect(), map.keys().cloned().collect()))
}
