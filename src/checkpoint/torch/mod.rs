//! Reads PyTorch files without executing anything.
//!
//! `pytorch-reader` builds the values. This module bounds its cost, by the number of a pickle's opcodes and
//! by the size of the file, and rewrites TorchScript objects and quantised tensors into dictionaries.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read, Write},
    path::Path,
};

use pytorch_reader::{DType, PickleError, PickleValue, PytorchError, PytorchReader, Tensor};
use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

mod pickle;
mod qtensor;

use super::{bytes::Bytes, format::Container};
use crate::Error;
use pickle::{Scan, scan};
pub(super) use qtensor::Content;

/// The size limit of an unpacked pickle in an archive, which is unpacked before its opcodes are counted.
const MOST_PICKLE: u64 = 32 << 20;

/// A tensor may unpack to the size of its file, or to this many bytes if that is more.
const SMALL: usize = 16 << 20;

/// An open PyTorch file.
pub(super) struct Opened {
    /// Tensors by the keys of the dictionaries that contain them, joined by dots.
    pub tensors: BTreeMap<String, Content>,
    /// The network's name, if the file has it.
    pub arch: Option<String>,
    /// A warning about suspicious content.
    pub warning: Option<String>,
}

/// Advice for a file that holds more than tensors: save a state dict.
fn resave(path: &Path) -> String {
    format!(
        "if you trust it, python3 -c \"import torch; m = torch.load('{}', map_location='cpu', weights_only=False); \
         torch.save(m.state_dict(), 'weights.pth')\" saves a file that can be read",
        path.display()
    )
}

/// Reads the tensors of the file `path`.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::File`] if it is damaged, too costly or without tensors.
pub(super) fn open(bytes: Bytes, path: &Path, container: Container) -> crate::Result<Opened> {
    let on_disk = matches!(bytes, Bytes::File(..));
    tensors(bytes.whole(path)?, on_disk, path, container).map_err(|reason| Error::file(path, reason))
}

/// Reads the tensors in `bytes`, which come from the file `path` if `file` is set. The reader gets the same
/// bytes that were scanned.
fn tensors(bytes: Vec<u8>, file: bool, path: &Path, container: Container) -> Result<Opened, String> {
    // The reader does not support some pickles: they are rewritten first.
    let (scan, rewritten) = match container {
        Container::Zip => archived(&bytes)?,
        Container::Legacy => sequenced(&bytes)?,
        Container::Pickle => {
            let scan = scan(&bytes)?;
            let rewritten = (!scan.edits.is_empty()).then(|| scan.rewritten(&bytes));
            (scan, rewritten)
        }
        Container::Tar => (in_tar(&bytes)?, None),
    };
    let most = bytes.len().max(SMALL);
    let failed = |error: PytorchError| reason(&error, &scan, path);
    let reader = PytorchReader::from_bytes(rewritten.unwrap_or(bytes), None).map_err(failed)?;
    let tensors: BTreeMap<String, Tensor> = reader.into_tensors().into_iter().collect();
    if let Some((key, tensor)) = tensors.iter().find(|(_, tensor)| tensor.byte_len() > most) {
        let (key, bytes) = (key.escape_debug(), tensor.byte_len());
        return Err(format!("its tensor {key} would have {bytes} bytes, more than the file"));
    }
    if tensors.is_empty() {
        return Err(without_tensors(&scan, path));
    }
    let tensors = qtensor::split(tensors, &scan.schemes)?;
    let hostile = scan.globals.iter().find(|global| is_hostile(global));
    let warning = hostile.map(|call| {
        format!(
            "{}: asks Python to call {call}, perhaps an attack: it was not run here, but PyTorch may run it",
            path.display()
        )
    });
    Ok(Opened { tensors, arch: file.then(|| network_name(path)).flatten(), warning })
}

