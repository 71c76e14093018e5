//! Reads checkpoint files into named tensors and settings: file formats, training wrappers, tensor names,
//! the configuration next to the weights, and the source of each setting. Nothing here is specific to a
//! family of networks.

mod bytes;
mod config;
mod conversion;
mod format;
mod names;
mod npy;
mod origin;
mod overrides;
mod record;
#[cfg(feature = "torch")]
mod torch;
#[cfg(not(feature = "torch"))]
#[path = "without_torch.rs"]
mod torch;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use safetensors::{Dtype, tensor::Metadata};

pub(crate) use config::Config;
pub(crate) use names::{Anchor, Tensors, not_part_of};
pub use names::{TensorUse, Use};
pub use npy::Npy;
pub use origin::{Origin, Source};
pub(crate) use origin::{Origins, Sourced};
pub use overrides::Overrides;
pub(crate) use record::Record;

use crate::{Error, Result, Tensor, graph::Affine};
use bytes::Bytes;
use conversion::FromTorch;
use format::Format;

/// A checkpoint: named tensors, read from their files on demand.
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
    /// The files with tensors. For a PyTorch file the bytes are empty: its reader owns them.
    files: Vec<(PathBuf, Bytes)>,
    tensors: BTreeMap<String, Entry>,
    /// `config.json` next to the weights.
    pub(crate) config: Option<Config>,
    /// `preprocessor_config.json` next to the weights.
    pub(crate) preprocessor: Option<Config>,
    /// The network's name as the training program stored it in the file.
    pub(crate) arch: Option<String>,
    /// The record of an int8 file. Such a file is self-contained: configuration files next to it are not
    /// read.
    pub(crate) record: Option<Box<Record>>,
    /// Warnings about suspicious content of the files.
    pub(crate) warnings: Vec<String>,
    /// The paths that were read or tried: weights, their index, configuration.
    pub(crate) read: Vec<PathBuf>,
}

/// A tensor's type and shape, and the location of its values.
#[derive(Debug)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// True if it is from a PyTorch file, converted or not.
    torch: bool,
    data: Data,
}

#[derive(Debug)]
enum Data {
    /// `len` bytes of the file from offset `first`.
    Bytes { first: u64, len: u64 },
    /// A tensor of PyTorch's reader.
    Torch(torch::Stored),
    /// The scales of a quantised torch tensor.
    Scales(Vec<f32>),
}

