//! Runs networks on normalised tensors.

use std::{iter, sync::PoisonError};

use goldcrest::{
    Options, Result as Outcome, Session, Shape, Tensor,
    tasks::{self, Candidate},
    zoo::{Detector, Outputs, Task},
};
use numpy::{
    IntoPyArray, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods,
    dtype,
    ndarray::{Axis, Slice},
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyDict,
};

use crate::{
    errors::raised,
    images,
    loaded::{Built, Loaded},
};

/// Pictures per run. Signals are looked for between runs.
const MOST: usize = 64;

/// The maximum number of sessions that are kept, for inputs of different shapes.
const SESSIONS: usize = 4;

/// Runs the network: its output, or for a detector its boxes.
pub fn run<'py>(loaded: &Loaded, tensor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let Task::Detect(detector) = loaded.network.task else {
        let mut outputs = outputs(loaded, tensor, Outputs::Scores)?;
        let (_, output) = outputs.remove(0);
        return Ok(array(tensor.py(), output)?.into_any());
    };
    let outputs = outputs(loaded, tensor, Outputs::Boxes)?;
    let [(_, candidates), (_, boxes)] = &outputs[..] else {
        return Err(PyValueError::new_err("the detector has no boxes"));
    };
    Ok(detections(tensor.py(), candidates, boxes, &detector)?.into_any())
}

/// The last feature map of every stride, by the name of its module.
pub fn features<'py>(loaded: &Loaded, tensor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let maps = PyDict::new(tensor.py());
    for (name, map) in outputs(loaded, tensor, Outputs::Features)? {
        maps.set_item(name, array(tensor.py(), map)?)?;
    }
    Ok(maps)
}

/// The number of values of an embedding.
pub fn embedding_size(loaded: &Loaded) -> Outcome<usize> {
    let graph = loaded.network.graph_for(Outputs::Embedding)?;
    let shapes = graph.shapes(loaded.network.input_shape(1))?;
    Ok(graph.outputs().iter().map(|(_, id)| shapes[id.index()].len()).sum())
}

/// Runs the network on `[pictures, channels, rows, columns]` and returns its outputs.
fn outputs(loaded: &Loaded, tensor: &Bound<'_, PyAny>, outputs: Outputs) -> PyResult<Vec<(String, Tensor)>> {
    let py = tensor.py();
    let (shape, array) = input(loaded, tensor)?;
    let _turn = loaded.turn.take(py)?;
    let mut joined: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for start in (0..shape.n).step_by(MOST) {
        let part = Shape { n: MOST.min(shape.n - start), ..shape };
        // A copy, since other threads may change the array during the run.
        let pictures = Slice::from(start..start + part.n);
        let values = images::contiguous(array.readonly().as_array().slice_axis(Axis(0), pictures));
        let tensors =
            py.detach(|| run_part(loaded, part, values, outputs)).map_err(|error| raised(error, None))?;
        if joined.is_empty() {
            let whole = |(name, tensor): (String, Tensor)| (name, tensor.dims().to_vec(), tensor.into_data());
            joined = tensors.into_iter().map(whole).collect();
        } else {
            for ((_, dims, data), (_, tensor)) in iter::zip(&mut joined, tensors) {
                dims[0] += tensor.dims()[0];
                data.extend(tensor.into_data());
            }
        }
        py.check_signals()?;
    }
    let tensor = |(name, dims, data): (String, Vec<usize>, Vec<f32>)| Ok((name, Tensor::new(dims, data)?));
    let joined = joined.into_iter().map(tensor).collect::<Outcome<Vec<_>>>();
    let joined = joined.map_err(|error| raised(error, None))?;
    let mut values = joined.iter().flat_map(|(_, tensor)| tensor.data());
    if let Some(value) = values.find(|value| !value.is_finite()) {
        log::warn!("the output is not finite: it contains {value}");
    }
    Ok(joined)
}

