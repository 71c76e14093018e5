//! The pipeline from pictures to results, and the threads that decode, preprocess, run and finish them.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, Scope},
    time::Duration,
};

use web_time::Instant;

use super::{
    batches::Batches,
    clocks::Clocks,
    inputs::{Inputs, Name},
    open::{Opened, Opening, open},
    ordered::{Ordered, ordered},
    running::{Common, Runner},
    sessions::Sessions,
    y4m::Header,
};
use crate::{
    Device, Error, Options, Result, Shape, Startup,
    cpu::Cpu,
    measure::BUDGET,
    session,
    tasks::{Class, Detection, Labels, Picture, PictureLimits, Segmentation},
    tensor::Element,
    zoo::Network,
};

/// A network that runs on many pictures, and its options. The [module](super) has an example.
pub struct Pipeline<'a> {
    /// The device. A GPU runs one batch after another. On a CPU each thread runs one picture at a time, if
    /// there are enough pictures.
    pub device: Device,
    /// The network.
    pub network: &'a Network,
    /// Options of the sessions; see [`Session::for_pictures`](crate::Session::for_pictures). The batch size
    /// applies to GPUs only.
    pub options: Options,
    /// The names of the classes.
    pub labels: Labels,
    /// Classes per result.
    pub top: usize,
    /// Threads that decode, preprocess and finish pictures, but no more than [`Inputs::known`] inputs. On a
    /// CPU, the device's number of threads is used instead. An animation counts as one input: if there is no
    /// other, its frames are decoded, preprocessed and finished one after another, and on a CPU each of them
    /// runs on all threads.
    pub threads: usize,
    /// The limits of a picture's size.
    pub limits: PictureLimits,
    /// True to return each picture with its result, for drawing.
    pub pictures: bool,
    /// Background tuning of kernels for a GPU's sessions; `None` for no tuning.
    pub background_tuning: Option<TuneOptions>,
    /// Called while a session's GPU pipelines are compiled, with the number compiled so far and the total.
    pub compiling: &'a (dyn Fn(usize, usize) + Sync),
    /// The sessions of earlier runs with this device, network and labels, which this run uses and adds to;
    /// `None` to build new ones.
    pub sessions: Option<&'a Sessions>,
}

/// Options of background tuning; see [`BackgroundTuning`](crate::measure::BackgroundTuning). Kernels are tuned for
/// one input size after another, until the pictures end. If faster kernels are found, the session is replaced
/// between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TuneOptions {
    /// Compute time of a session before its tuning starts.
    pub after: Duration,
    /// Time limit of the measurements.
    pub budget: Duration,
}

impl Default for TuneOptions {
    /// Starts after two seconds and measures for eight.
    fn default() -> Self {
        Self { after: Duration::from_secs(2), budget: BUDGET }
    }
}

/// The result for a picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction {
    /// The most likely classes.
    Classes(Vec<Class>),
    /// The class of each pixel.
    Pixels(Segmentation),
    /// The detected objects with their boxes, highest score first.
    Boxes(Vec<Detection>),
    /// The picture's embedding vector.
    Vector(Vec<f32>),
}

/// The picture that a result or an error belongs to.
pub struct Subject {
    /// Its name.
    pub name: Name,
    /// Its rows and columns, if it could be decoded.
    pub size: Option<[usize; 2]>,
    /// The shape of the network's input after preprocessing.
    pub input: Option<Shape>,
    /// The picture, if [`Pipeline::pictures`] is true.
    pub picture: Option<Picture>,
    /// The header of the video stream, if the picture is a frame of one.
    pub video: Option<Arc<Header>>,
}

/// The number of processed pictures, and the time spent on them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunStats {
    /// Pictures, including those that failed.
    pub pictures: u64,
    /// Wall-clock time from the first input to the last result.
    pub wall: Duration,
    /// Reading and decoding, over all threads.
    pub decode: Duration,
    /// Scaling and normalising, over all threads.
    pub prepare: Duration,
    /// Running the network, over all threads of a CPU, or waiting for a GPU.
    pub infer: Duration,
    /// The time spent on building the first session.
    pub startup: Startup,
    /// The storage type of feature maps and weights.
    pub precision: Element,
    /// Sessions that were replaced by tuned ones.
    pub tuned: u64,
}

