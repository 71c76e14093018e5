//! A network on a device: what a program that embeds Goldcrest holds.

mod building;
mod device;
mod draft;
mod frames;
mod kept;
mod pictures;

use std::{borrow::Cow, collections::VecDeque};

pub use crate::gpu::Startup;
pub use building::Building;
pub use device::Device;
pub use draft::plan;
pub use frames::{Framing, Matrix, OnDevice, Parts, Range, Values, Yuv};
pub use kept::{F16_BOUND, Kept, keep, recall, weights};
#[cfg(feature = "feed")]
pub(crate) use pictures::preprocessing;

use draft::Order;

use crate::{
    Error, Result, Shape, Tensor, cpu,
    gpu::{self, Pace},
    graph::Graph,
    plan::{self, Fuse, Plan, Summary},
    tensor::Element,
    zoo::{Answer, Network},
};

/// What maps and weights are to be stored as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// f16 where [`tune`](crate::measure::tune) found it quicker on the device for this network, and
    /// no further from f32 than [`F16_BOUND`], else f32.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits, an error on devices without them.
    F16,
}

impl Precision {
    /// What is to be stored, unless that is left open.
    pub fn element(self) -> Option<Element> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(Element::F32),
            Self::F16 => Some(Element::F16),
        }
    }
}

/// What a session is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Pictures in a run. A batch too large for the device's limits is run in shares.
    pub batch: usize,
    /// Rows and columns of a picture, if not those that the network was made for.
    pub size: Option<[usize; 2]>,
    /// Which layers may share a kernel.
    pub fuse: Fuse,
    /// What maps and weights are stored as.
    pub precision: Precision,
    /// What is wanted of the network.
    pub answer: Answer,
    /// Keep every layer's output for [`Session::taps`]; takes more memory, and fuses nothing.
    pub taps: bool,
    /// Run WebGPU's baseline of kernels alone, whatever more the adapter has: what every adapter
    /// and every browser runs.
    pub baseline: bool,
}

impl Default for Options {
    /// One picture of the network's own size, its scores alone.
    fn default() -> Self {
        Self {
            batch: 1,
            size: None,
            fuse: Fuse::Auto,
            precision: Precision::Auto,
            answer: Answer::Scores,
            taps: false,
            baseline: false,
        }
    }
}

impl Options {
    /// What the planner has to know of it.
    pub fn plan(&self) -> plan::Options {
        plan::Options { fuse: self.fuse, taps: self.taps, ..plan::Options::default() }
    }

    /// Whether what was measured decides which kernels run: that may be beyond the baseline.
    pub(crate) fn takes_tuned(&self) -> bool {
        self.fuse == Fuse::Auto && !self.taps && !self.baseline
    }

    /// The shape of the input that a session of `network` will take.
    pub fn input_shape(&self, network: &Network) -> Shape {
        let shape = network.input_shape(self.batch);
        match self.size {
            Some([h, w]) => Shape { h, w, ..shape },
            None => shape,
        }
    }
}

/// An inference in flight: what [`Session::submit`] gives and [`Session::collect`] takes.
pub struct Pending(Flight);

enum Flight {
    /// A share of the batch each.
    Gpu(Vec<gpu::Pending>),
    /// The CPU has nobody to wait for.
    Done(Vec<Tensor>),
}

/// A network, ready to run for one input shape on one device.
pub struct Session {
    engine: Engine,
    /// The whole batch's shape.
    input: Shape,
    /// Names and dimensions of the answer's parts, for the whole batch.
    outputs: Vec<(String, Vec<usize>)>,
    /// How it takes pictures, if it does.
    reading: Option<pictures::Reading>,
    startup: Startup,
}

enum Engine {
    Gpu {
        /// For the batch, or for a share of it.
        plan: Box<Plan>,
        executor: Box<gpu::Executor>,
    },
    Cpu(Box<cpu::Executor>),
}

impl Session {
    /// Makes everything that runs of `network` need: on a GPU a plan and its pipelines.
    ///
    /// # Errors
    /// [`Error::Layer`] if an input of that shape does not fit the network, [`Error::Limit`] if
    /// it does not fit the device, [`Error::NoF16`] if the device lacks the precision,
    /// [`Error::Input`] if the network has no such answer, [`Error::Device`] if the device refuses it.
    pub fn new(device: impl Into<Device>, network: &Network, options: Options) -> Result<Self> {
        pollster::block_on(Self::build(device, network, options, |_, _| {}))
    }