/// The network's name, if timm's or Lightning's training stored it in the checkpoint.
fn network_name(path: &Path) -> Option<String> {
    let Ok(PickleValue::Dict(mut root)) = PytorchReader::read_pickle_data(path, None) else { return None };
    if let Some(PickleValue::String(arch)) = root.remove("arch") {
        return Some(arch);
    }
    match root.remove("hyper_parameters")? {
        PickleValue::Dict(mut given) => {
            let mut names = ["arch", "model_name", "architecture", "backbone"].into_iter();
            names.find_map(|name| match given.remove(name)? {
                PickleValue::String(arch) => Some(arch),
                _ => None,
            })
        }
        _ => None,
    }
}

/// Scans an archive's pickle. Also returns the archive with the pickle rewritten, if the reader needs that.
fn archived(bytes: &[u8]) -> Result<(Scan, Option<Vec<u8>>), String> {
    let failed = |error: &dyn std::fmt::Display| format!("is a zip archive that is damaged: {error}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| failed(&e))?;
    let names: Vec<String> = archive.file_names().flatten().map(|name| name.to_string()).collect();
    let roots = names.iter().filter_map(|name| name.strip_suffix("data.pkl"));
    let root = roots.min_by_key(|root| root.len()).unwrap_or_default().to_owned();
    let mut unpack = |name: &str, most: u64| {
        let mut content = Vec::new();
        let entry = archive.by_name(name).map_err(|e| failed(&e))?;
        entry.take(most + 1).read_to_end(&mut content).map_err(|e| failed(&e))?;
        if content.len() as u64 > most {
            let kind = if name.ends_with(".pkl") { "pickle " } else { "" };
            let name = name.escape_debug();
            return Err(format!(
                "its {kind}{name} unpacks to more than {most} bytes: this is not a checkpoint"
            ));
        }
        Ok(content)
    };
    let pickle = format!("{root}data.pkl");
    let content = unpack(&pickle, MOST_PICKLE)?;
    let scan = scan(&content)?;
    let has = |part: &str| names.iter().any(|name| name.starts_with(&format!("{root}{part}")));
    if has("code/") && has("constants/") && !has("data/") {
        return Err("is a frozen TorchScript archive: its weights are constants without names. Save \
                    the module's state_dict(), or the archive before torch.jit.freeze"
            .into());
    }
    if scan.edits.is_empty() {
        return Ok((scan, None));
    }
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let data = format!("{root}data/");
    let kept = |name: &&String| name.starts_with(&data) || **name == format!("{root}byteorder");
    let kept: Vec<&String> = names.iter().filter(kept).collect();
    let mut left = (2 * bytes.len()).max(SMALL) as u64;
    for name in kept {
        let content = unpack(name, left)?;
        left -= content.len() as u64;
        writer.start_file(name.as_str(), options).map_err(|e| failed(&e))?;
        writer.write_all(&content).map_err(|e| failed(&e))?;
    }
    writer.start_file(pickle, options).map_err(|e| failed(&e))?;
    writer.write_all(&scan.rewritten(&content)).map_err(|e| failed(&e))?;
    Ok((scan, Some(writer.finish().map_err(|e| failed(&e))?.into_inner())))
}

/// Scans the pickles of a file from before PyTorch 1.6: magic number, version, system information, value and
/// storage keys. Also returns the file with the pickles rewritten, if the reader needs that.
fn sequenced(bytes: &[u8]) -> Result<(Scan, Option<Vec<u8>>), String> {
    let (mut whole, mut rewritten, mut same) = (Scan::default(), Vec::new(), true);
    for _ in 0..5 {
        let rest = &bytes[whole.len..];
        let part = scan(rest)?;
        rewritten.extend(part.rewritten(rest));
        whole.len += part.len;
        whole.globals.extend(part.globals);
        whole.schemes.extend(part.schemes);
        same &= part.edits.is_empty();
    }
    if same {
        return Ok((whole, None));
    }
    rewritten.extend_from_slice(&bytes[whole.len..]);
    Ok((whole, Some(rewritten)))
}

/// Scans the pickles at the start of a tar archive's files.
fn in_tar(bytes: &[u8]) -> Result<Scan, String> {
    const BLOCK: usize = 512;
    let mut whole = Scan::default();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + BLOCK).filter(|header| header[0] != 0) {
        let digits: String =
            header[124..136].iter().map(|b| char::from(*b)).filter(char::is_ascii_digit).collect();
        let size = usize::from_str_radix(&digits, 8).map_err(|_| "is a tar archive that is damaged")?;
        let content = bytes.get(at + BLOCK..).unwrap_or_default();
        let content = content.get(..size).ok_or("is a tar archive that is cut short")?;
        whole.globals.extend(scan(content)?.globals);
        at += BLOCK + size.div_ceil(BLOCK) * BLOCK;
    }
    Ok(whole)
}

