//! Opens a network: a checkpoint, a model of the hub, or a network of the demo.

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf, sync::Arc};

use goldcrest::{
    Options, Result as Outcome,
    checkpoint::Overrides,
    demo,
    hub::{Limits, Model},
    session::Precision,
    tasks::{Labels, PictureLimits},
    tensor::Element,
    zoo::Network,
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBool, PyFloat, PyInt, PyString},
};

use crate::{
    device::{Choice, check_threads},
    errors::raised,
    loaded::Loaded,
    session::Session,
};

/// The extensions of checkpoints. A name with one is never a model of the hub.
const EXTENSIONS: [&str; 8] = ["safetensors", "pth", "pt", "bin", "ckpt", "json", "onnx", "tflite"];

/// Where a network comes from.
enum Origin {
    Path(PathBuf),
    Hub(Model),
    Demo(fn() -> Outcome<Network>),
}

/// The names of classes, or a file with them.
pub enum Names {
    /// A text file with one name per line, or JSON.
    File(PathBuf),
    /// One name per class.
    List(Vec<String>),
}

/// A setting of a network, as text.
pub struct Setting(String);

impl<'a, 'py> FromPyObject<'a, 'py> for Names {
    type Error = PyErr;

    fn extract(labels: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let is_path = labels.is_instance_of::<PyString>() || labels.hasattr("__fspath__")?;
        if is_path { labels.extract().map(Self::File) } else { labels.extract().map(Self::List) }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Setting {
    type Error = PyErr;

    /// Reads text, a number, or true or false. Lists of these become comma-separated.
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(flag) = value.cast::<PyBool>() {
            return Ok(Self(flag.is_true().to_string()));
        }
        if value.is_instance_of::<PyString>()
            || value.is_instance_of::<PyInt>()
            || value.is_instance_of::<PyFloat>()
        {
            return Ok(Self(value.str()?.to_string()));
        }
        let parts: Vec<Setting> = value.extract()?;
        let parts: Vec<String> = parts.into_iter().map(|Setting(part)| part).collect();
        Ok(Self(parts.join(",")))
    }
}

impl Origin {
    fn of(model: &Bound<'_, PyAny>) -> PyResult<Self> {
        let path: PathBuf = model.extract()?;
        let Some(name) = path.to_str().filter(|_| model.is_instance_of::<PyString>()) else {
            return Ok(Self::Path(path));
        };
        if let Some(task) = name.strip_prefix("demo:") {
            return match task {
                "classify" => Ok(Self::Demo(demo::classifier)),
                "segment" => Ok(Self::Demo(demo::segmenter)),
                "detect" => Ok(Self::Demo(demo::detector)),
                _ => Err(PyValueError::new_err(format!(
                    "{name}: the demo's networks are demo:classify, demo:segment and demo:detect"
                ))),
            };
        }
        let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
        let is_file = extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()));
        match Model::parse(name) {
            Ok(model) if !is_file && !path.exists() => Ok(Self::Hub(model)),
            _ => Ok(Self::Path(path)),
        }
    }

    fn open(self, overrides: &Overrides) -> Outcome<Network> {
        match self {
            Self::Path(path) => Network::open_with(path, overrides),
            Self::Hub(model) => Network::open_with(model.fetch(&Limits::default(), |_| {})?, overrides),
            Self::Demo(network) => network(),
        }
    }
}

