//! The Python package `goldcrest`: its native module. `python/` has the types of its results.

mod device;
mod drawing;
mod errors;
mod images;
mod load;
mod loaded;
mod profile;
mod results;
mod session;
mod stream;
mod tensors;
mod turn;

use pyo3::prelude::*;

/// The native module of the package.
#[pymodule]
mod _goldcrest {
    use log::LevelFilter;
    use pyo3::{exceptions::PyRuntimeError, prelude::*};
    use pyo3_log::{Caching, Logger};

    #[pymodule_export]
    use crate::{
        device::adapters,
        drawing::{draw_boxes, overlay},
        errors::{DeviceLost, Error},
        load::load,
        session::Session,
        stream::Results,
    };

    /// Sends the library's log to Python's `logging`. Levels are not cached, so that a program can change
    /// them; messages below `INFO` are left out, because each one takes the interpreter's lock.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let mut logger = Logger::new(module.py(), Caching::Loggers)?.filter(LevelFilter::Info);
        for dependency in ["naga", "wgpu_core", "wgpu_hal"] {
            logger = logger.filter_target(dependency.into(), LevelFilter::Error);
        }
        logger.install().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
