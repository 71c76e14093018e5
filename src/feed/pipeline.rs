//! Pictures to answers: which threads decode, prepare, run and finish them.

use std::{
    ops::ControlFlow,
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

/// A network that answers pictures, and what is wanted of each.
pub struct Pipeline<'a> {
    /// A GPU runs one batch after another. The CPU's threads each run a picture of their own, as long as there are
    /// as many.
    pub device: Device,
    /// What answers.
    pub network: &'a Network,
    /// As for [`Session::for_pictures`](crate::Session::for_pictures). The batch is a GPU's.
    pub options: Options,
    /// The names of the classes.
    pub labels: Labels,
    /// Classes of an answer.
    pub top: usize,
    /// Threads that decode, prepare and finish pictures; the CPU's own where that computes.
    pub threads: usize,
    /// The largest picture.
    pub limits: PictureLimits,
    /// Whether answers come with their pictures, to be drawn on.
    pub pictures: bool,
    /// Whether a GPU's sessions get quicker while they run.
    pub improve: Option<Improve>,
    /// Hears how many of a session's pipelines are compiled, and of how many.
    pub compiling: &'a (dyn Fn(usize, usize) + Sync),
}

/// When better kernels are looked for beside the pictures: as by [`Improving`](crate::measure::Improving), once for each
/// size of input, one after another, and no longer than there are pictures. A session for which they are found is
/// replaced between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Improve {
    /// How long a session has computed before it is worth it.
    pub after: Duration,
    /// How long is measured.
    pub budget: Duration,
}

impl Default for Improve {
    /// After two seconds, for eight.
    fn default() -> Self {
        Self { after: Duration::from_secs(2), budget: BUDGET }
    }
}

/// A network's answer to a picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The likeliest classes.
    Classes(Vec<Class>),
    /// The class of each pixel.
    Pixels(Segmentation),
    /// What is where, the surest first.
    Boxes(Vec<Detection>),
    /// The picture's vector.
    Vector(Vec<f32>),
}

/// A picture that was answered, or was not.
pub struct Subject {
    /// What it is called.
    pub name: Name,
    /// Its rows and columns, if it could be read.
    pub size: Option<[usize; 2]>,
    /// The shape of the network's input that it became.
    pub input: Option<Shape>,
    /// The picture, if [`Pipeline::pictures`] wants it.
    pub picture: Option<Picture>,
    /// The video stream that it is a frame of.
    pub video: Option<Arc<Header>>,
}

/// What answering took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Pictures, those among them that could not be answered.
    pub pictures: u64,
    /// From the first input to the last answer.
    pub wall: Duration,
    /// Reading and decoding, over all threads.
    pub decode: Duration,
    /// Scaling and normalising, over all threads.
    pub prepare: Duration,
    /// Running the network: over all threads of the CPU, or as a GPU was waited for.
    pub infer: Duration,
    /// What the first session took to build.
    pub startup: Startup,
    /// What maps and weights were stored as.
    pub precision: Element,
    /// Sessions that were replaced by quicker ones.
    pub improved: u64,
}

impl Pipeline<'_> {
    /// Answers all of `inputs`. `finish` makes of each answer, or of why there is none, what is wanted, on any thread,
    /// and `each` takes that in the order of the inputs, until it breaks off.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device was lost, as nothing can be answered any more; as [`Cpu::new`], and what `each`
    /// returns. All other errors are answers.
    pub fn run<T: Send, E: From<Error>>(
        &self,
        inputs: Inputs,
        finish: impl Fn(Subject, Result<Answer>) -> T + Sync,
        mut each: impl FnMut(T) -> Result<ControlFlow<()>, E>,
    ) -> Result<Spent, E> {
        let start = Instant::now();
        let clocks = Clocks::default();
        let common = Common {
            pipeline: self,
            preprocessing: session::preprocessing(self.network, self.options)?,
            clocks: &clocks,
        };
        let done = |(subject, answer): (Subject, Result<Answer>)| match answer {
            Err(lost @ Error::Lost(_)) => Err(lost),
            answer => {
                clocks.pictures.fetch_add(1, Relaxed);
                Ok(finish(subject, answer))
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
                // A pool for each worker, so that none waits for another; the first tells whether there can be any.
                let first = if workers == 1 { cpu.clone() } else { Cpu::new(Some(threads / workers))? };
                let pool = || Cpu::new(Some(threads / workers)).unwrap_or_else(|_| first.clone());
                thread::scope(|scope| {
                    let start = || Runner::new(&common, Device::Cpu(pool()), 1);
                    let work = |runner: &mut Runner, opened| done(runner.answer(common.prepare(opened)));
                    take(&mut self.opened(scope, workers, inputs, &clocks, start, work))
                })?;
            }
            Device::Gpu(_) => thread::scope(|scope| {
                let threads = self.threads.min(pictures);
                let work = |(): &mut (), opened| common.prepare(opened);
                let prepared = self.opened(scope, threads, inputs, &clocks, || (), work);
                let runner = Runner::new(&common, self.device.clone(), self.options.batch);
                let answers = Batches::new(runner, prepared);
                let work = |(): &mut (), answered| done(answered);
                take(&mut ordered(scope, threads, threads + 2, answers, || (), work))
            })?,
        }
        Ok(clocks.spent(start.elapsed()))
    }

    /// What `work` makes of every picture, in order.
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
                Opening::Many(frames) => Stages::Opened(frames),
            }
        });
        // The frames of an animation are decoded one after another, and then shared out like files. Few inputs have
        // any: a thread's own state is made for the first.
        let none = || None;
        ordered(scope, threads, ahead, first.flatten(), none, move |own: &mut Option<S>, stage| match stage {
            Stage::Done(result) => result,
            Stage::Opened(opened) => again(own.get_or_insert_with(&start), opened),
        })
    }
}

/// An input's results, or its frames.
enum Stages<R> {
    Done(Option<R>),
    Opened(Box<dyn Iterator<Item = Opened> + Send>),
}

enum Stage<R> {
    Done(R),
    Opened(Opened),
}

impl<R> Iterator for Stages<R> {
    type Item = Stage<R>;

    fn next(&mut self) -> Option<Stage<R>> {
        match self {
            Self::Done(result) => result.take().map(Stage::Done),
            Self::Opened(frames) => frames.next().map(Stage::Opened),
        }
    }
}