/// Returns whether a callable runs programs or code.
fn is_hostile(global: &str) -> bool {
    let (module, name) = global.rsplit_once('.').unwrap_or(("", global));
    match module.split('.').next().unwrap_or_default() {
        "os" | "posix" | "nt" | "subprocess" | "pty" | "socket" | "runpy" | "shutil" | "webbrowser" => true,
        "builtins" | "__builtin__" => ["eval", "exec", "compile", "__import__", "open"].contains(&name),
        _ => false,
    }
}

/// The error message for a file that cannot be read.
fn reason(error: &PytorchError, scan: &Scan, path: &Path) -> String {
    if scan.globals.iter().any(|global| global == "torch.storage._load_from_bytes") {
        return format!(
            "was written by pickle.dump, not torch.save: if you trust it, python3 -c \"import pickle, torch; \
             torch.save(pickle.load(open('{}', 'rb')), 'weights.pth')\" makes a file that can be read",
            path.display()
        );
    }
    let quantised_tensor =
        |kind: &str| ["qtensor", "quantized", "QInt", "QUInt"].iter().any(|q| kind.contains(q));
    match error {
        PytorchError::Pickle(PickleError::UnsupportedType(kind)) if quantised_tensor(kind) => quantised(),
        PytorchError::Pickle(PickleError::UnsupportedType(kind)) => format!(
            "holds tensors within {}, which only Python can build: {}",
            kind.escape_debug(),
            resave(path)
        ),
        PytorchError::Pickle(PickleError::NoDataSource) => {
            "is a pickle that refers to tensors in other files: save it with torch.save".into()
        }
        PytorchError::InvalidFormat(why) if why.starts_with("Expected a dictionary") => {
            without_tensors(scan, path)
        }
        other => format!("is a damaged PyTorch file: {other}").replace('\n', " "),
    }
}

/// The error message for quantised tensors in an unsupported form.
fn quantised() -> String {
    "holds quantised tensors in an unsupported form: save a state_dict after torch.ao.quantization.convert, \
     with qint8 weights, or the f32 network before it"
        .into()
}

/// The error message for a PyTorch file without tensors.
fn without_tensors(scan: &Scan, path: &Path) -> String {
    if let Some(call) = scan.globals.iter().find(|global| is_hostile(global)) {
        return format!(
            "holds no tensors, and asks Python to call {call}: probably an attack (it was not run)"
        );
    }
    if let Some(global) = scan.globals.iter().find(|global| global.starts_with("numpy")) {
        return format!(
            "holds NumPy arrays ({global}) and no PyTorch tensors, as PaddlePaddle's .pdparams do: save a \
             state dict with torch.save or safetensors"
        );
    }
    let holds = match &scan.globals[..] {
        [] => String::new(),
        globals => format!(", but {}", globals[..globals.len().min(3)].join(", ").escape_debug()),
    };
    format!("holds no dictionary of tensors{holds}: {}", resave(path))
}

/// A tensor of a PyTorch file.
#[derive(Debug)]
pub(super) struct Stored(Tensor);

impl Stored {
    pub fn dtype(&self) -> Dtype {
        dtype(self.0.dtype())
    }

    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    pub fn read(&self) -> io::Result<Vec<u8>> {
        self.0.read()
    }
}

fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