/// File name suffixes of weights in a folder, in search order.
const ENDINGS: [&str; 8] = [".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".th", ".pth.tar", ".pkl"];

impl Checkpoint {
    /// Opens a safetensors or PyTorch file, or a folder with one or several. In a folder an index
    /// (`*.safetensors.index.json`, `*.bin.index.json`) lists the files that belong together. Without one,
    /// `model.safetensors` or `pytorch_model.bin` is opened, else all safetensors files, else the only other
    /// weights file.
    ///
    /// Nothing in a file is executed, and the cost of reading is bounded by its size.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, [`Error::File`] if one has another format (the message
    /// names it), [`Error::Checkpoint`] if a tensor is in two files or is only in the index.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut checkpoint = Self::empty(path);
        let folder = if path.is_dir() {
            let Found { files, index, keys } = weights_in(path)?;
            for file in files {
                checkpoint.add(&file, Bytes::open(&file)?)?;
            }
            checkpoint.read.extend(index);
            if let Some(key) = keys.iter().find(|key| !checkpoint.contains(key)) {
                return Err(checkpoint.error(key, "is in the index but in none of its files"));
            }
            path
        } else {
            checkpoint.add(path, Bytes::open(path)?)?;
            path.parent().unwrap_or(Path::new("."))
        };
        let files: Vec<PathBuf> = checkpoint.files.iter().map(|(path, _)| path.clone()).collect();
        checkpoint.read.extend(files);
        if checkpoint.record.is_some() {
            return Ok(checkpoint);
        }
        let configs = ["config.json", "preprocessor_config.json"].map(|name| folder.join(name));
        checkpoint.read.extend(configs.clone());
        let [config, preprocessor] = configs;
        checkpoint.config = Config::open(config)?;
        checkpoint.preprocessor = Config::open(preprocessor)?;
        Ok(checkpoint)
    }

    /// Opens one file, without the configuration next to it.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut checkpoint = Self::empty(path);
        checkpoint.add(path, Bytes::open(path)?)?;
        Ok(checkpoint)
    }

    /// Opens a checkpoint in memory: the bytes of one file, a name for error messages, and the text of its
    /// `config.json` and `preprocessor_config.json`. An int8 file is self-contained: both texts are ignored
    /// for it.
    ///
    /// # Errors
    /// [`Error::File`] if the bytes are not a checkpoint file, or a text is not a JSON object.
    pub fn from_bytes(
        name: impl AsRef<Path>,
        bytes: Vec<u8>,
        config: Option<&str>,
        preprocessor: Option<&str>,
    ) -> Result<Self> {
        let mut checkpoint = Self::empty(name.as_ref());
        checkpoint.add(name.as_ref(), Bytes::Memory(bytes))?;
        if checkpoint.record.is_some() {
            return Ok(checkpoint);
        }
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
            record: None,
            warnings: Vec::new(),
            read: Vec::new(),
        }
    }

    /// Adds the tensors of one file.
    fn add(&mut self, path: &Path, mut bytes: Bytes) -> Result<()> {
        let file = self.files.len();
        let entries: Vec<(String, Entry)> = match Format::of(&bytes, path)? {
            Format::Safetensors => {
                let (metadata, start) = header(&bytes, path)?;
                let record = metadata.metadata().as_ref().map(Record::of).transpose();
                match (record.map_err(|reason| Error::file(path, reason))?.flatten(), &self.record) {
                    (Some(_), Some(_)) => {
                        let reason = "is a complete int8 network, and so is another file: open one of them";
                        return Err(Error::file(path, reason));
                    }
                    (Some(record), None) => self.record = Some(Box::new(record)),
                    (None, _) => {}
                }
                let converted = metadata.metadata().as_ref().map(FromTorch::of).transpose();
                let converted = converted.map_err(|reason| Error::file(path, reason))?.flatten();
                let torch = converted.is_some();
                if let Some(FromTorch { arch, warnings }) = converted {
                    self.arch = self.arch.take().or(arch);
                    self.warnings.extend(warnings);
                }
                // Sorted, so that the first error is always the same.
                let sorted = metadata.tensors().into_iter().collect::<BTreeMap<_, _>>();
                let entry = |(key, info): (String, &safetensors::tensor::TensorInfo)| {
                    let (from, to) = info.data_offsets;
                    let data = Data::Bytes { first: start + from as u64, len: (to - from) as u64 };
                    (key, Entry { file, dtype: info.dtype, shape: info.shape.clone(), torch, data })
                };
                sorted.into_iter().map(entry).collect()
            }
            Format::Torch(container) => {
                let whole = std::mem::replace(&mut bytes, Bytes::Memory(Vec::new()));
                let opened = torch::open(whole, path, container)?;
                self.arch = self.arch.take().or(opened.arch);
                self.warnings.extend(opened.warning);
                let entry = |(key, content): (String, torch::Content)| {
                    let (dtype, shape, data) = match content {
                        torch::Content::Stored(tensor) => {
                            (tensor.dtype(), tensor.shape().to_vec(), Data::Torch(tensor))
                        }
                        torch::Content::Scales(scales) => {
                            (Dtype::F32, vec![scales.len()], Data::Scales(scales))
                        }
                    };
                    (key, Entry { file, dtype, shape, torch: true, data })
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
                    reason: format!("is also in {other}: open one of the files"),
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

    /// The file name without its extension, if there is only one file.
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

    /// Returns whether a tensor of this name exists.
    pub fn contains(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    /// The shape of a tensor, if it exists.
    pub fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors.get(key).map(|entry| &entry.shape[..])
    }

    /// Reads a tensor as f32 and checks its shape against the sizes that `shape` gives. An I8 tensor is
    /// multiplied by its scales, the tensor named `<key>_scale`: one scale per index of the first dimension.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is missing, empty, has another shape or a type other than F64, F32, F16,
    /// BF16 and I8, a value that is not finite, or an invalid integer or scale; [`Error::Io`] or
    /// [`Error::File`] if its bytes cannot be read.
    pub fn tensor(&self, key: &str, shape: &[Option<usize>]) -> Result<Tensor> {
        let Some(entry) = self.tensors.get(key) else {
            return Err(self.error(key, "is missing"));
        };
        if let Some(reason) = shape_error(&entry.shape, shape) {
            return Err(self.error(key, reason));
        }
        if entry.shape.contains(&0) {
            return Err(self.error(key, format!("has no values: its shape is {:?}", entry.shape)));
        }
        let bytes = self.bytes(key, entry)?;
        if let Some(scales) = self.scales(key)? {
            // Torch quantises weights to -128..=127, our own files to -127..=127.
            let least = if entry.torch { i8::MIN } else { -i8::MAX };
            let data = scaled(bytemuck::cast_slice(&bytes), least, &scales);
            return Tensor::new(entry.shape.clone(), data.map_err(|reason| self.error(key, reason))?);
        }
        let Some(data) = floats(entry.dtype, &bytes) else {
            let hint = match entry.dtype {
                Dtype::U8 => ": int8 weights must be I8, with scales",
                _ => "",
            };
            let found = entry.dtype;
            return Err(self.error(key, format!("expected F32, F16, BF16, F64 or I8, found {found:?}{hint}")));
        };
        if let Some(reason) = not_finite(&data) {
            return Err(self.error(key, reason));
        }
        Tensor::new(entry.shape.clone(), data)
    }

    /// A tensor's bytes.
    fn bytes(&self, key: &str, entry: &Entry) -> Result<Cow<'_, [u8]>> {
        let (path, file) = &self.files[entry.file];
        match &entry.data {
            Data::Bytes { first, len } => {
                let bytes = file.read(*first, *len).map_err(Error::io(path))?;
                if bytes.len() as u64 != *len {
                    return Err(
                        self.error(key, "was cut off: the file has become shorter since it was opened")
                    );
                }
                Ok(bytes)
            }
            Data::Torch(tensor) => {
                let read = tensor.read().map_err(|error| Error::file(path, format!("is damaged: {error}")));
                read.map(Cow::Owned)
            }
            Data::Scales(scales) => Ok(Cow::Owned(bytemuck::cast_slice(scales).to_vec())),
        }
    }

    /// Reads the quantisation of a module's output from its scale and zero-point tensors, in a network that
    /// was quantised with torch.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if one is missing, not a single number, or out of range.
    pub(crate) fn affine(&self, scale: &str, zero: &str) -> Result<Affine> {
        let number = |key: &str| {
            let Some(entry) = self.tensors.get(key) else { return Err(self.error(key, "is missing")) };
            if entry.shape.iter().any(|size| *size != 1) {
                return Err(self.error(key, format!("expected a single number, found {:?}", entry.shape)));
            }
            let bytes = self.bytes(key, entry)?;
            let integer = match entry.dtype {
                Dtype::I64 => bytes.first_chunk().map(|b| i64::from_le_bytes(*b) as f32),
                Dtype::I32 => bytes.first_chunk().map(|b| i32::from_le_bytes(*b) as f32),
                _ => None,
            };
            let number = integer.or_else(|| floats(entry.dtype, &bytes)?.first().copied());
            number.ok_or_else(|| self.error(key, format!("expected a number, found {:?}", entry.dtype)))
        };
        let (value, zero_point) = (number(scale)?, number(zero)?);
        if !(f32::MIN_POSITIVE..=f32::MAX).contains(&value) {
            return Err(
                self.error(scale, format!("a scale cannot be {value}: expected a finite number above 0"))
            );
        }
        if zero_point.fract() != 0.0 || !(0.0..=255.0).contains(&zero_point) {
            let expected = "expected 0 to 255, as outputs are quint8";
            return Err(self.error(zero, format!("a zero point cannot be {zero_point}: {expected}")));
        }
        Ok(Affine { scale: value, zero: (zero_point as i32 - 128) as i8 })
    }

    /// The scales of an I8 tensor, one per index of its first dimension; `None` for another type.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if they are missing or invalid.
    pub(crate) fn scales(&self, key: &str) -> Result<Option<Vec<f32>>> {
        let Some(entry) = self.tensors.get(key).filter(|entry| entry.dtype == Dtype::I8) else {
            return Ok(None);
        };
        let name = scale_of(key);
        if self.tensors.get(&name).is_none_or(|scale| scale.dtype == Dtype::I8) {
            let help = "save the network in f32, or quantise it with goldcrest quantize";
            let name = name.escape_debug();
            return Err(self.error(key, format!("is I8 but has no scales {name}: {help}")));
        }
        let scales = self.tensor(&name, &[entry.shape.first().copied()])?.into_data();
        match scales.iter().find(|scale| **scale < f32::MIN_POSITIVE) {
            Some(scale) => {
                Err(self.error(&name, format!("a scale cannot be {scale}: expected numbers above 0")))
            }
            None => Ok(Some(scales)),
        }
    }

    /// Returns whether this is the name of an I8 tensor's scales.
    pub(crate) fn is_scale(&self, key: &str) -> bool {
        let whole = key.strip_suffix(SCALE).and_then(|whole| self.tensors.get(whole));
        whole.is_some_and(|entry| entry.dtype == Dtype::I8)
    }

    /// An [`Error::Checkpoint`] for a tensor.
    pub(crate) fn error(&self, key: &str, reason: impl Into<String>) -> Error {
        let path = self.tensors.get(key).map_or(&self.path, |entry| &self.files[entry.file].0);
        Error::Checkpoint {
            path: path.clone(),
            // A hostile name must not break the message into several lines.
            key: key.escape_debug().to_string(),
            reason: reason.into(),
        }
    }
}

/// The suffix in the names of I8 tensors' scales.
const SCALE: &str = "_scale";

/// The name of an I8 tensor's scales.
pub(crate) fn scale_of(key: &str) -> String {
    format!("{key}{SCALE}")
}

/// Multiplies integers, which must be at least `least`, by their scales. Each of `scales` applies to an
/// equal part of the integers.
fn scaled(integers: &[i8], least: i8, scales: &[f32]) -> Result<Vec<f32>, String> {
    if let Some(at) = integers.iter().position(|q| *q < least) {
        return Err(format!("holds -128 at index {at}: weights are from -127 to 127"));
    }
    let each = integers.len() / scales.len().max(1);
    let values: Vec<f32> =
        integers.iter().enumerate().map(|(at, q)| f32::from(*q) * scales[at / each]).collect();
    not_finite(&values).map_or(Ok(values), Err)
}

/// Converts floating-point values to f32; `None` for another type.
fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => return None,
    })
}

