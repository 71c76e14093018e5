//! Measures a network and its steps.

use std::time::Duration;

use goldcrest::{
    Options,
    measure::{self, Case, Sampling},
};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{errors::raised, loaded::Loaded, results};

/// Measures inferences and steps for about `seconds` each.
pub fn profile<'py>(
    py: Python<'py>,
    loaded: &Loaded,
    batch: Option<usize>,
    seconds: f64,
) -> PyResult<Bound<'py, PyAny>> {
    let batch = batch.unwrap_or(loaded.options.batch);
    if !(1..=1024).contains(&batch) {
        return Err(PyValueError::new_err(format!("batch: expected 1 to 1024, found {batch}")));
    }
    if !(0.0..=3600.0).contains(&seconds) {
        return Err(PyValueError::new_err(format!("seconds: expected 0 to 3600, found {seconds}")));
    }
    let _turn = loaded.turn.take(py)?;
    let sampling = Sampling { warmup: 2, runs: 5, time: Duration::from_secs_f64(seconds) };
    let timing = py.detach(|| {
        let options = Options { batch, ..loaded.options };
        let graph = loaded.network.graph_for(loaded.network.default_outputs())?;
        let case = Case { graph: &graph, input: options.input_shape(&loaded.network), options };
        measure::time(&loaded.device, case, sampling)
    });
    results::profile(py, timing.map_err(|error| raised(error, None))?)
}
