//! Pictures from Python: files and their bytes, NumPy arrays, Pillow's images, and other programs' arrays.

use std::path::PathBuf;

use goldcrest::{
    Result as Outcome,
    feed::{Content, Input, Name},
    tasks::{Picture, PictureLimits},
};
use numpy::{
    PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods, dtype,
    ndarray::{ArrayViewD, Axis},
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyByteArray, PyBytes, PyList, PyString, PyTuple},
};

use crate::errors::raised;

const ACCEPTED: &str = "a NumPy array of uint8, a Pillow image, a path, or the bytes of a picture's file";

/// A picture, copied from Python. Files are not decoded yet.
pub enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
    Pixels(Picture),
}

/// The pictures of a call.
pub enum Images<'py> {
    One(Source),
    Many(Bound<'py, PyAny>),
}

impl Source {
    /// Reads one picture.
    pub fn of(item: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(array) = item.cast::<PyUntypedArray>() {
            return pixels(array).map(Self::Pixels);
        }
        if item.is_instance_of::<PyString>() || item.hasattr(intern!(item.py(), "__fspath__"))? {
            return Ok(Self::File(item.extract()?));
        }
        if let Ok(bytes) = item.cast::<PyBytes>() {
            return Ok(Self::Bytes(bytes.as_bytes().to_vec()));
        }
        if let Ok(bytes) = item.cast::<PyByteArray>() {
            return Ok(Self::Bytes(bytes.to_vec()));
        }
        if is_pillow(item)? {
            return pillow(item).map(Self::Pixels);
        }
        match array_of(item)? {
            Some(array) => pixels(&array).map(Self::Pixels),
            None => {
                Err(PyTypeError::new_err(format!("expected {ACCEPTED}, found {}", item.get_type().name()?)))
            }
        }
    }

    /// Decodes the picture. Errors about bytes use `name`.
    pub fn decode(self, limits: PictureLimits, name: Option<String>) -> Outcome<Picture> {
        match self {
            Self::File(path) => Picture::open_with(path, limits),
            Self::Bytes(bytes) => {
                Picture::decode_with(&bytes, name.as_deref().unwrap_or("the picture"), limits)
            }
            Self::Pixels(picture) => Ok(picture),
        }
    }

    /// An input of the library's pipeline, which decodes the picture on one of its threads.
    pub fn input(self, limits: PictureLimits, name: Option<String>) -> Input {
        let made = move || self.decode(limits, name);
        let name = Name { file: PathBuf::new(), frame: None, folder: None };
        Input { name, content: Content::Lazy(Box::new(made)) }
    }

    /// Its name in error messages: its place in the list, or its file.
    pub fn name(&self, at: Option<usize>) -> Option<String> {
        match (self, at) {
            (Self::File(path), _) => Some(path.display().to_string()),
            (_, at) => at.map(|at| format!("picture {at}")),
        }
    }
}

impl<'py> Images<'py> {
    /// Distinguishes one picture from several: an iterable such as a list, or an array with a batch
    /// dimension.
    pub fn of(images: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = images.py();
        if images.is_instance_of::<PyList>() || images.is_instance_of::<PyTuple>() {
            return Ok(Self::Many(images.clone()));
        }
        if let Ok(array) = images.cast::<PyUntypedArray>() {
            let many = array.ndim() == 4 || array.dtype().kind() == b'O';
            return if many { Ok(Self::Many(images.clone())) } else { Source::of(images).map(Self::One) };
        }
        let is_one = images.is_instance_of::<PyString>()
            || images.is_instance_of::<PyBytes>()
            || images.is_instance_of::<PyByteArray>()
            || images.hasattr(intern!(py, "__fspath__"))?
            || is_pillow(images)?;
        if is_one {
            return Source::of(images).map(Self::One);
        }
        match array_of(images)? {
            Some(array) => Self::of(array.as_any()),
            None if images.hasattr(intern!(py, "__iter__"))? => Ok(Self::Many(images.clone())),
            None => Source::of(images).map(Self::One),
        }
    }
}