/// An error message if a value is not finite.
fn not_finite(values: &[f32]) -> Option<String> {
    let first = values.iter().position(|v| !v.is_finite())?;
    let count = values.iter().filter(|v| !v.is_finite()).count();
    let (value, len) = (values[first], values.len());
    Some(format!("{count} of {len} values are not finite: the first is {value} at index {first}"))
}

/// An error message if a shape is not the expected one.
fn shape_error(found: &[usize], wanted: &[Option<usize>]) -> Option<String> {
    let fits = found.len() == wanted.len()
        && found.iter().zip(wanted).all(|(found, wanted)| wanted.is_none_or(|w| w == *found));
    if fits {
        return None;
    }
    let wanted: Vec<String> = wanted.iter().map(|d| d.map_or("*".into(), |d| d.to_string())).collect();
    Some(format!("expected shape [{}], found {found:?}", wanted.join(", ")))
}

/// The maximum length of a safetensors header, which is the safetensors library's limit.
const MOST_HEADER: u64 = 100_000_000;

/// The safetensors header, and the offset of the tensors.
fn header(bytes: &Bytes, path: &Path) -> Result<(Metadata, u64)> {
    let len = bytes.len();
    let read = |from, len| bytes.read(from, len).map_err(Error::io(path));
    let first = read(0, 8)?;
    let length = first.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    let start = length.saturating_add(8);
    if start > len || length > MOST_HEADER {
        let reason = "truncated, or not a safetensors file: its header would exceed the file's";
        return Err(Error::file(path, format!("{reason} {len} bytes or the limit of {MOST_HEADER} bytes")));
    }
    let metadata: Metadata = serde_json::from_slice(&read(8, length)?)
        .map_err(|error| Error::file(path, format!("not a safetensors file: {error}")))?;
    if start.checked_add(metadata.data_len() as u64) != Some(len) {
        let reason = format!("truncated or overlong: its tensors do not fill its {len} bytes exactly");
        return Err(Error::file(path, reason));
    }
    Ok((metadata, start))
}