    /// [`Session::new`] for where nothing may block, or where somebody wants to see progress:
    /// `progress` hears of each pipeline that has to be compiled, done and of how many.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn build(
        device: impl Into<Device>,
        network: &Network,
        options: Options,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let device = device.into();
        device.calibrate().await?;
        Order::of_network(device, network, options)?.draft()?.build(Pace::AtOnce, progress).await
    }

    /// A session of a graph by itself, for inputs of one shape: parts of networks, and those of
    /// one's own making. The batch and the size are the `input`'s, the answer the graph's own.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn of_graph(
        device: impl Into<Device>,
        graph: &Graph,
        input: Shape,
        options: Options,
    ) -> Result<Self> {
        pollster::block_on(Self::build_graph(device, graph, input, options))
    }

    /// [`Session::of_graph`] for where nothing may block.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn build_graph(
        device: impl Into<Device>,
        graph: &Graph,
        input: Shape,
        options: Options,
    ) -> Result<Self> {
        let graph = Cow::Borrowed(graph);
        let order = Order { device: device.into(), graph, input, options, reading: None };
        order.draft()?.build(Pace::AtOnce, |_, _| {}).await
    }

    /// Whether no inference of it is in flight.
    pub fn is_idle(&self) -> bool {
        match &self.engine {
            Engine::Gpu { executor, .. } => executor.is_idle(),
            Engine::Cpu(_) => true,
        }
    }

    /// How long it took to get ready.
    pub fn startup(&self) -> Startup {
        self.startup
    }

    /// What runs on a GPU, in which order, over which buffers; none on the CPU. The weights are
    /// on the device.
    pub fn plan(&self) -> Option<&Plan> {
        match &self.engine {
            Engine::Gpu { plan, .. } => Some(plan),
            Engine::Cpu(_) => None,
        }
    }

    /// What runs, in this order. A batch that is run in shares runs all of it for each.
    pub fn steps(&self) -> Vec<Summary> {
        match &self.engine {
            Engine::Gpu { plan, .. } => plan.steps.iter().map(plan::Step::summary).collect(),
            Engine::Cpu(executor) => executor.steps().to_vec(),
        }
    }

    /// What maps and weights are stored as.
    pub fn element(&self) -> Element {
        self.plan().map_or(Element::F32, |plan| plan.element)
    }

    /// Bytes of maps and weights.
    pub fn peak_bytes(&self) -> u64 {
        match &self.engine {
            // The plan's own weights are gone since they are on the device.
            Engine::Gpu { plan, executor } => plan.slot_bytes() + executor.weight_bytes(),
            Engine::Cpu(executor) => executor.peak_bytes(),
        }
    }

    /// The shape of the input, `[pictures, channels, rows, columns]`.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// The names of the answer's parts and their dimensions, in the order in which they come.
    pub fn outputs(&self) -> &[(String, Vec<usize>)] {
        &self.outputs
    }

    /// Runs once on a normalised input and waits: of scores `[N, classes]` for a classifier and `[N,
    /// classes, H, W]` for what segments, of labels `[N, 1, H, W]`.
    ///
    /// # Errors
    /// [`Error::Input`] if `input` has another shape, or if the answer has several parts; [`Error::Overflow`] if a
    /// value inside the network is beyond what is computed or stored: other inputs may do; [`Error::Lost`] if the
    /// device was lost.
    pub fn run(&mut self, input: &Tensor) -> Result<Tensor> {
        self.only()?;
        Ok(self.run_all(input)?.remove(0))
    }

    /// [`Session::run`] for an answer of several parts: they come in the order of
    /// [`Session::outputs`].
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_all(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        pollster::block_on(self.answers(input))
    }

    /// [`Session::run_all`], which gives way in a browser alone. Elsewhere it blocks.
    pub(crate) async fn answers(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        let answers = match &mut self.engine {
            Engine::Gpu { plan, executor } => {
                let mut answers = Vec::new();
                let mut flying = VecDeque::new();
                for share in shares(input, self.input, plan.input.shape.n)? {
                    // Two keep the device busy.
                    if flying.len() == 2
                        && let Some(oldest) = flying.pop_front()
                    {
                        answers.push(executor.answer(oldest).await?);
                    }
                    flying.push_back(executor.submit(&share)?);
                }
                for pending in flying {
                    answers.push(executor.answer(pending).await?);
                }
                answers
            }
            Engine::Cpu(executor) => vec![executor.run(input)?],
        };
        self.join(answers)
    }

    /// [`Session::run`] for where nothing may block. The CPU computes before it returns.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn run_async(&mut self, input: &Tensor) -> Result<Tensor> {
        self.only()?;
        let pending = self.submit(input)?;
        Ok(self.collect_async(pending).await?.remove(0))
    }

    /// Hands an input to the device and does not wait, so that several are in flight: the next is
    /// prepared while the device computes. Each in flight, and each share of a batch that is run in
    /// shares, has staging buffers of its own, which later ones use again. The CPU computes at once.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn submit(&mut self, input: &Tensor) -> Result<Pending> {
        match &mut self.engine {
            Engine::Gpu { plan, executor } => {
                let shares = shares(input, self.input, plan.input.shape.n)?;
                let shares = shares.iter().map(|share| executor.submit(share));
                Ok(Pending(Flight::Gpu(shares.collect::<Result<_>>()?)))
            }
            Engine::Cpu(executor) => Ok(Pending(Flight::Done(executor.run(input)?))),
        }
    }

    /// Waits for the answer to what [`Session::submit`] began, in any order, and gives its parts.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn collect(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        pollster::block_on(self.answer(pending))
    }

    /// [`Session::collect`], which gives way in a browser alone. Elsewhere it blocks.
    pub(crate) async fn answer(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        let mut answers = Vec::new();
        match (pending.0, &mut self.engine) {
            (Flight::Gpu(shares), Engine::Gpu { executor, .. }) => {
                for share in shares {
                    answers.push(executor.answer(share).await?);
                }
            }
            (Flight::Done(answer), Engine::Cpu(_)) => answers.push(answer),
            _ => return Err(stranger()),
        }
        self.join(answers)
    }

    /// [`Session::collect`] for where nothing may block.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn collect_async(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        let mut answers = Vec::new();
        match (pending.0, &mut self.engine) {
            (Flight::Gpu(shares), Engine::Gpu { executor, .. }) => {
                for share in shares {
                    answers.push(executor.collect_async(share).await?);
                }
            }
            (Flight::Done(answer), Engine::Cpu(_)) => answers.push(answer),
            _ => return Err(stranger()),
        }
        self.join(answers)
    }

    /// Runs once and gives the nanoseconds of each of [`Session::steps`], measured in the real
    /// sequence: on a GPU by its own clock.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has no timestamps, or as [`Session::run`].
    pub fn profile(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        pollster::block_on(self.profile_async(input))
    }

    /// [`Session::profile`] for where nothing may block. Elsewhere it blocks all the same.
    ///
    /// # Errors
    /// As [`Session::profile`].
    pub async fn profile_async(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        match &mut self.engine {
            Engine::Gpu { plan, executor } => {
                let mut times = vec![0.0; plan.steps.len()];
                for share in shares(input, self.input, plan.input.shape.n)? {
                    for (time, of_share) in times.iter_mut().zip(executor.profile_async(&share).await?) {
                        *time += of_share;
                    }
                }
                Ok(times)
            }
            Engine::Cpu(executor) => executor.profile(input),
        }
    }

    /// Runs once and gives the nanoseconds from the first step's start to the last one's end, by the
    /// GPU's own clock. It reads that clock twice only, so that nothing stands between the steps.
    ///
    /// # Errors
    /// [`Error::Device`] on the CPU, or if the device has no timestamps, or as [`Session::run`].
    pub fn clock(&mut self, input: &Tensor) -> Result<f64> {
        pollster::block_on(self.clock_async(input))
    }

    /// [`Session::clock`] for where nothing may block. Elsewhere it blocks all the same.
    ///
    /// # Errors
    /// As [`Session::clock`].
    pub async fn clock_async(&mut self, input: &Tensor) -> Result<f64> {
        match &mut self.engine {
            Engine::Gpu { plan, executor } => {
                let mut time = 0.0;
                for share in shares(input, self.input, plan.input.shape.n)? {
                    time += executor.clock_async(&share).await?;
                }
                Ok(time)
            }
            Engine::Cpu(_) => Err(Error::Device("the CPU has no clock of its own".into())),
        }
    }

    /// Every layer's output in the last run, `[N, C, H, W]` or `[N, C]`, under the name of the source
    /// library's module whose output it is. Empty unless built with [`Options::taps`].
    ///
    /// # Errors
    /// [`Error::Lost`] if the device was lost.
    pub fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        match &self.engine {
            Engine::Gpu { executor, .. } => executor.taps(),
            Engine::Cpu(executor) => executor.taps(),
        }
    }
}