/// Opens a network.
///
/// `model` is a checkpoint of safetensors or PyTorch, a folder with one, a model of the Hugging Face
/// hub such as `timm/mobilenetv3_large_100.ra_in1k`, or `demo:classify`, `demo:segment` or
/// `demo:detect`. A name of the form `owner/name` is looked up on the hub if no such file or folder exists.
///
/// - `device`: `auto` (the best hardware graphics adapter, else the CPU), `gpu`, `cpu`, or an adapter's
///   index or part of its name.
/// - `arch`: the network's name in its library, such as `torchvision/mobilenet_v2`, if the checkpoint
///   does not show it.
/// - `overrides`: settings that tensors do not show, as the program's `--set`: `{"stem_stride": 1}`.
/// - `labels`: the names of the classes, or a file with them.
/// - `precision`: `f32`, `f16`, or `auto`: f16 if `goldcrest tune` found it faster and accurate enough.
/// - `batch`: pictures per run on a GPU. On the CPU each thread runs one picture.
/// - `threads`: threads that decode, preprocess and, on the CPU, run pictures; one per core by default.
/// - `size`: rows and columns of a segmenter's input.
/// - `max_pixels`: the most pixels that a picture file may have. `max_memory`: the most bytes of memory for
///   decoding it.
#[pyfunction]
#[pyo3(signature = (
    model, device = Choice::Name("auto".into()), *, arch = None, overrides = None, labels = None,
    precision = "auto", batch = 1, threads = None, size = None, max_pixels = None, max_memory = None,
))]
#[pyo3(
    text_signature = "(model, device='auto', *, arch=None, overrides=None, labels=None, precision='auto', \
                         batch=1, threads=None, size=None, max_pixels=None, max_memory=None)"
)]
#[allow(clippy::too_many_arguments)] // They are keywords.
pub fn load(
    py: Python<'_>,
    model: &Bound<'_, PyAny>,
    device: Choice,
    arch: Option<String>,
    overrides: Option<BTreeMap<String, Setting>>,
    labels: Option<Names>,
    precision: &str,
    batch: usize,
    threads: Option<usize>,
    size: Option<[usize; 2]>,
    max_pixels: Option<u64>,
    max_memory: Option<u64>,
) -> PyResult<Session> {
    let fails = |error| raised(error, None);
    let origin = Origin::of(model)?;
    check_threads(threads)?;
    if !(1..=1024).contains(&batch) {
        return Err(PyValueError::new_err(format!("batch: expected 1 to 1024, found {batch}")));
    }
    let precision = match precision {
        "auto" => Precision::Auto,
        "f32" => Precision::F32,
        "f16" => Precision::F16,
        _ => {
            return Err(PyValueError::new_err(format!(
                "precision: expected auto, f32 or f16, found {precision}"
            )));
        }
    };
    let given = overrides.unwrap_or_default();
    if matches!(origin, Origin::Demo(_)) && (arch.is_some() || !given.is_empty()) {
        return Err(PyValueError::new_err("the demo's networks take neither arch nor overrides"));
    }
    let mut overrides = arch.into_iter().fold(Overrides::default(), Overrides::arch);
    for (name, setting) in &given {
        overrides = overrides.set(name, setting.0.as_str()).map_err(fails)?;
    }
    let network = py.detach(|| origin.open(&overrides)).map_err(fails)?;
    network.notes.iter().for_each(|note| log::info!("{note}"));
    network.warnings.iter().for_each(|warning| log::warn!("{warning}"));

    let labels = match labels {
        Some(Names::File(path)) => py.detach(|| Labels::open(path)).map_err(fails)?,
        Some(Names::List(names)) => Labels::from(names),
        None => Labels::of(&network),
    };
    labels.check(network.label_count()).map_err(fails)?;
    let device = device.open(py, threads)?;
    if precision == Precision::F16 {
        device.supports(Element::F16).map_err(fails)?;
    }
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match &device {
        goldcrest::Device::Cpu(cpu) => cpu.info().threads,
        goldcrest::Device::Gpu(_) => threads.unwrap_or_else(available),
    };
    let defaults = PictureLimits::default();
    let limits = PictureLimits {
        pixels: max_pixels.unwrap_or(defaults.pixels),
        memory: max_memory.unwrap_or(defaults.memory),
    };
    let options = Options { batch, size, precision, ..Options::default() };
    if size.is_some_and(|size| size.contains(&0)) {
        return Err(PyValueError::new_err("size: expected rows and columns of at least 1"));
    }
    Ok(Session::new(Arc::new(Loaded::new(network, device, options, labels, threads, limits))))
}