/// The files that make up a folder's checkpoint.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    /// The index, if there is one, and the tensor names in it.
    index: Option<PathBuf>,
    keys: Vec<String>,
}

impl Found {
    fn only(files: Vec<PathBuf>) -> Self {
        Self { files, ..Self::default() }
    }
}

/// Looks for weights in a folder.
fn weights_in(folder: &Path) -> Result<Found> {
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        names.push(entry.map_err(Error::io(folder))?.file_name());
    }
    // Hidden files belong to other programs: macOS's ._model.safetensors, downloads, editors' copies.
    names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
    names.sort();
    let ending = |end: &str| -> Vec<PathBuf> {
        let ends = names.iter().filter(|name| name.as_encoded_bytes().ends_with(end.as_bytes()));
        ends.map(|name| folder.join(name)).filter(|path| !path.is_dir()).collect()
    };
    let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    for end in [".safetensors.index.json", ".bin.index.json"] {
        match &ending(end)[..] {
            [] => {}
            [index] => return indexed(folder, index),
            [a, b, ..] => {
                return Err(Error::file(folder, format!("has two indices, {} and {}", name(a), name(b))));
            }
        }
    }
    let (safetensors, bin) = (ending(ENDINGS[0]), ending(ENDINGS[1]));
    for usual in ["model.safetensors", "pytorch_model.bin"].map(|usual| folder.join(usual)) {
        if safetensors.contains(&usual) || bin.contains(&usual) {
            return Ok(Found::only(vec![usual]));
        }
    }
    if !safetensors.is_empty() {
        return Ok(Found::only(safetensors));
    }
    let one_of = |found: &[PathBuf]| match found {
        [] => None,
        [only] => Some(Ok(Found::only(vec![only.clone()]))),
        [a, b, ..] => {
            let reason = format!("has several files of weights, {} and {}: name one", name(a), name(b));
            Some(Err(Error::file(folder, reason)))
        }
    };
    let mut torch: Vec<PathBuf> = ENDINGS[2..].iter().flat_map(|end| ending(end)).collect();
    torch.sort();
    if let Some(found) = one_of(&torch) {
        return found;
    }
    // Checked before .bin, because exports use that suffix too.
    let texts: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
    if let Some((name, what)) = format::folder(&texts) {
        let path = folder.join(name);
        // The file's content gives a more helpful message, unless it is a manifest, which only lists other
        // files.
        let content = match name.ends_with("Manifest.json") || !path.is_file() {
            true => None,
            false => Some(Format::of(&Bytes::open(&path)?, &path)?),
        };
        return Err(match content {
            Some(Format::Other(reason)) => Error::file(path, reason),
            _ => Error::file(folder, format!("holds {what} ({name}), and no safetensors or PyTorch file")),
        });
    }
    one_of(&bin).unwrap_or_else(|| {
        let what = if names.is_empty() { "is empty" } else { "has no .safetensors file and no PyTorch file" };
        Err(Error::file(folder, what))
    })
}

/// The files and tensor names in an index.
fn indexed(folder: &Path, index: &Path) -> Result<Found> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let config = Config::open(index)?.ok_or_else(|| Error::io(index)(gone()))?;
    let map = config.get("weight_map").and_then(|v| v.as_object());
    let map = map.ok_or_else(|| Error::file(index, "has no weight_map"))?;
    let mut files = BTreeSet::new();
    for file in map.values() {
        match file.as_str() {
            // A shard must be in the folder of its index.
            Some(name) if Path::new(name).file_name() == Some(name.as_ref()) => {
                files.insert(folder.join(name))
            }
            _ => return Err(Error::file(index, format!("{file} is not a file name"))),
        };
    }
    let (files, keys) = (files.into_iter().collect(), map.keys().cloned().collect());
    Ok(Found { files, index: Some(index.into()), keys })
}
