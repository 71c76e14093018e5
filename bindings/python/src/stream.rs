//! Many pictures: decoded, preprocessed and run on the library's threads, while Python provides the next.

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use goldcrest::{
    Error as Cause, Result as Outcome,
    feed::{Input, Inputs, Prediction},
};
use pyo3::{
    exceptions::{PyException, PyTypeError, PyValueError},
    prelude::*,
    types::PyIterator,
};

use crate::{
    errors::{Error, raised},
    images::Source,
    loaded::{Call, Loaded},
    results,
    turn::PATIENCE,
};

/// An iterator over results, in the order of the pictures. One thread at a time may use it.
#[pyclass(module = "goldcrest")]
pub struct Results {
    loaded: Arc<Loaded>,
    call: Call,
    /// Returns exceptions of pictures instead of raising them.
    returns_errors: bool,
    iterator: Py<PyIterator>,
    /// To the thread that runs the pipeline; none once the iterable has ended.
    inputs: Option<Sender<Input>>,
    /// Only this object's methods use it, one at a time.
    results: Mutex<Receiver<Outcome<Prediction>>>,
    thread: Option<JoinHandle<()>>,
    /// The pictures whose results were not returned yet.
    in_flight: VecDeque<Flying>,
    /// The maximum number of pictures in flight.
    ahead: usize,
    /// The number of pictures taken from the iterable.
    taken: usize,
}

/// A picture that was taken from the iterable.
enum Flying {
    /// It is with the threads. The name is for error messages.
    Picture(Option<String>),
    /// It is not a picture.
    Refused(PyErr),
}

/// The pictures that Python provides.
struct Provided {
    inputs: Receiver<Input>,
    /// The number of pictures left, if it is known.
    left: Option<usize>,
}

impl Iterator for Provided {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        let input = self.inputs.recv().ok()?;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Some(input)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.unwrap_or(0), self.left)
    }
}

impl Results {
    /// Starts the pipeline for the pictures of an iterable.
    pub fn start(
        loaded: &Arc<Loaded>,
        call: Call,
        images: &Bound<'_, PyAny>,
        returns_errors: bool,
    ) -> PyResult<Self> {
        loaded.turn.check_process()?;
        let iterator = images.try_iter()?;
        let (inputs, provided) = channel();
        let (sender, results) = channel();
        let provided = Provided { inputs: provided, left: images.len().ok() };
        let owned = loaded.clone();
        let run = move || {
            let pipeline = owned.pipeline(call);
            let each = |result| match sender.send(result) {
                Ok(()) => Ok::<_, Cause>(ControlFlow::Continue(())),
                // Nobody waits for more results.
                Err(_) => Ok(ControlFlow::Break(())),
            };
            if let Err(error) = pipeline.run(Inputs::of(provided), |_, result| result, each) {
                let _ = sender.send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("goldcrest".into()).spawn(run)?;
        // Enough for two batches on the device, one that is gathered, and a picture on each thread.
        let ahead = 3 * loaded.options.batch + 2 * loaded.threads + 2;
        Ok(Self {
            loaded: loaded.clone(),
            call,
            returns_errors,
            iterator: iterator.unbind(),
            inputs: Some(inputs),
            results: Mutex::new(results),
            thread: Some(thread),
            in_flight: VecDeque::new(),
            ahead,
            taken: 0,
        })
    }

    /// The next result, or the exception of a picture. The outer exception ends the run.
    pub fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<PyResult<Bound<'py, PyAny>>>> {
        loop {
            py.check_signals()?;
            let provided = self.provide(py)?;
            match self.in_flight.front() {
                None => return self.finish(py).map(|()| None),
                Some(Flying::Picture(_)) => {}
                Some(Flying::Refused(_)) => {
                    let Some(Flying::Refused(error)) = self.in_flight.pop_front() else { continue };
                    return Ok(Some(Err(error)));
                }
            }
            let results = self.results.get_mut().unwrap_or_else(PoisonError::into_inner);
            // A result that is ready comes before more pictures.
            let received = match provided {
                true => results.try_recv().map_err(|_| RecvTimeoutError::Timeout),
                false => py.detach(move || results.recv_timeout(PATIENCE)),
            };
            match received {
                Ok(result) => return Ok(Some(self.shown(py, result))),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new_err("the threads that run pictures have ended early"));
                }
            }
        }
    }

    /// Takes a picture from the iterable if there is room. Returns false if not.
    fn provide(&mut self, py: Python<'_>) -> PyResult<bool> {
        let Some(inputs) = self.inputs.as_ref().filter(|_| self.in_flight.len() < self.ahead) else {
            return Ok(false);
        };
        let Some(item) = self.iterator.bind(py).clone().next() else {
            self.inputs = None;
            return Ok(false);
        };
        match Source::of(&item?).map_err(|error| placed(py, error, self.taken)) {
            Ok(source) => {
                let name = source.name(Some(self.taken));
                self.in_flight.push_back(Flying::Picture(name.clone()));
                // If the threads have ended, their last result says why.
                let _ = inputs.send(source.input(self.loaded.limits, name));
            }
            Err(error) => self.in_flight.push_back(Flying::Refused(error)),
        }
        self.taken += 1;
        Ok(true)
    }

    /// Converts the next picture's result.
    fn shown<'py>(&mut self, py: Python<'py>, result: Outcome<Prediction>) -> PyResult<Bound<'py, PyAny>> {
        let name = match self.in_flight.pop_front() {
            Some(Flying::Picture(name)) => name,
            _ => None,
        };
        let prediction = result.map_err(|error| raised(error, name.as_deref()))?;
        results::prediction(py, prediction, &self.loaded.labels, self.call.shown)
    }

    /// Waits until the threads have put their sessions back, for the next call.
    fn finish(&mut self, py: Python<'_>) -> PyResult<()> {
        self.inputs = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        py.detach(|| thread.join()).map_err(|_| Error::new_err("a thread that runs pictures has failed"))
    }
}

#[pymethods]
impl Results {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.next(py)? {
            Some(Err(error)) if self.returns_errors && error.is_instance_of::<PyException>(py) => {
                Ok(Some(error.into_value(py).into_bound(py).into_any()))
            }
            next => next.transpose(),
        }
    }
}

impl Drop for Results {
    /// Ends the threads after their current pictures.
    fn drop(&mut self) {
        self.inputs = None;
        self.results = Mutex::new(channel().1);
        // Without an interpreter, the program ends and the threads with it.
        let _ = Python::try_attach(|py| self.finish(py));
    }
}

/// Adds a picture's place to the message of an error about it.
fn placed(py: Python<'_>, error: PyErr, at: usize) -> PyErr {
    let words = format!("picture {at}: {}", error.value(py));
    match error {
        error if error.is_instance_of::<PyTypeError>(py) => PyTypeError::new_err(words),
        error if error.is_instance_of::<PyValueError>(py) => PyValueError::new_err(words),
        other => other,
    }
}