/// Checks a tensor. Arrays of other programs are not copied.
fn input<'py>(loaded: &Loaded, tensor: &Bound<'py, PyAny>) -> PyResult<(Shape, Bound<'py, PyArrayDyn<f32>>)> {
    let py = tensor.py();
    let array = match tensor.cast::<PyUntypedArray>() {
        Ok(array) => array.clone(),
        Err(_) => images::array_of(tensor)?.ok_or_else(|| {
            let found = tensor.get_type().name().map_or_else(|_| "it".into(), |name| name.to_string());
            PyTypeError::new_err(format!("expected an array of float32, found {found}"))
        })?,
    };
    let found = array.dtype();
    if !found.is_equiv_to(&dtype::<f32>(py)) {
        return Err(PyTypeError::new_err(format!("expected an array of float32, found {found}")));
    }
    let array = array.cast_into::<PyArrayDyn<f32>>()?;
    let channels = loaded.network.channels;
    let &[n, c, h, w] = array.shape() else {
        return Err(PyValueError::new_err(format!(
            "expected the shape [pictures, {channels}, rows, columns], found {:?}",
            array.shape()
        )));
    };
    if c != channels {
        return Err(PyValueError::new_err(format!(
            "the network takes {channels} channels, the tensor has {c} in its second dimension"
        )));
    }
    let shape = Shape::new(n, c, h, w);
    if shape.is_empty() {
        return Err(PyValueError::new_err(format!("the shape {shape} is empty")));
    }
    Ok((shape, array))
}

/// Runs on pictures that fit into one session.
fn run_part(
    loaded: &Loaded,
    shape: Shape,
    values: Vec<f32>,
    outputs: Outputs,
) -> Outcome<Vec<(String, Tensor)>> {
    let options = Options { batch: shape.n, size: Some([shape.h, shape.w]), outputs, ..loaded.options };
    let mut kept = loaded.built.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.iter().position(|built| built.options == options) {
        Some(at) => kept[..=at].rotate_right(1),
        None => {
            kept.truncate(SESSIONS - 1);
            let session = Session::new(&loaded.device, &loaded.network, options)?;
            kept.insert(0, Built { options, session });
        }
    }
    let session = &mut kept[0].session;
    let input = Tensor::new(<[usize; 4]>::from(shape), values)?;
    let tensors = session.run_all(&input)?;
    Ok(iter::zip(session.outputs(), tensors).map(|((name, _), tensor)| (name.clone(), tensor)).collect())
}

/// The boxes of a detector, in pixels of the input, picture by picture.
fn detections<'py>(
    py: Python<'py>,
    candidates: &Tensor,
    boxes: &Tensor,
    detector: &Detector,
) -> PyResult<Bound<'py, PyDict>> {
    let pictures = tasks::decode_boxes(candidates, boxes, detector).map_err(|error| raised(error, None))?;
    let all: Vec<&Candidate> = pictures.iter().flatten().collect();
    let corners = all.iter().flat_map(|c| [c.bounds.left, c.bounds.top, c.bounds.right, c.bounds.bottom]);
    let corners: Vec<f32> = corners.collect();
    let of = pictures.iter().enumerate();
    let of = of.flat_map(|(at, found)| iter::repeat_n(at as i64, found.len()));
    let found = PyDict::new(py);
    found.set_item("boxes", corners.into_pyarray(py).reshape([all.len(), 4])?)?;
    found.set_item("scores", all.iter().map(|c| c.score).collect::<Vec<f32>>().into_pyarray(py))?;
    found.set_item("labels", all.iter().map(|c| c.class as i64).collect::<Vec<i64>>().into_pyarray(py))?;
    found.set_item("pictures", of.collect::<Vec<i64>>().into_pyarray(py))?;
    Ok(found)
}

/// An array with the values of a tensor, without a copy.
fn array(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyArrayDyn<f32>>> {
    let dims = tensor.dims().to_vec();
    tensor.into_data().into_pyarray(py).reshape(dims)
}