impl Pipeline<'_> {
    /// Runs the network on all `inputs`. `finish` converts each result or error, on any thread. `each`
    /// receives the converted values in the order of the inputs, and can end the run by returning
    /// [`ControlFlow::Break`].
    ///
    /// # Errors
    /// [`Error::Lost`] if the device was lost; as [`Cpu::new`]; the errors of `each`. All other errors are
    /// passed to `finish`.
    pub fn run<T: Send, E: From<Error>>(
        &self,
        inputs: Inputs,
        finish: impl Fn(Subject, Result<Prediction>) -> T + Sync,
        mut each: impl FnMut(T) -> Result<ControlFlow<()>, E>,
    ) -> Result<RunStats, E> {
        let start = Instant::now();
        let clocks = Clocks::default();
        let common = Common {
            pipeline: self,
            preprocessing: session::preprocessing(self.network, self.options)?,
            clocks: &clocks,
        };
        let done = |(subject, prediction): (Subject, Result<Prediction>)| match prediction {
            Err(lost @ Error::Lost(_)) => Err(lost),
            prediction => {
                clocks.pictures.fetch_add(1, Relaxed);
                Ok(finish(subject, prediction))
            }
        };
        let mut take = |results: &mut dyn Iterator<Item = Result<T>>| {
            for result in results {
                if each(result?)?.is_break() {
                    break;
                }
            }
            Ok::<_, E>(())
        };
        let pictures = inputs.known().unwrap_or(usize::MAX).max(1);
        match &self.device {
            Device::Cpu(cpu) => {
                let threads = cpu.info().threads;
                let workers = threads.min(pictures);
                // One pool per worker, so that no worker waits for another. If a later pool fails, the first
                // one is shared.
                let each = threads / workers;
                let kept = self.sessions.and_then(|sessions| sessions.cpu(each));
                let first = match kept {
                    Some(cpu) => cpu,
                    None if workers == 1 => cpu.clone(),
                    None => Cpu::new(Some(each))?,
                };
                let pool = || Device::Cpu(Cpu::new(Some(each)).unwrap_or_else(|_| first.clone()));
                thread::scope(|scope| {
                    let start = || Runner::like(&common, Some(each), 1, pool);
                    let work = |runner: &mut Runner, opened| done(runner.predict(common.prepare(opened)));
                    take(&mut self.opened(scope, workers, inputs, &clocks, start, work))
                })?;
            }
            Device::Gpu(_) => thread::scope(|scope| {
                let threads = self.threads.min(pictures);
                let work = |(): &mut (), opened| common.prepare(opened);
                let prepared = self.opened(scope, threads, inputs, &clocks, || (), work);
                let runner = Runner::new(&common, self.device.clone(), self.options.batch);
                let results = Batches::new(runner, prepared);
                let work = |(): &mut (), finished| done(finished);
                take(&mut ordered(scope, threads, threads + 2, results, || (), work))
            })?,
        }
        Ok(clocks.stats(start.elapsed()))
    }

    /// Runs the network on one picture, in this thread and on the whole device. With [`Pipeline::sessions`],
    /// later calls reuse the session.
    ///
    /// # Errors
    /// As [`Session::for_pictures`](crate::Session::for_pictures) and [`Session::run`](crate::Session::run).
    pub fn run_one(&self, picture: Picture) -> Result<Prediction> {
        let clocks = Clocks::default();
        let preprocessing = session::preprocessing(self.network, self.options)?;
        let common = Common { pipeline: self, preprocessing, clocks: &clocks };
        let name = Name { file: PathBuf::new(), frame: None, folder: None };
        let prepared = common.prepare(Opened { name, picture: Ok(picture), video: None });
        Runner::new(&common, self.device.clone(), 1).predict(prepared).1
    }

    /// Decodes the inputs and calls `work` for each picture; returns its results in order.
    fn opened<'scope, 'env, S, R: Send + 'scope>(
        &self,
        scope: &'scope Scope<'scope, 'env>,
        threads: usize,
        inputs: Inputs,
        clocks: &'scope Clocks,
        start: impl Fn() -> S + Send + Sync + Clone + 'scope,
        work: impl Fn(&mut S, Opened) -> R + Send + Sync + Clone + 'scope,
    ) -> Ordered<R> {
        let (limits, ahead, again) = (self.limits, threads + 2, work.clone());
        let first = ordered(scope, threads, ahead, inputs, start.clone(), move |own, input| {
            match clocks.decode.time(|| open(input, limits)) {
                Opening::One(opened) => Stages::Done(Some(work(own, opened))),
                Opening::Many(frames) => Stages::Opened(frames, clocks),
            }
        });
        // The frames of an animation are decoded one after another, then distributed over the threads like
        // files. Few inputs are animations, so a thread creates its state at the first frame.
        let none = || None;
        ordered(scope, threads, ahead, first.flatten(), none, move |own: &mut Option<S>, stage| match stage {
            Stage::Done(result) => result,
            Stage::Opened(opened) => again(own.get_or_insert_with(&start), opened),
        })
    }
}

/// The result of an input with one picture, or the frames of an animation.
enum Stages<'a, R> {
    Done(Option<R>),
    Opened(Box<dyn Iterator<Item = Opened> + Send>, &'a Clocks),
}

enum Stage<R> {
    Done(R),
    Opened(Opened),
}

impl<R> Iterator for Stages<'_, R> {
    type Item = Stage<R>;

    fn next(&mut self) -> Option<Stage<R>> {
        match self {
            Self::Done(result) => result.take().map(Stage::Done),
            // This decodes the frame.
            Self::Opened(frames, clocks) => clocks.decode.time(|| frames.next()).map(Stage::Opened),
        }
    }
}
