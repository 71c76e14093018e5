//! Results as the types of the package's module `results`.

use goldcrest::{
    feed::Prediction,
    gpu::AdapterInfo,
    measure::{StepTime, Timing},
    tasks::{ClassArea, Labels},
};
use numpy::{IntoPyArray, PyArray1, PyArrayMethods};
use pyo3::{
    call::PyCallArgs,
    prelude::*,
    sync::PyOnceLock,
    types::{PyList, PyType},
};

use crate::errors::Error;

/// How results are shown.
#[derive(Clone, Copy, Default)]
pub struct Shown {
    /// The minimum score of a detection.
    pub score: f32,
    /// Scales embeddings to unit length.
    pub normalize: bool,
}

/// Creates an object of one of the package's types, which are looked up once.
macro_rules! object {
    ($py:expr, $name:literal, $args:expr) => {{
        static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        create(TYPE.import($py, "goldcrest.results", $name)?, $args)
    }};
}

fn create<'py>(kind: &Bound<'py, PyType>, args: impl PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
    kind.call1(args)
}

/// Converts the result for a picture.
pub fn prediction<'py>(
    py: Python<'py>,
    prediction: Prediction,
    labels: &Labels,
    shown: Shown,
) -> PyResult<Bound<'py, PyAny>> {
    match prediction {
        Prediction::Classes(classes) => {
            let classes = classes.into_iter().map(|class| {
                let fields = (class.index, class.label, class.probability, class.value);
                object!(py, "Classification", fields)
            });
            Ok(PyList::new(py, classes.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }
        Prediction::Boxes(found) => {
            let found = found.into_iter().filter(|found| found.score >= shown.score);
            let found = found.map(|found| {
                let corners = found.bounds;
                let corners = (corners.left, corners.top, corners.right, corners.bottom);
                object!(py, "Detection", (found.index, found.label, found.score, corners))
            });
            Ok(PyList::new(py, found.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }
        Prediction::Pixels(segmentation) => {
            let areas = segmentation.areas(labels).into_iter().map(|area| {
                let ClassArea { index, label, pixels, share } = area;
                object!(py, "ClassArea", (index, label, pixels, share))
            });
            let areas = areas.collect::<PyResult<Vec<_>>>()?;
            let size = [segmentation.height(), segmentation.width()];
            let labels = segmentation.into_labels().into_pyarray(py).reshape(size)?;
            object!(py, "Segmentation", (labels, areas))
        }
        Prediction::Vector(vector) => Ok(embedding(py, vector, shown.normalize)?.into_any()),
    }
}

/// Converts an embedding, which cannot be scaled to unit length if it is zero.
fn embedding(py: Python<'_>, mut vector: Vec<f32>, normalize: bool) -> PyResult<Bound<'_, PyArray1<f32>>> {
    if normalize {
        let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err(Error::new_err("the embedding is zero and has no direction"));
        }
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
    Ok(vector.into_pyarray(py))
}

/// Converts an adapter.
pub fn adapter<'py>(py: Python<'py>, index: usize, info: AdapterInfo) -> PyResult<Bound<'py, PyAny>> {
    let AdapterInfo { name, backend, driver, kind, software, .. } = info;
    object!(py, "Adapter", (index, name, backend, driver, kind, software))
}

/// Converts the measurements of a network.
pub fn profile(py: Python<'_>, timing: Timing) -> PyResult<Bound<'_, PyAny>> {
    let step = |StepTime { summary, needed, ms }: StepTime| {
        let shape = <[usize; 4]>::from(summary.shape);
        let shape = (shape[0], shape[1], shape[2], shape[3]);
        let name = summary.name().to_owned();
        let ms = ms.map(|ms| ms.median);
        object!(py, "Step", (name, summary.layers, summary.kernel, shape, needed.macs, needed.bytes, ms))
    };
    let steps = timing.steps.into_iter().map(step).collect::<PyResult<Vec<_>>>()?;
    object!(py, "Profile", (timing.wall_ms.median, timing.gpu_ms.map(|ms| ms.median), steps))
}
