//! Devices.

use goldcrest::{
    Device,
    cpu::Cpu,
    gpu::{self, AdapterInfo, Gpu},
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyInt, PyString},
};

use crate::{errors::raised, results};

/// Which device a session runs on: `auto`, `cpu`, `gpu`, or an adapter's name or index.
pub enum Choice {
    /// The index of an adapter.
    Index(usize),
    /// A kind of device, or part of an adapter's name.
    Name(String),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Choice {
    type Error = PyErr;

    fn extract(device: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(name) = device.cast::<PyString>() {
            return Ok(Self::Name(name.to_string()));
        }
        // `True` is an `int` in Python, but no adapter's index.
        if device.is_instance_of::<PyInt>() && !device.is_instance_of::<PyBool>() {
            return device.extract().map(Self::Index);
        }
        let found = device.get_type().name()?;
        Err(PyTypeError::new_err(format!("device: expected a name or an index, found {found}")))
    }
}

impl Choice {
    /// Opens the device, without the interpreter's lock. A named adapter may be a software adapter.
    pub fn open(self, py: Python<'_>, threads: Option<usize>) -> PyResult<Device> {
        let cpu = move || Cpu::new(threads).map(Device::Cpu);
        let opened = py.detach(|| match self {
            Self::Name(name) if name.eq_ignore_ascii_case("cpu") => cpu(),
            Self::Name(name) if name.eq_ignore_ascii_case("auto") => match Device::best()? {
                Device::Cpu(_) if threads.is_some() => cpu(),
                best => Ok(best),
            },
            Self::Name(name) if name.eq_ignore_ascii_case("gpu") => adapter(None),
            Self::Name(name) => adapter(Some(&name)),
            Self::Index(index) => adapter(Some(&index.to_string())),
        });
        opened.map_err(|error| raised(error, None))
    }
}

fn adapter(wanted: Option<&str>) -> goldcrest::Result<Device> {
    let gpu = Gpu::open(wanted)?;
    if gpu.adapter().software {
        log::warn!("{} runs on the CPU: expect it to be slow", gpu.adapter());
    }
    Ok(Device::Gpu(gpu))
}

/// Checks a number of threads.
pub fn check_threads(threads: Option<usize>) -> PyResult<()> {
    match threads {
        Some(0) => Err(PyValueError::new_err("threads: expected at least 1, found 0")),
        Some(many) if many > 1024 => {
            Err(PyValueError::new_err(format!("threads: expected at most 1024, found {many}")))
        }
        _ => Ok(()),
    }
}

/// The machine's graphics adapters.
#[pyfunction]
pub fn adapters(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let found: Vec<AdapterInfo> =
        py.detach(|| pollster::block_on(gpu::adapters()).iter().map(AdapterInfo::of).collect());
    found.into_iter().enumerate().map(|(index, info)| results::adapter(py, index, info)).collect()
}
