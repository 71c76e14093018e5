//! Sessions: a network that is ready to run on a device.

use std::sync::Arc;

use goldcrest::zoo::{Network, Task};
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyDict, PyList},
};

use crate::{
    errors::raised,
    images::Images,
    loaded::{Call, Loaded},
    profile,
    results::{self, Shown},
    stream::Results,
    tensors,
};

/// A network, ready to run on a device. `load` creates it.
///
/// Threads may share a session: calls run one after another, without the interpreter's lock. The
/// iterators of the methods `..._all` run concurrently.
#[pyclass(module = "goldcrest", frozen)]
pub struct Session(Arc<Loaded>);

impl Session {
    pub fn new(loaded: Arc<Loaded>) -> Self {
        Self(loaded)
    }

    /// Runs on one picture or several.
    fn run_images<'py>(&self, images: &Bound<'py, PyAny>, call: Call) -> PyResult<Bound<'py, PyAny>> {
        let py = images.py();
        let loaded = &self.0;
        match Images::of(images)? {
            Images::One(source) => {
                let _turn = loaded.turn.take(py)?;
                let name = source.name(None);
                let pipeline = || loaded.pipeline(call).run_one(source.decode(loaded.limits, None)?);
                let prediction = py.detach(pipeline).map_err(|error| raised(error, name.as_deref()))?;
                results::prediction(py, prediction, &loaded.labels, call.shown)
            }
            Images::Many(images) => {
                let _turn = loaded.turn.take(py)?;
                let results = PyList::empty(py);
                let mut stream = Results::start(loaded, call, &images, false)?;
                while let Some(result) = stream.next(py)? {
                    results.append(result?)?;
                }
                Ok(results.into_any())
            }
        }
    }

    /// Returns an iterator over the results for the pictures of an iterable.
    fn stream(&self, images: &Bound<'_, PyAny>, call: Call, on_error: &str) -> PyResult<Results> {
        let returns_errors = match on_error {
            "raise" => false,
            "return" => true,
            _ => {
                let reason = format!("on_error: expected raise or return, found {on_error}");
                return Err(PyValueError::new_err(reason));
            }
        };
        Results::start(&self.0, call, images, returns_errors)
    }

    /// The call of a method that needs one of the tasks.
    fn call(&self, method: &str, needs: &str, fits: bool) -> PyResult<Call> {
        if fits {
            return Ok(Call { embeds: false, top: 1, shown: Shown::default() });
        }
        let Network { arch, task, .. } = &self.0.network;
        Err(PyValueError::new_err(format!("{arch} {task}: {method} needs a network that {needs}")))
    }

    fn classifying(&self, top: usize) -> PyResult<Call> {
        let fits = matches!(self.0.network.task, Task::Classify);
        let call = self.call("classify", "classifies pictures", fits)?;
        if top == 0 {
            return Err(PyValueError::new_err("top: expected at least 1, found 0"));
        }
        Ok(Call { top, ..call })
    }

    fn segmenting(&self) -> PyResult<Call> {
        self.call("segment", "labels pixels", matches!(self.0.network.task, Task::Segment { .. }))
    }

    fn detecting(&self, score: f32) -> PyResult<Call> {
        let call = self.call("detect", "finds boxes", matches!(self.0.network.task, Task::Detect(_)))?;
        if !(0.0..=1.0).contains(&score) {
            return Err(PyValueError::new_err(format!("min_score: expected 0 to 1, found {score}")));
        }
        Ok(Call { shown: Shown { score, ..call.shown }, ..call })
    }

    fn embedding(&self, normalize: bool) -> PyResult<Call> {
        let call = self.call(
            "embed",
            "classifies pictures or ends in an embedding",
            self.0.network.embedding.is_some(),
        )?;
        Ok(Call { embeds: true, shown: Shown { normalize, ..call.shown }, ..call })
    }
}

