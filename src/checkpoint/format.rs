//! Detects a file's format from its content. The name only tells apart formats that look alike, and identifies
//! unsupported formats that have no signature.

use std::path::Path;

use super::bytes::Bytes;
#[cfg(feature = "torch")]
use super::bytes::Stream;
use crate::{Error, Result};

/// The bytes read to detect the format of a file that is not a zip archive.
const START: u64 = 4096;

/// A file's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    Safetensors,
    /// A PyTorch file.
    Torch(Container),
    /// Another format: an error message with the format and advice.
    Other(String),
}

/// The container of a PyTorch file's pickles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// A zip archive, since PyTorch 1.6.
    Zip,
    /// A sequence of pickles, then the storages, before PyTorch 1.6.
    Legacy,
    /// A tar archive, before PyTorch 0.1.10.
    Tar,
    /// A single pickle.
    Pickle,
}

/// Advice for Keras and TensorFlow weights.
const CONVERT: &str = "convert it to a folder with uv run scripts/convert_tf.py FILE FOLDER";

/// Advice for formats that `scripts/convert_tf.py` does not read.
const RESAVE: &str = "load it in Keras, save it as .keras, and convert that file with scripts/convert_tf.py";

/// Advice for exported networks, whose weights have other names or none.
const EXPORTED: &str =
    "exports lose the layers' names: use the weights before the export, in PyTorch or safetensors format";

const OTHER_WEIGHTS: &str =
    "this format is not read: use the network's weights in PyTorch or safetensors format";

