//! Named tensors from safetensors files, and the configuration files beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::SafeTensorError};

use super::config::Config;
use crate::{Error, Result, Tensor};

/// A checkpoint: tensors by name, read when they are asked for.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<(PathBuf, Bytes)>,
    tensors: BTreeMap<String, Entry>,
    /// `config.json` beside the weights.
    pub(super) config: Option<Config>,
    /// `preprocessor_config.json` beside the weights.
    pub(super) preprocessor: Option<Config>,
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
    /// First byte in the file, and the one past the last.
    bytes: (usize, usize),
}

impl Checkpoint {
    /// Opens a `.safetensors` file, or a folder that holds one or several. In a folder an
    /// index (`*.safetensors.index.json`) says which belong together; without one it is
    /// `model.safetensors`, or else all that are there.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, [`Error::File`] if one is not what it should be
    /// or the folder has none, [`Error::Checkpoint`] if a tensor appears twice or an index names
    /// one that is not there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut checkpoint = Self::empty(path);
        let folder = if path.is_dir() {
            let (files, keys) = weights_in(path)?;
            for file in files {
                checkpoint.add(&file, map(&file)?)?;
            }
            if let Some(key) = keys.iter().find(|key| !checkpoint.contains(key)) {
                return Err(checkpoint.error(key, "is in the index but in none of its files"));
            }
            path
        } else {
            checkpoint.add(path, map(path)?)?;
            path.parent().unwrap_or(Path::new("."))
        };
        checkpoint.config = Config::open(folder.join("config.json"))?;
        checkpoint.preprocessor = Config::open(folder.join("preprocessor_config.json"))?;
        Ok(checkpoint)
    }

    /// The tensors of one file, without what lies beside it.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::File`] if it is no safetensors file.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut checkpoint = Self::empty(path);
        checkpoint.add(path, map(path)?)?;
        Ok(checkpoint)
    }

    /// A checkpoint that is already in memory: the bytes of one safetensors file, under a name
    /// for errors, and the text of the `config.json` and `preprocessor_config.json` that belong
    /// to it.
    ///
    /// # Errors
    /// [`Error::File`] if the bytes are not a safetensors file, or a text is no JSON object.
    pub fn from_bytes(
        name: impl AsRef<Path>,
        bytes: Vec<u8>,
        config: Option<&str>,
        preprocessor: Option<&str>,
    ) -> Result<Self> {
        let mut checkpoint = Self::empty(name.as_ref());
        checkpoint.add(name.as_ref(), Bytes::Owned(bytes))?;
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
        }
    }

    fn add(&mut self, path: &Path, bytes: Bytes) -> Result<()> {
        let (header, metadata) = SafeTensors::read_metadata(bytes.get())
            .map_err(|error| Error::file(path, reason(&error, bytes.get())))?;
        // The data follows the eight bytes of the header's length, and the header.
        let start = 8 + header;
        // Sorted, so that of several faults the same one is told each time.
        for (key, info) in metadata.tensors().into_iter().collect::<BTreeMap<_, _>>() {
            let (from, to) = info.data_offsets;
            let entry = Entry {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes: (start + from, start + to),
            };
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

    /// The tensors' names, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    /// Whether a tensor's name begins like this.
    pub(super) fn has(&self, prefix: &str) -> bool {
        self.tensors.range(prefix.to_owned()..).next().is_some_and(|(key, _)| key.starts_with(prefix))
    }

    /// How many modules `prefix0.`, `prefix1.`, ... there are, up to the first that is missing.
    pub(super) fn count(&self, prefix: &str) -> usize {
        self.count_from(prefix, 0)
    }

    /// The same for modules that are numbered from `first`.
    pub(super) fn count_from(&self, prefix: &str, first: usize) -> usize {
        (first..).take_while(|i| self.has(&format!("{prefix}{i}."))).count()
    }

    /// A tensor's shape, if there is one of this name.
    pub fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors.get(key).map(|entry| &entry.shape[..])
    }

    /// A tensor in f32, its shape checked where `shape` says a size.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is missing, misshapen, empty, neither F32 nor F16 nor BF16, or
    /// has a value that is not finite.
    pub fn tensor(&self, key: &str, shape: &[Option<usize>]) -> Result<Tensor> {
        let Some(entry) = self.tensors.get(key) else {
            return Err(self.error(key, "is missing"));
        };
        let fits = entry.shape.len() == shape.len()
            && entry.shape.iter().zip(shape).all(|(found, wanted)| wanted.is_none_or(|w| w == *found));
        if !fits {
            let wanted: Vec<String> = shape.iter().map(|d| d.map_or("*".into(), |d| d.to_string())).collect();
            let found = &entry.shape;
            return Err(self.error(key, format!("expected shape [{}], found {found:?}", wanted.join(", "))));
        }
        if entry.shape.contains(&0) {
            return Err(self.error(key, format!("holds no value: its shape is {:?}", entry.shape)));
        }
        let bytes = &self.files[entry.file].1.get()[entry.bytes.0..entry.bytes.1];
        let data: Vec<f32> = match entry.dtype {
            Dtype::F32 => {
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => {
                bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            other => return Err(self.error(key, format!("expected F32, F16 or BF16, found {other:?}"))),
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
    pub(super) fn error(&self, key: &str, reason: impl Into<String>) -> Error {
        let path = self.tensors.get(key).map_or(&self.path, |entry| &self.files[entry.file].0);
        Error::Checkpoint {
            path: path.clone(),
            // A hostile name must not break the message's line.
            key: key.escape_debug().to_string(),
            reason: reason.into(),
        }
    }
}

/// Why a file with these bytes is no safetensors file, for people.
fn reason(error: &SafeTensorError, bytes: &[u8]) -> String {
    let len = bytes.len();
    // A safetensors file has its JSON there; a pickle, zipped or not, begins like these.
    let pickle = bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..]);
    if pickle && bytes.get(8) != Some(&b'{') {
        return "a PyTorch file: save its state dict with safetensors".into();
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return "a Git LFS pointer, not the file itself: fetch it with git lfs pull".into();
    }
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

/// The safetensors files that make up a folder's checkpoint, and the keys that its index
/// promises.
fn weights_in(folder: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        names.push(entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let ending = |end: &str| names.iter().filter(|n| n.ends_with(end)).collect::<Vec<_>>();
    match ending(".safetensors.index.json")[..] {
        [] => {}
        [index] => return indexed(folder, &folder.join(index)),
        [a, b, ..] => return Err(Error::file(folder, format!("has two indices, {a} and {b}"))),
    }
    let files = ending(".safetensors");
    if files.is_empty() {
        let reason = if names.is_empty() { "is empty" } else { "has no .safetensors file" };
        return Err(Error::file(folder, reason));
    }
    let files = match files.iter().find(|n| **n == "model.safetensors") {
        Some(model) => vec![folder.join(model)],
        None => files.iter().map(|n| folder.join(n)).collect(),
    };
    Ok((files, Vec::new()))
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
