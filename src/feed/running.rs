//! Runs one picture: prepares its input, chooses a session, and converts the outputs to a result.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    clocks::Clocks,
    open::Opened,
    pipeline::{Pipeline, Prediction, Subject},
    sessions::{Worker, threads},
};
use crate::{
    Device, Error, Options, Result, Session, Startup, Tensor,
    measure::TuningThread,
    session::Precision,
    tasks::{self, Labels, Picture},
    zoo::{Network, Preprocessing, Task},
};

/// The maximum number of sessions that a thread keeps, for pictures of different sizes.
const SESSIONS: usize = 4;

/// Data shared by all threads.
pub struct Common<'a> {
    pub pipeline: &'a Pipeline<'a>,
    pub preprocessing: Preprocessing,
    pub clocks: &'a Clocks,
}

/// A preprocessed picture, or the error.
pub type Prepared = (Subject, Result<Ready>);

/// An input that is ready to run.
pub struct Ready {
    /// The key of the session that runs it: rows and columns of the input or, for segmentation, of the
    /// picture.
    pub key: [usize; 2],
    /// The picture's rows and columns.
    pub size: [usize; 2],
    pub input: Tensor,
}

impl Common<'_> {
    pub fn prepare(&self, opened: Opened) -> Prepared {
        let Opened { name, picture, video } = opened;
        let mut subject = Subject { name, size: None, input: None, picture: None, video };
        let ready = picture.and_then(|picture| {
            subject.size = Some([picture.height(), picture.width()]);
            let ready = self.clocks.prepare.time(|| self.ready(&picture))?;
            subject.input = Some(ready.input.shape()?);
            subject.picture = self.pipeline.pictures.then_some(picture);
            Ok(ready)
        });
        (subject, ready)
    }

    fn ready(&self, picture: &Picture) -> Result<Ready> {
        let size = [picture.height(), picture.width()];
        let labels = matches!(self.pipeline.network.task, Task::Segment { .. });
        if labels {
            // Bytes per pixel: RGB, its label as computed (f32), and its label as kept (u8).
            let admitted = self.pipeline.limits.admits(size[1] as u64, size[0] as u64, 3 + 4 + 1);
            admitted.map_err(Error::Input)?;
        }
        let input = tasks::preprocess(picture, &self.preprocessing)?;
        let shape = input.shape()?;
        Ok(Ready { key: if labels { size } else { [shape.h, shape.w] }, size, input })
    }
}

/// A thread's sessions.
pub struct Runner<'a> {
    pub common: &'a Common<'a>,
    worker: Worker,
    pub batch: usize,
    /// Background tuning, with the key of the session to replace.
    tuning: Option<(Key, TuningThread)>,
}

/// What a session is for: the rows and columns of [`Ready::key`], and its options.
type Key = ([usize; 2], Options);

/// One of a thread's sessions.
pub struct CachedSession {
    key: Key,
    session: Session,
    /// Time spent running the session or waiting for it.
    took: Duration,
    /// True if background tuning was started for it.
    tuning_started: bool,
}

impl<'a> Runner<'a> {
    pub fn new(common: &'a Common<'a>, device: Device, batch: usize) -> Self {
        let threads = threads(&device);
        Self::like(common, threads, batch, || device)
    }

    /// Creates a runner with the sessions of an earlier run on this number of threads. If there are none,
    /// `device` opens its device.
    pub fn like(
        common: &'a Common<'a>,
        threads: Option<usize>,
        batch: usize,
        device: impl FnOnce() -> Device,
    ) -> Self {
        let kept = common.pipeline.sessions.and_then(|sessions| sessions.take(threads));
        let worker = kept.unwrap_or_else(|| Worker::new(device()));
        Self { common, worker, batch, tuning: None }
    }

