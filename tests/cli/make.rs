//! Input files for the tests.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
};

use safetensors::{
    SafeTensors,
    tensor::{Dtype, TensorView},
};

use super::{SEEDED, common::fixture::Fixture};

/// The tensors of a file: data type, shape and bytes, by name.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

pub fn write(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(key, (dtype, shape, bytes))| (key, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

pub fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors.map(|(key, t)| (key, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect()
}

/// Copies the seeded checkpoint to a new folder and changes its tensors.
pub fn seeded(folder: &Path, change: impl FnOnce(&mut Tensors)) -> PathBuf {
    let weights = folder.join("weights");
    fs::create_dir(&weights).unwrap();
    for name in ["config.json", "preprocessor_config.json"] {
        fs::copy(Path::new(SEEDED).join(name), weights.join(name)).unwrap();
    }
    let mut tensors = read(&Path::new(SEEDED).join("model.safetensors"));
    change(&mut tensors);
    write(&weights.join("model.safetensors"), &tensors);
    weights
}

/// The golden network's checkpoint, without configuration. The file is large, so it is written once.
pub fn golden(name: &str) -> PathBuf {
    static WRITTEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}.safetensors"));
    let mut written = WRITTEN.lock().unwrap_or_else(|e| e.into_inner());
    if !written.contains(name) {
        let whole = tempfile::tempdir_in(folder).unwrap();
        Fixture::network(name).write(whole.path());
        fs::rename(whole.path().join("model.safetensors"), &path).unwrap();
        written.insert(name.into());
    }
    path
}

/// Copies the golden network's checkpoint and changes its tensors.
pub fn changed(folder: &Path, name: &str, change: impl FnOnce(&mut Tensors)) -> PathBuf {
    let path = folder.join("changed.safetensors");
    let mut tensors = read(&golden(name));
    change(&mut tensors);
    write(&path, &tensors);
    path
}

/// Deterministic values for a tensor of this shape.
pub fn values(shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product()).map(|i| (i as f32 * 0.37).sin()).collect()
}

pub fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The values of an f32 tensor.
pub fn floats((dtype, _, bytes): &(Dtype, Vec<usize>, Vec<u8>)) -> Vec<f32> {
    assert_eq!(*dtype, Dtype::F32);
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The values of an i64 tensor.
pub fn integers((dtype, _, bytes): &(Dtype, Vec<usize>, Vec<u8>)) -> Vec<i64> {
    assert_eq!(*dtype, Dtype::I64);
    bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
}

/// A file with the tensor `input`.
pub fn input(folder: &Path, shape: &[usize]) -> PathBuf {
    tensor(folder, "input", Dtype::F32, shape, f32s(&values(shape)))
}

/// A file with one tensor.
pub fn tensor(folder: &Path, key: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> PathBuf {
    let path = folder.join("in.safetensors");
    write(&path, &Tensors::from([(key.to_owned(), (dtype, shape.to_vec(), bytes))]));
    path
}

/// A file whose `input` is this tensor.
pub fn input_of(folder: &Path, tensor: &goldcrest::Tensor) -> PathBuf {
    self::tensor(folder, "input", Dtype::F32, tensor.dims(), f32s(tensor.data()))
}

/// A PNG file of one colour.
pub fn plain_picture(folder: &Path, width: u32, height: u32) -> PathBuf {
    let path = folder.join(format!("{width}x{height}.png"));
    image::RgbImage::from_pixel(width, height, image::Rgb([9, 99, 199])).save(&path).unwrap();
    path
}

/// A file with an f16 tensor `input` of any size: a header and a sparse hole, which uses no disk space.
pub fn sparse_input(folder: &Path, shape: [u64; 4]) -> PathBuf {
    let path = folder.join("in.safetensors");
    let bytes = 2 * shape.iter().product::<u64>();
    let header = format!(r#"{{"input":{{"dtype":"F16","shape":{shape:?},"data_offsets":[0,{bytes}]}}}}"#);
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
    path
}

/// The start of a PNG file: the header with the size, without pixels.
pub fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    png.extend([8, 2, 0, 0, 0]);
    let crc = !png[12..29].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
    });
    png.extend(crc.to_be_bytes());
    png.extend(b"\0\0\x10\0IDAT");
    png
}