#[pymethods]
impl Session {
    /// The `top` most likely classes of a picture, the most likely first; a list of such lists for several
    /// pictures.
    ///
    /// A picture is an array of uint8, rows x columns, or with 1, 3 (RGB) or 4 channels last, a Pillow
    /// image, a path, the bytes of a picture's file, or an object with `__dlpack__` or `__array__`. Alpha
    /// is ignored. Several pictures are a list or another iterable, or an array with a batch dimension
    /// first; they are decoded and preprocessed on all cores during inference.
    #[pyo3(signature = (images, top = 5))]
    fn classify<'py>(&self, images: &Bound<'py, PyAny>, top: usize) -> PyResult<Bound<'py, PyAny>> {
        self.run_images(images, self.classifying(top)?)
    }

    /// An iterator over the results of `classify` for the pictures of an iterable.
    ///
    /// It reads a few pictures ahead, in the thread that calls it. With `on_error="return"`, the exception
    /// of a picture that cannot be read takes the place of its result; by default it is raised, and the
    /// iterator can go on.
    #[pyo3(signature = (images, top = 5, *, on_error = "raise"))]
    fn classify_all(&self, images: &Bound<'_, PyAny>, top: usize, on_error: &str) -> PyResult<Results> {
        self.stream(images, self.classifying(top)?, on_error)
    }

    /// The class of each pixel of a picture, or of each of several; see `classify`.
    fn segment<'py>(&self, images: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.run_images(images, self.segmenting()?)
    }

    /// An iterator over the results of `segment`; see `classify_all`.
    #[pyo3(signature = (images, *, on_error = "raise"))]
    fn segment_all(&self, images: &Bound<'_, PyAny>, on_error: &str) -> PyResult<Results> {
        self.stream(images, self.segmenting()?, on_error)
    }

    /// The objects in a picture with a score of at least `min_score`, the highest first, or in each of
    /// several; see `classify`.
    #[pyo3(signature = (images, min_score = 0.5))]
    fn detect<'py>(&self, images: &Bound<'py, PyAny>, min_score: f32) -> PyResult<Bound<'py, PyAny>> {
        self.run_images(images, self.detecting(min_score)?)
    }

    /// An iterator over the results of `detect`; see `classify_all`.
    #[pyo3(signature = (images, min_score = 0.5, *, on_error = "raise"))]
    fn detect_all(&self, images: &Bound<'_, PyAny>, min_score: f32, on_error: &str) -> PyResult<Results> {
        self.stream(images, self.detecting(min_score)?, on_error)
    }

    /// The embedding of a picture: the vector that enters the classifier. For several pictures, an array with
    /// one row for each; see `classify`.
    ///
    /// `normalize` scales vectors to unit length.
    #[pyo3(signature = (images, normalize = false))]
    fn embed<'py>(&self, images: &Bound<'py, PyAny>, normalize: bool) -> PyResult<Bound<'py, PyAny>> {
        let py = images.py();
        let vectors = self.run_images(images, self.embedding(normalize)?)?;
        let Ok(rows) = vectors.cast::<PyList>() else { return Ok(vectors) };
        if rows.is_empty() {
            let columns = tensors::embedding_size(&self.0).map_err(|error| raised(error, None))?;
            return Ok(PyArray2::<f32>::zeros(py, [0, columns], false).into_any());
        }
        let rows: Vec<Bound<'_, PyArray1<f32>>> = rows.extract()?;
        let rows: Vec<Vec<f32>> = rows.iter().map(|row| row.to_vec()).collect::<Result<_, _>>()?;
        Ok(PyArray2::from_vec2(py, &rows)?.into_any())
    }

    /// An iterator over the results of `embed`; see `classify_all`.
    #[pyo3(signature = (images, normalize = false, *, on_error = "raise"))]
    fn embed_all(&self, images: &Bound<'_, PyAny>, normalize: bool, on_error: &str) -> PyResult<Results> {
        self.stream(images, self.embedding(normalize)?, on_error)
    }

    /// The network's output for a normalised tensor of float32, `[pictures, channels, rows, columns]`.
    ///
    /// It is `[pictures, classes]` for a classifier and `[pictures, classes, rows, columns]` for a
    /// segmenter. A detector gives a dict of `boxes`, `scores`, `labels` and `pictures`, in pixels of the
    /// input. Objects with `__dlpack__` in the CPU's memory, such as PyTorch's tensors, are copied once, into
    /// the library's input; no NumPy array is made first.
    fn run<'py>(&self, tensor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        tensors::run(&self.0, tensor)
    }

    /// The last feature map of each stride for a normalised tensor, by the name of its module; see `run`.
    fn features<'py>(&self, tensor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        tensors::features(&self.0, tensor)
    }

    /// Measures the network and each of its steps, each for at least `seconds`.
    #[pyo3(signature = (batch = None, seconds = 1.0))]
    fn profile<'py>(
        &self,
        py: Python<'py>,
        batch: Option<usize>,
        seconds: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        profile::profile(py, &self.0, batch, seconds)
    }

    /// The network's name in its library, such as `torchvision/mobilenet_v2`.
    #[getter]
    fn network(&self) -> &str {
        &self.0.network.arch
    }

    /// The network's task: `classify`, `segment`, `detect` or `embed`.
    #[getter]
    fn task(&self) -> &'static str {
        self.0.network.task.method()
    }

    /// A description of the device.
    #[getter]
    fn device(&self) -> String {
        self.0.device.to_string()
    }

    /// The kind of the device: `gpu` or `cpu`.
    #[getter]
    fn backend(&self) -> &'static str {
        self.0.device.backend()
    }

    /// The number of threads that decode, preprocess and, on the CPU, run pictures.
    #[getter]
    fn threads(&self) -> usize {
        self.0.threads
    }

    /// The names of the classes, by index; None for those without a name.
    #[getter]
    fn classes(&self) -> Vec<Option<&str>> {
        let Loaded { network, labels, .. } = &*self.0;
        (0..network.label_count()).map(|class| labels.get(class)).collect()
    }

    /// Rows and columns of the network's input.
    #[getter]
    fn input_size(&self) -> (usize, usize) {
        let [rows, columns] = self.0.options.size.unwrap_or(self.0.network.input);
        (rows, columns)
    }

    /// What was assumed about the checkpoint, or ignored in it.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.0.network.notes.clone()
    }

    /// Doubtful assumptions about the checkpoint.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.0.network.warnings.clone()
    }

    fn __repr__(&self) -> String {
        format!("<goldcrest.Session: {} on {}>", self.0.network.arch, self.0.device)
    }
}