/// The magic number of a PyTorch file before PyTorch 1.6, as pickles of protocol 2 and of protocol 0 store
/// it.
const LEGACY: [&[u8]; 2] = [b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", b"119547037146038801333356"];

/// A torch.export program, and advice for it.
#[cfg(feature = "torch")]
const EXPORT: &str = "an archive of torch.export";
#[cfg(feature = "torch")]
const STATE: &str = "save the module's state_dict() with torch.save";

/// File signatures: offset, bytes, format and advice.
const SIGNATURES: &[(usize, &[u8], &str, &str)] = &[
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them", CONVERT),
    (4, b"TFL3", "a TensorFlow Lite model", EXPORTED),
    (0, b"GGUF", "a GGUF file", "it is for language models"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it with git lfs pull"),
    (0, b"\x1f\x8b", "compressed with gzip", "unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it"),
    (0, b"\xfd7zXZ", "compressed with xz", "unpack it"),
    (0, b"BZh", "compressed with bzip2", "unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (0, b"Rar!", "a RAR archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
    (0, b"\x93NUMPY", "a NumPy array", "weights need names: save a state dict with safetensors"),
    (0, b"\x89PNG", "a picture", "expected the weights of a network"),
    (0, b"\xff\xd8\xff", "a picture", "expected the weights of a network"),
    (0, b"ptrt", "a TensorRT engine", EXPORTED),
    (0, b"ftrt", "a TensorRT engine", EXPORTED),
    (0, b"7767517", "an ncnn network", EXPORTED),
    (0, b"\x7fELF", "a program", "expected the weights of a network"),
    (0, b"%PDF", "a PDF document", "expected the weights of a network"),
];

impl Format {
    /// Detects the format of a file from its first bytes, and from its name as the module says.
    ///
    /// # Errors
    /// [`Error::Io`] if the bytes cannot be read.
    pub fn of(bytes: &Bytes, path: &Path) -> Result<Self> {
        let start = bytes.read(0, START).map_err(Error::io(path))?;
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
            #[cfg(feature = "torch")]
            return Ok(bytes.streamed(|stream| archive(stream, &extension)));
            // Without the reader, any archive counts as a PyTorch file.
            #[cfg(not(feature = "torch"))]
            return Ok(Self::Torch(Container::Zip));
        }
        Ok(Self::from_start(&start, bytes.len(), path, &extension))
    }

    /// Detects the format of a file that is not a zip archive, from its first bytes; `len` is its length.
    fn from_start(bytes: &[u8], len: u64, path: &Path, extension: &str) -> Self {
        if bytes.is_empty() {
            return Self::Other("is empty".into());
        }
        let length = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
        if length.is_some() && bytes.get(8) == Some(&b'{') {
            return Self::Safetensors;
        }
        let start = &bytes[..bytes.len().min(64)];
        if LEGACY.iter().any(|magic| start.windows(magic.len()).any(|at| at == *magic)) {
            return Self::Torch(Container::Legacy);
        }
        let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
        let name = name.strip_prefix(b"./").unwrap_or(name);
        if [&b"sys_info"[..], b"pickle", b"tensors", b"storages"].contains(&name)
            && bytes.get(257..262) == Some(b"ustar")
        {
            return Self::Torch(Container::Tar);
        }
        if extension == "mlmodel" {
            return other("a Core ML model", EXPORTED);
        }
        let known =
            SIGNATURES.iter().find(|(at, magic, ..)| bytes.get(*at..).is_some_and(|b| b.starts_with(magic)));
        if let Some((_, _, what, help)) = known {
            return other(what, help);
        }
        if matches!(bytes, [0x80, 0..=5, ..]) {
            return Self::Torch(Container::Pickle);
        }
        protobuf(bytes).or_else(|| text(bytes)).unwrap_or_else(|| match (bytes, extension) {
            (_, "msgpack") | ([0x81..=0x8f, 0xa0..=0xbf, ..], _) => {
                other("msgpack, as Flax writes it", OTHER_WEIGHTS)
            }
            ([b'(' | b'}' | b']', ..], _) => Self::Torch(Container::Pickle),
            _ => Self::Other(unknown(len, path)),
        })
    }
}

const TENSORFLOW: (&str, &str) = ("a part of a TensorFlow checkpoint", OTHER_WEIGHTS);

/// File name suffixes of formats without a signature, these formats, and what helps.
const NAMES: [(&str, (&str, &str)); 9] = [
    (".caffemodel", ("a Caffe model", OTHER_WEIGHTS)),
    (".params", ("MXNet weights", OTHER_WEIGHTS)),
    (".pdiparams", ("weights of a PaddlePaddle export", EXPORTED)),
    (".t7", ("a Torch 7 file", OTHER_WEIGHTS)),
    (".weights", ("Darknet weights", OTHER_WEIGHTS)),
    (".mnn", ("an MNN network", EXPORTED)),
    (".pte", ("an ExecuTorch program", EXPORTED)),
    (".index", TENSORFLOW),
    (".meta", TENSORFLOW),
];

/// The error message for a file without a known signature.
fn unknown(len: u64, path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let part = name.contains(".data-0").then_some(TENSORFLOW);
    let known = NAMES.iter().find(|(end, _)| name.ends_with(end)).map(|(_, known)| *known);
    if let Some((what, help)) = part.or(known) {
        return format!("is {what} according to its name: {help}");
    }
    format!("has an unknown format, neither safetensors nor PyTorch ({len} bytes)")
}

fn other(what: &str, help: &str) -> Format {
    Format::Other(format!("is {what}: {help}"))
}

/// Detects the format of a zip archive from the names of its files.
#[cfg(feature = "torch")]
fn archive(stream: &mut dyn Stream, extension: &str) -> Format {
    let names: Vec<String> = match zip::ZipArchive::new(stream) {
        Ok(archive) => archive.file_names().flatten().map(|name| name.to_string()).collect(),
        Err(_) if extension == "pt2" => return other(EXPORT, STATE),
        Err(error) => {
            let truncated = "is a zip archive that cannot be read, perhaps cut short";
            return Format::Other(format!("{truncated} ({error}): download or copy it again"));
        }
    };
    let has = |end: &str| names.iter().any(|name| name == end || name.ends_with(&format!("/{end}")));
    if has("data.pkl") {
        return Format::Torch(Container::Zip);
    }
    if has("model.weights.h5") || (has("config.json") && names.iter().any(|name| name.ends_with(".h5"))) {
        return other("a Keras archive", CONVERT);
    }
    if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        return other("an archive of NumPy arrays", "save a state dict with safetensors");
    }
    if names.iter().any(|name| name.contains(".dist-info/")) {
        return other(
            "a Python package, a zip archive",
            "unpack or install it, and use the file of weights in it",
        );
    }
    if has("models/model.json") || has("archive_format") {
        return other(EXPORT, STATE);
    }
    if has("saved_model.pb") {
        return other("an archive of a TensorFlow SavedModel", RESAVE);
    }
    let first: Vec<String> = names.iter().take(3).map(|name| name.escape_debug().to_string()).collect();
    let more = if names.len() > first.len() { ", ..." } else { "" };
    Format::Other(format!(
        "is a zip archive of {} files ({}{more}) without PyTorch's data.pkl: unpack it and use the weights",
        names.len(),
        first.join(", ")
    ))
}

/// Detects ONNX and TensorFlow files, which have no signature, from the first fields of their messages.
fn protobuf(bytes: &[u8]) -> Option<Format> {
    // A length-delimited field: its content, truncated to the first kilobyte, and the bytes after it.
    let field = |bytes: &[u8], tag: u8| {
        let mut rest = bytes.strip_prefix(&[tag])?;
        let mut len = 0usize;
        for shift in [0, 7, 14, 21, 28] {
            let (byte, after) = rest.split_first()?;
            rest = after;
            len |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let (content, after) = rest.split_at(rest.len().min(len));
                return Some((content.to_vec(), after.to_vec()));
            }
        }
        None
    };
    let start = &bytes[..bytes.len().min(1024)];
    if let [0x08, 1..=30, rest @ ..] = start {
        return match rest {
            // After the version number, ONNX has a string (the producer), and TensorFlow has a message.
            [0x12, ..] => match field(rest, 0x12)?.0.first()? {
                0x0a => Some(other("a TensorFlow SavedModel", RESAVE)),
                _ => Some(other("an ONNX graph", EXPORTED)),
            },
            [0x1a | 0x22 | 0x2a | 0x32 | 0x3a | 0x42, ..] => Some(other("an ONNX graph", EXPORTED)),
            _ => None,
        };
    }
    // A graph begins with a node, and a node with its name and operation.
    let (node, _) = field(start, 0x0a)?;
    let (name, rest) = field(&node, 0x0a)?;
    let (operation, _) = field(&rest, 0x12)?;
    let printable = |text: &[u8]| !text.is_empty() && text.iter().all(|b| b.is_ascii_graphic());
    (printable(&name) && printable(&operation)).then(|| other("a TensorFlow graph", CONVERT))
}