/// An array of another program, without a copy: of DLPack in the CPU's memory, or of NumPy's protocols.
pub fn array_of<'py>(item: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyUntypedArray>>> {
    let py = item.py();
    let numpy = py.import(intern!(py, "numpy"))?;
    let array = if item.hasattr(intern!(py, "__dlpack__"))? {
        let shared = numpy.call_method1(intern!(py, "from_dlpack"), (item,));
        shared.map_err(|error| {
            PyValueError::new_err(format!("the array cannot be shared: {}", error.value(py)))
        })?
    } else if item.hasattr(intern!(py, "__array__"))? || item.hasattr(intern!(py, "__array_interface__"))? {
        numpy.call_method1(intern!(py, "asarray"), (item,))?
    } else {
        return Ok(None);
    };
    Ok(Some(array.cast_into::<PyUntypedArray>()?))
}

/// True for an image of Pillow. Without Pillow in use, nothing is one.
fn is_pillow(item: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = item.py();
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    let pillow = modules.call_method1(intern!(py, "get"), (intern!(py, "PIL.Image"),))?;
    if pillow.is_none() {
        return Ok(false);
    }
    item.is_instance(&pillow.getattr(intern!(py, "Image"))?)
}

/// Copies an image of Pillow. Alpha is dropped and 16 bits lose their lower half, as in files.
fn pillow(image: &Bound<'_, PyAny>) -> PyResult<Picture> {
    let py = image.py();
    let mode: String = image.getattr(intern!(py, "mode"))?.extract()?;
    let (width, height): (usize, usize) = image.getattr(intern!(py, "size"))?.extract()?;
    let bytes = |image: &Bound<'_, PyAny>| -> PyResult<Vec<u8>> {
        let bytes = image.call_method0(intern!(py, "tobytes"))?;
        Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
    };
    let rgb = match mode.as_str() {
        "RGB" => bytes(image)?,
        "I;16" | "I;16L" | "I;16B" | "I;16N" => {
            let is_big_endian = mode == "I;16B" || (mode == "I;16N" && cfg!(target_endian = "big"));
            let high = usize::from(!is_big_endian);
            bytes(image)?.as_chunks::<2>().0.iter().flat_map(|sample| [sample[high]; 3]).collect()
        }
        "I" | "F" => {
            let reason = "the range of its pixels is not known: convert it to RGB first";
            return Err(PyValueError::new_err(format!("a Pillow image of mode {mode}: {reason}")));
        }
        _ => bytes(&image.call_method1(intern!(py, "convert"), (intern!(py, "RGB"),))?)?,
    };
    Picture::new(width, height, rgb).map_err(|error| raised(error, None))
}

/// Copies an array of uint8: `[rows, columns]`, or with 1, 3 or 4 channels. Alpha is dropped.
fn pixels(array: &Bound<'_, PyUntypedArray>) -> PyResult<Picture> {
    let py = array.py();
    let found = array.dtype();
    if !found.is_equiv_to(&dtype::<u8>(py)) {
        let advice = "pictures have 0 to 255 in uint8; `run` takes normalised tensors";
        return Err(PyTypeError::new_err(format!("expected an array of uint8, found {found}: {advice}")));
    }
    let bytes = array.cast::<PyArrayDyn<u8>>()?.readonly();
    let view = bytes.as_array();
    let (&[height, width] | &[height, width, 1 | 3 | 4]) = view.shape() else {
        let shape = view.shape();
        return Err(PyValueError::new_err(format!(
            "expected an array of rows x columns, or with 1, 3 or 4 channels last, found the shape {shape:?}"
        )));
    };
    let channels = view.shape().get(2).copied().unwrap_or(1);
    let rgb = match channels {
        3 => contiguous(view),
        4 => {
            let rgba = contiguous(view);
            rgba.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()
        }
        _ => contiguous(view).into_iter().flat_map(|grey| [grey; 3]).collect(),
    };
    Picture::new(width, height, rgb).map_err(|error| raised(error, None))
}

/// The values in the order of the indices.
pub fn contiguous<T: Copy>(view: ArrayViewD<'_, T>) -> Vec<T> {
    if let Some(values) = view.as_slice() {
        return values.to_vec();
    }
    let mut values = Vec::with_capacity(view.len());
    // Row by row, since rows are often contiguous in a part of a larger array.
    for row in view.axis_iter(Axis(0)) {
        match row.as_slice() {
            Some(row) => values.extend_from_slice(row),
            None => values.extend(row.iter().copied()),
        }
    }
    values
}
