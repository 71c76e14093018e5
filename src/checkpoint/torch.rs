//! PyTorch's files, read without executing anything.
//!
//! `pytorch-reader` builds the values; what it would spend is bounded here, by the opcodes of a
//! pickle and by the size of the file, and TorchScript's objects and quantised tensors are handed to it as dictionaries.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Write},
    path::Path,
};

use pytorch_reader::{DType, PickleError, PickleValue, PytorchError, PytorchReader, Tensor};
use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{
    format::Container,
    pickle::{Scan, scan},
    qtensor::{self, Content},
};

/// The longest pickle in an archive: its opcodes are counted too, but have to be unpacked first.
const MOST_PICKLE: u64 = 32 << 20;

/// A tensor may unpack to as many bytes as its file has, or to this many.
const SMALL: usize = 16 << 20;

/// A file of PyTorch's.
pub(super) struct Opened {
    /// By the keys of the dictionaries that lead to them, joined by dots.
    pub tensors: BTreeMap<String, Content>,
    /// What the one who saved it called the network, if that is in the file.
    pub arch: Option<String>,
    /// What is suspicious about it.
    pub warning: Option<String>,
}

/// What makes a file of tensors and names of one that holds more.
fn resave(path: &Path) -> String {
    format!(
        "if you trust it, python3 -c \"import torch; m = torch.load('{}', map_location='cpu', weights_only=False); \
         torch.save(m.state_dict(), 'weights.pth')\" saves what can be read",
        path.display()
    )
}

/// Reads the tensors of `bytes`, which are those of the file `path` if there is one: what the reader gets is what
/// was looked through.
pub(super) fn open(bytes: Vec<u8>, file: bool, path: &Path, container: Container) -> Result<Opened, String> {
    // Some has to be put in other words for the reader first.
    let (scan, reworded) = match container {
        Container::Zip => archived(&bytes)?,
        Container::Legacy => sequenced(&bytes)?,
        Container::Pickle => {
            let scan = scan(&bytes)?;
            let reworded = (!scan.edits.is_empty()).then(|| scan.reworded(&bytes));
            (scan, reworded)
        }
        Container::Tar => (in_tar(&bytes)?, None),
    };
    let most = bytes.len().max(SMALL);
    let told = |error: PytorchError| reason(&error, &scan, path);
    let reader = PytorchReader::from_bytes(reworded.unwrap_or(bytes), None).map_err(told)?;
    let tensors: BTreeMap<String, Tensor> = reader.into_tensors().into_iter().collect();
    if let Some((key, tensor)) = tensors.iter().find(|(_, tensor)| tensor.byte_len() > most) {
        let (key, bytes) = (key.escape_debug(), tensor.byte_len());
        return Err(format!("its tensor {key} would have {bytes} bytes, more than the file"));
    }
    if tensors.is_empty() {
        return Err(without_tensors(&scan, path));
    }
    let tensors = qtensor::plain(tensors, &scan.schemes)?;
    let hostile = scan.globals.iter().find(|global| is_hostile(global));
    let warning = hostile.map(|call| {
        format!(
            "{}: asks Python to call {call}, an attack perhaps: nothing of it was run here, but PyTorch may",
            path.display()
        )
    });
    Ok(Opened { tensors, arch: file.then(|| named(path)).flatten(), warning })
}

/// What timm's and Lightning's training keep of the network's name.
fn named(path: &Path) -> Option<String> {
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

/// What an archive's pickle holds, and the archive with the pickle in words that the reader knows, if they are
/// others.
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
            let name = name.escape_debug();
            return Err(format!("its {name} unpacks to more than {most} bytes: that is no checkpoint"));
        }
        Ok(content)
    };
    let pickle = format!("{root}data.pkl");
    let content = unpack(&pickle, MOST_PICKLE).map_err(|reason| format!("{reason} (a pickle)"))?;
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
    writer.write_all(&scan.reworded(&content)).map_err(|e| failed(&e))?;
    Ok((scan, Some(writer.finish().map_err(|e| failed(&e))?.into_inner())))
}

/// What the pickles of a file before archives hold: a number, a version, the system, the value and the storages'
/// keys; and the file in words that the reader knows, if they are others.
fn sequenced(bytes: &[u8]) -> Result<(Scan, Option<Vec<u8>>), String> {
    let (mut whole, mut reworded, mut same) = (Scan::default(), Vec::new(), true);
    for _ in 0..5 {
        let rest = &bytes[whole.len..];
        let part = scan(rest)?;
        reworded.extend(part.reworded(rest));
        whole.len += part.len;
        whole.globals.extend(part.globals);
        whole.schemes.extend(part.schemes);
        same &= part.edits.is_empty();
    }
    if same {
        return Ok((whole, None));
    }
    reworded.extend_from_slice(&bytes[whole.len..]);
    Ok((whole, Some(reworded)))
}

/// The pickles at the beginning of a tar archive's files.
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

/// Callables that run programs or texts.
fn is_hostile(global: &str) -> bool {
    let (module, name) = global.rsplit_once('.').unwrap_or(("", global));
    match module.split('.').next().unwrap_or_default() {
        "os" | "posix" | "nt" | "subprocess" | "pty" | "socket" | "runpy" | "shutil" | "webbrowser" => true,
        "builtins" | "__builtin__" => ["eval", "exec", "compile", "__import__", "open"].contains(&name),
        _ => false,
    }
}

/// Why a file cannot be read, for people.
fn reason(error: &PytorchError, scan: &Scan, path: &Path) -> String {
    if scan.globals.iter().any(|global| global == "torch.storage._load_from_bytes") {
        return format!(
            "was written by pickle.dump, not torch.save: if you trust it, python3 -c \"import pickle, torch; \
             torch.save(pickle.load(open('{}', 'rb')), 'weights.pth')\" makes a file that is read",
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

/// What is said of quantised tensors in other forms.
fn quantised() -> String {
    "holds quantised tensors of torch's in a form that is not read: save a state_dict after torch.ao.quantization.convert, \
     with weights of qint8, or the network in f32, before it"
        .into()
}

/// Why there is no tensor in a file that is one of PyTorch's.
fn without_tensors(scan: &Scan, path: &Path) -> String {
    if let Some(call) = scan.globals.iter().find(|global| is_hostile(global)) {
        return format!(
            "holds no tensors, and asks Python to call {call}: take it for an attack (nothing of it was run)"
        );
    }
    if let Some(global) = scan.globals.iter().find(|global| global.starts_with("numpy")) {
        return format!(
            "holds no tensor of PyTorch's but NumPy arrays ({global}), as PaddlePaddle's .pdparams do: save a \
             state dict with torch.save or safetensors"
        );
    }
    let holds = match &scan.globals[..] {
        [] => String::new(),
        globals => format!(", but {}", globals[..globals.len().min(3)].join(", ").escape_debug()),
    };
    format!("holds no dictionary of tensors{holds}: {}", resave(path))
}

/// The element type as safetensors calls it.
pub(super) fn dtype(dtype: DType) -> Dtype {
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