impl Session {
    /// Refuses to give one part of several for the answer.
    fn only(&self) -> Result<()> {
        match &self.outputs[..] {
            [_] => Ok(()),
            outputs => {
                let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
                Err(Error::Input(format!("the answer has {} parts: {}", names.len(), names.join(", "))))
            }
        }
    }

    /// The answers to shares, each of all parts, as one, without those to pictures that only
    /// filled up the last.
    fn join(&self, shares: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>> {
        let mut parts: Vec<Vec<f32>> = vec![Vec::new(); self.outputs.len()];
        for answer in shares {
            for (whole, share) in parts.iter_mut().zip(answer) {
                match whole.is_empty() {
                    true => *whole = share.into_data(),
                    false => whole.extend(share.into_data()),
                }
            }
        }
        let tensor = |(mut data, (_, dims)): (Vec<f32>, &(String, Vec<usize>))| {
            data.truncate(dims.iter().product());
            Tensor::new(dims.clone(), data)
        };
        parts.into_iter().zip(&self.outputs).map(tensor).collect()
    }
}

/// What a session says of an inference that another one began.
fn stranger() -> Error {
    Error::Input("is in flight for another session".into())
}

/// The batch in shares of `n` pictures, the last filled up with black ones.
fn shares(input: &Tensor, whole: Shape, n: usize) -> Result<Vec<Cow<'_, Tensor>>> {
    let shape = input.shape()?;
    if shape != whole {
        return Err(Error::Input(format!("has the shape {shape}, planned was {whole}")));
    }
    if whole.n == n {
        return Ok(vec![Cow::Borrowed(input)]);
    }
    let share = Shape { n, ..whole };
    let filled = |pictures: &[f32]| {
        let mut data = pictures.to_vec();
        data.resize(share.len(), 0.0);
        Ok(Cow::Owned(Tensor::new(<[usize; 4]>::from(share), data)?))
    };
    input.data().chunks(share.len()).map(filled).collect()
}