/// Detects text formats.
fn text(bytes: &[u8]) -> Option<Format> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The bytes end within a UTF-8 sequence.
        Err(error) if error.valid_up_to() + 4 > bytes.len() && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let lower = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    Some(if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        other("a web page", "perhaps a login or error page saved instead of the file: fetch it again")
    } else if lower.starts_with("<?xml") || lower.starts_with('<') {
        let openvino = lower.contains("<net ");
        if openvino {
            other("an OpenVINO network", EXPORTED)
        } else {
            other("an XML document", "fetch the file again")
        }
    } else if lower.starts_with('{')
        && lower.contains("\"weightsmanifest\"") | lower.contains("\"layers-model\"")
    {
        other("a TensorFlow.js model", CONVERT)
    } else if lower.starts_with('{') && lower.contains("weight_map") {
        other("an index of weights", "use its folder")
    } else if lower.starts_with('{') {
        other("JSON", "use the file of weights, or the folder")
    } else {
        let first = text.trim_start().lines().next().unwrap_or_default();
        let first: String = first.chars().take(40).collect();
        Format::Other(format!(
            "is a text that begins with {:?}: expected {}",
            first, "a safetensors or PyTorch file"
        ))
    })
}

/// Detects the format of a folder without weights from its file names; also returns the file name that
/// identifies it.
pub(super) fn folder(names: &[String]) -> Option<(&str, &'static str)> {
    let ending = |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end)));
    let kinds: [(&[&str], &str); 12] = [
        (&["saved_model.pb"], "a TensorFlow SavedModel"),
        (&[".keras", ".h5", ".hdf5", ".weights.h5"], "Keras weights"),
        (&[".tflite"], "a TensorFlow Lite model"),
        (&[".onnx"], "an ONNX graph"),
        (&[".mlmodel", ".mlpackage", "Manifest.json"], "a Core ML model"),
        (&[".pb", ".ckpt.index", ".ckpt.meta"], "a TensorFlow graph"),
        (&[".msgpack"], "a Flax checkpoint"),
        (&[".gguf"], "a GGUF file"),
        (&[".param"], "an ncnn network"),
        (&["data.pkl"], "an unpacked PyTorch archive"),
        (&[".distcp"], "a distributed PyTorch checkpoint"),
        (&[".caffemodel", ".pdiparams", ".mnn", ".pte"], "an export"),
    ];
    for (ends, what) in kinds {
        if let Some(name) = ending(ends) {
            return Some((name, what));
        }
    }
    let shards = |name: &&String| name.contains("-shard") && name.ends_with(".bin");
    if names.iter().any(|name| name == "model.json") && names.iter().any(|name| shards(&name)) {
        return Some(("model.json", "a TensorFlow.js model"));
    }
    if ending(&[".xml"]).is_some() && ending(&[".bin"]).is_some() {
        return Some((ending(&[".xml"])?, "an OpenVINO network"));
    }
    None
}