    /// Calls `work` with the session for an input like `ready`; also returns the session.
    pub fn infer<T>(
        &mut self,
        ready: &Ready,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<(&Session, T)> {
        self.replace();
        self.make_first(ready)?;
        let cached = &mut self.worker.sessions[0];
        let (done, took) = self.common.clocks.infer.timed(|| work(&mut cached.session));
        cached.took += took;
        self.tune_first(ready.size);
        Ok((&self.worker.sessions[0].session, done?))
    }

    /// Moves the session for an input like `ready` to the front, and builds it if there is none.
    fn make_first(&mut self, ready: &Ready) -> Result<()> {
        let key @ (_, options) = (ready.key, self.options());
        let Worker { device, sessions } = &mut self.worker;
        if let Some(at) = sessions.iter().position(|cached| cached.key == key) {
            sessions[..=at].rotate_right(1);
            // A session of an earlier run took no time in this one.
            self.common.clocks.started(Startup::default(), sessions[0].session.element());
            return Ok(());
        }
        let Pipeline { network, labels, compiling, .. } = self.common.pipeline;
        // Drop old sessions first: the new one may need their memory.
        sessions.truncate(SESSIONS - 1);
        let session = build(device, network, ready.size, options, labels.clone(), compiling)?;
        self.common.clocks.started(session.startup(), session.element());
        let cached = CachedSession { key, session, took: Duration::ZERO, tuning_started: false };
        sessions.insert(0, cached);
        Ok(())
    }

    fn options(&self) -> Options {
        Options { batch: self.batch, ..self.common.pipeline.options }
    }

    /// Returns true if background tuning has ended, so that a session can be replaced once it is idle.
    pub fn tuning_is_over(&self) -> bool {
        self.tuning.as_ref().is_some_and(|(_, thread)| thread.is_over())
    }

    /// Replaces the session for which faster kernels were found, unless it has work in flight.
    fn replace(&mut self) {
        let Some((key, thread)) = self.tuning.take_if(|(_, thread)| thread.is_over()) else { return };
        match self.worker.sessions.iter_mut().find(|cached| cached.key == key) {
            Some(cached) if !cached.session.is_idle() => self.tuning = Some((key, thread)),
            Some(cached) => {
                if let Some(tuned) = thread.tuned() {
                    cached.session = tuned;
                    self.common.clocks.tuned.fetch_add(1, Relaxed);
                }
            }
            // The session was dropped to make room; if rebuilt, it uses the stored tuning results.
            None => {}
        }
    }

    /// Starts background tuning for the first session, which takes pictures of `[rows, columns]`, if due.
    fn tune_first(&mut self, size: [usize; 2]) {
        let Pipeline { network, labels, background_tuning, .. } = self.common.pipeline;
        // Tuning covers f32 only, and the new session must not switch to f16: results must not change.
        let options = Options { precision: Precision::F32, ..self.options() };
        let (Some(tune_options), Device::Gpu(gpu), Some(cached)) =
            (background_tuning, &self.worker.device, self.worker.sessions.first_mut())
        else {
            return;
        };
        let is_due = cached.took >= tune_options.after && !cached.tuning_started && self.tuning.is_none();
        if !is_due || !options.takes_tuned() {
            return;
        }
        cached.tuning_started = true;
        // The clone shares the weights.
        let (network, labels) = (Arc::new(Network::clone(network)), labels.clone());
        let (device, shared) = (self.worker.device.clone(), network.clone());
        let build = move || build(&device, &shared, size, options, labels, |_, _| {});
        let thread = TuningThread::start(gpu, network, &cached.session, tune_options.budget, build);
        self.tuning = thread.map(|thread| (cached.key, thread));
    }

    /// Runs one picture.
    pub fn predict(&mut self, (subject, ready): Prepared) -> (Subject, Result<Prediction>) {
        (subject, ready.and_then(|ready| self.run(&ready)))
    }

    /// Runs one input alone in a batch.
    pub fn run(&mut self, ready: &Ready) -> Result<Prediction> {
        let (top, batch) = (self.common.pipeline.top, self.batch);
        let (_, prediction) = self.infer(ready, |session| {
            let outputs = session.run_all(&*together(&[&ready.input], batch)?)?;
            prediction(session, &of_picture(&outputs, 0, batch)?, ready.size, top)
        })?;
        Ok(prediction)
    }
}

impl Drop for Runner<'_> {
    /// Keeps the sessions for later runs.
    fn drop(&mut self) {
        let Some(kept) = self.common.pipeline.sessions.filter(|_| !std::thread::panicking()) else { return };
        // Tuning ends with its run, and a later run may start it again.
        if let Some((key, _)) = self.tuning.take() {
            let unfinished = self.worker.sessions.iter_mut().filter(|cached| cached.key == key);
            unfinished.for_each(|cached| cached.tuning_started = false);
        }
        // A run that ended early may have left work in flight.
        self.worker.sessions.retain(|cached| cached.session.is_idle());
        let device = self.worker.device.clone();
        kept.put(std::mem::replace(&mut self.worker, Worker::new(device)));
    }
}

/// Builds a session for pictures of `[rows, columns]`, with `labels` as the names of the classes.
fn build(
    device: &Device,
    network: &Network,
    size: [usize; 2],
    options: Options,
    labels: Labels,
    compiling: impl FnMut(usize, usize),
) -> Result<Session> {
    let mut session =
        pollster::block_on(Session::for_pictures_async(device, network, size, options, compiling))?;
    session.set_labels(labels)?;
    Ok(session)
}

/// Joins inputs of one shape to a batch of `n`, padded with zeros.
pub fn together<'a>(inputs: &[&'a Tensor], n: usize) -> Result<Cow<'a, Tensor>> {
    if let ([input], 1) = (inputs, n) {
        return Ok(Cow::Borrowed(input));
    }
    let shape = inputs[0].shape()?;
    let mut values = Vec::with_capacity(n * shape.len());
    inputs.iter().for_each(|input| values.extend_from_slice(input.data()));
    values.resize(n * shape.len(), 0.0);
    Ok(Cow::Owned(Tensor::new([n, shape.c, shape.h, shape.w], values)?))
}

/// Returns the outputs of one picture in a batch.
pub fn of_picture(outputs: &[Tensor], at: usize, batch: usize) -> Result<Cow<'_, [Tensor]>> {
    if batch == 1 {
        return Ok(outputs.into());
    }
    let part = |tensor: &Tensor| {
        let length = tensor.data().len() / batch;
        let mut dims = tensor.dims().to_vec();
        dims[0] /= batch;
        Tensor::new(dims, tensor.data()[at * length..(at + 1) * length].to_vec())
    };
    outputs.iter().map(part).collect::<Result<Vec<_>>>().map(Cow::Owned)
}

/// Converts the outputs for one picture of `[rows, columns]` to a result.
pub fn prediction(session: &Session, outputs: &[Tensor], size: [usize; 2], top: usize) -> Result<Prediction> {
    Ok(match session.task()? {
        Task::Classify => Prediction::Classes(session.classes_of(outputs, top)?),
        Task::Segment { .. } => Prediction::Pixels(session.segmentation_of(outputs, size)?),
        Task::Detect(_) => Prediction::Boxes(session.detections_of(outputs, size)?),
        Task::Embed => Prediction::Vector(session.embedding_of(outputs)?),
    })
}
