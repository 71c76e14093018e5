//! Sessions: networks that are ready to run on a device, the main API for programs that embed Goldcrest.

mod building;
mod device;
mod frames;
mod pictures;
mod planning;
mod tuning_cache;

use std::{borrow::Cow, collections::VecDeque};

pub use crate::gpu::Startup;
pub use building::Building;
pub use device::Device;
pub use frames::{ColourEncoding, OnDevice, Parts, SourceOptions, Yuv, YuvMatrix, YuvRange};
#[cfg(feature = "feed")]
pub(crate) use pictures::preprocessing;
pub use planning::plan;
pub use tuning_cache::{MAX_F16_ERROR, TuningRecord, load_tuning, store_tuning, weights_checksum};

use planning::SessionSpec;

use crate::{
    Error, Result, Shape, Tensor, cpu,
    gpu::{self, Pace},
    graph::Graph,
    plan::{self, Fuse, Plan, Summary},
    tensor::Element,
    zoo::{Network, Outputs},
};

/// The requested storage type of feature maps and weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// f16 if [`tune`](crate::measure::tune) found it faster for this network on this device, with a relative
    /// error of at most [`MAX_F16_ERROR`]; else f32.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats; an error on devices without them.
    F16,
}

impl Precision {
    /// Returns the storage type; `None` for [`Precision::Auto`].
    pub fn element(self) -> Option<Element> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(Element::F32),
            Self::F16 => Some(Element::F16),
        }
    }
}

/// Options of a session.
///
/// ```
/// use goldcrest::{Options, session::Precision};
///
/// let options = Options { batch: 8, size: Some([160, 160]), precision: Precision::F32, ..Options::default() };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Pictures per run. A batch that exceeds the device's limits is split into sub-batches, except
    /// with `taps`.
    pub batch: usize,
    /// Rows and columns of the network's input; by default the network's own.
    pub size: Option<[usize; 2]>,
    /// Which layers may be fused.
    pub fuse: Fuse,
    /// The storage type of feature maps and weights.
    pub precision: Precision,
    /// The requested outputs of the network.
    pub outputs: Outputs,
    /// Keeps every layer's output for [`Session::taps`]. This takes more memory and disables fusion.
    pub taps: bool,
    /// Uses only kernels of baseline WebGPU, which run on every adapter and in every browser, even if the
    /// adapter has more features.
    pub baseline: bool,
}

impl Default for Options {
    /// One picture of the network's default size, with its raw outputs ([`Outputs::Scores`]).
    fn default() -> Self {
        Self {
            batch: 1,
            size: None,
            fuse: Fuse::Auto,
            precision: Precision::Auto,
            outputs: Outputs::Scores,
            taps: false,
            baseline: false,
        }
    }
}

impl Options {
    /// Returns the planner's options.
    pub fn plan(&self) -> plan::Options {
        plan::Options { fuse: self.fuse, taps: self.taps, ..plan::Options::default() }
    }

    /// Returns whether tuning results may be used: tuned kernels can need features beyond the baseline.
    pub(crate) fn takes_tuned(&self) -> bool {
        self.fuse == Fuse::Auto && !self.taps && !self.baseline
    }

    /// Returns the input shape of a session of `network`.
    pub fn input_shape(&self, network: &Network) -> Shape {
        let shape = network.input_shape(self.batch);
        match self.size {
            Some([h, w]) => Shape { h, w, ..shape },
            None => shape,
        }
    }
}

/// An inference in flight, from [`Session::submit`] to [`Session::collect`].
pub struct Pending(Flight);

enum Flight {
    /// One inference per sub-batch.
    Gpu(Vec<gpu::Pending>),
    /// The outputs of the CPU, which computes synchronously.
    Done(Vec<Tensor>),
}

/// A network, ready to run for one input shape on one device.
///
/// Build it once and run it many times: building compiles kernels and uploads weights. [`Session::for_pictures`] builds
/// one for pictures and textures, [`Session::new`] one for tensors.
///
/// ```
/// use goldcrest::{Options, Session, Tensor, cpu::Cpu, zoo::synthetic};
///
/// let network = synthetic::network("mobilenet_v3_small@0.5")?; // seeded weights; Network::open reads a checkpoint
/// let mut session = Session::new(Cpu::new(None)?, &network, Options::default())?;
/// let logits = session.run(&Tensor::wave(session.input_shape(), 0.1))?;
/// assert_eq!(logits.dims(), [1, 1000]);
/// # Ok::<(), goldcrest::Error>(())
/// ```
pub struct Session {
    engine: Engine,
    /// The shape of the whole batch.
    input: Shape,
    /// Names and dimensions of the outputs, for the whole batch.
    outputs: Vec<(String, Vec<usize>)>,
    /// Everything specific to pictures; `None` if the session was built for tensors.
    picture_setup: Option<pictures::PictureSetup>,
    startup: Startup,
}

enum Engine {
    Gpu {
        /// The plan of the whole batch, or of one sub-batch.
        plan: Box<Plan>,
        executor: Box<gpu::Executor>,
    },
    Cpu(Box<cpu::Executor>),
}

impl Session {
    /// Builds everything needed to run `network` on tensors: on a GPU, a plan and its pipelines.
    ///
    /// # Errors
    /// [`Error::Layer`] if an input of that shape does not fit the network, [`Error::Limit`] if
    /// it does not fit the device, [`Error::NoF16`] if the device lacks f16,
    /// [`Error::Input`] if the network has no such outputs, [`Error::Memory`] if the device is out of memory,
    /// [`Error::DeviceLimit`] if the program's device was opened with limits that are too low, [`Error::Lost`] if
    /// the device was lost, [`Error::Device`] if it reports another error.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(device: impl Into<Device>, network: &Network, options: Options) -> Result<Self> {
        // Not generic, and so compiled once: a future is compiled by every crate that waits for it.
        fn new(device: Device, network: &Network, options: Options) -> Result<Session> {
            pollster::block_on(Session::new_async(device, network, options, |_, _| {}))
        }
        new(device.into(), network, options)
    }

    /// [`Session::new`] for browsers, where nothing may block, and for callers that show progress: `progress`
    /// is called with the number of pipelines compiled so far and the total. On native targets it blocks
    /// while it compiles; [`Session::building`] spreads compilation over frames.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn new_async(
        device: impl Into<Device>,
        network: &Network,
        options: Options,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let device = device.into();
        device.calibrate().await?;
        SessionSpec::of_network(device, network, options)?.plan()?.build(Pace::Blocking, progress).await
    }

    /// Builds a session of a bare graph for inputs of one shape, such as a part of a network or a custom
    /// graph. Batch and size are those of `input`; the outputs are the graph's.
    ///
    /// # Errors
    /// As [`Session::new`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn of_graph(
        device: impl Into<Device>,
        graph: &Graph,
        input: Shape,
        options: Options,
    ) -> Result<Self> {
        fn of_graph(device: Device, graph: &Graph, input: Shape, options: Options) -> Result<Session> {
            pollster::block_on(Session::of_graph_async(device, graph, input, options))
        }
        of_graph(device.into(), graph, input, options)
    }

    /// [`Session::of_graph`] for browsers, where nothing may block.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn of_graph_async(
        device: impl Into<Device>,
        graph: &Graph,
        input: Shape,
        options: Options,
    ) -> Result<Self> {
        let graph = Cow::Borrowed(graph);
        let spec = SessionSpec { device: device.into(), graph, input, options, picture_setup: None };
        spec.plan()?.build(Pace::Blocking, |_, _| {}).await
    }

    /// Returns true if no inference of this session is in flight, and no source, painting, boxes or ring of it
    /// exists, none of which would fit a session that replaces it.
    pub fn is_idle(&self) -> bool {
        match &self.engine {
            Engine::Gpu { executor, .. } => executor.is_idle(),
            Engine::Cpu(_) => true,
        }
    }

    /// Returns the time that building the session took.
    pub fn startup(&self) -> Startup {
        self.startup
    }

    /// Returns the GPU's plan: its steps in order, and their buffers; `None` on the CPU. The plan holds no
    /// weights, because they are on the device.
    pub fn plan(&self) -> Option<&Plan> {
        match &self.engine {
            Engine::Gpu { plan, .. } => Some(plan),
            Engine::Cpu(_) => None,
        }
    }

    /// Returns the steps in the order in which they run. A split batch runs all of them per sub-batch.
    pub fn steps(&self) -> Vec<Summary> {
        match &self.engine {
            Engine::Gpu { plan, .. } => plan.steps.iter().map(plan::Step::summary).collect(),
            Engine::Cpu(executor) => executor.steps().to_vec(),
        }
    }

    /// Returns the storage type of feature maps and weights.
    pub fn element(&self) -> Element {
        self.plan().map_or(Element::F32, |plan| plan.element)
    }

    /// Returns the device memory of feature maps and weights, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        match &self.engine {
            // The plan's copy of the weights was dropped after the upload.
            Engine::Gpu { plan, executor } => plan.slot_bytes() + executor.weight_bytes(),
            Engine::Cpu(executor) => executor.peak_bytes(),
        }
    }

    /// Returns the shape of the input, `[pictures, channels, rows, columns]`.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// Returns the names and dimensions of the outputs, in order.
    pub fn outputs(&self) -> &[(String, Vec<usize>)] {
        &self.outputs
    }

    /// Runs once on a normalised input `[N, C, H, W]` and waits. Scores are `[N, classes]` for a classifier and
    /// `[N, classes, H, W]` for a segmenter; labels are `[N, 1, H, W]`.
    ///
    /// # Errors
    /// [`Error::Input`] if `input` has another shape or a value beyond f16's range in an f16 session, or if the
    /// session has several outputs; [`Error::Overflow`] if a value inside the network overflows its type;
    /// [`Error::Memory`] if the device is out of memory; [`Error::Lost`] if it was lost; [`Error::Device`] if it
    /// reports another error, or if an earlier run failed midway.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&mut self, input: &Tensor) -> Result<Tensor> {
        self.check_single_output()?;
        Ok(self.run_all(input)?.remove(0))
    }

    /// [`Session::run`] for sessions with several outputs, returned in the order of [`Session::outputs`].
    ///
    /// # Errors
    /// As [`Session::run`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run_all(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        pollster::block_on(self.run_all_yielding(input))
    }

    /// [`Session::run_all`] as a future. It yields in a browser only; on native targets it blocks.
    pub(crate) async fn run_all_yielding(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        let outputs = match &mut self.engine {
            Engine::Gpu { plan, executor } => {
                let mut outputs = Vec::new();
                let mut flying = VecDeque::new();
                for sub_batch in split_batch(input, self.input, plan.input.shape.n)? {
                    // Two in flight keep the device busy.
                    if flying.len() == 2
                        && let Some(oldest) = flying.pop_front()
                    {
                        outputs.push(executor.collect_yielding(oldest).await?);
                    }
                    flying.push_back(executor.submit(&sub_batch)?);
                }
                for pending in flying {
                    outputs.push(executor.collect_yielding(pending).await?);
                }
                outputs
            }
            Engine::Cpu(executor) => vec![executor.run(input)?],
        };
        self.join(outputs)
    }

    /// [`Session::run`] for callers that must not block. On native targets the future completes only while the
    /// program submits to the queue or calls `wgpu::Device::poll`. On the CPU it blocks.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn run_async(&mut self, input: &Tensor) -> Result<Tensor> {
        self.check_single_output()?;
        Ok(self.run_all_async(input).await?.remove(0))
    }

    /// [`Session::run_all`] for callers that must not block; see [`Session::run_async`].
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn run_all_async(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        let pending = self.submit(input)?;
        self.collect_async(pending).await
    }

    /// Submits an input without waiting, so that several inferences can be in flight and the caller can prepare
    /// the next input while the device computes. Each inference in flight, and each of its sub-batches, has its
    /// own staging buffers, which later ones reuse. The CPU computes synchronously.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn submit(&mut self, input: &Tensor) -> Result<Pending> {
        match &mut self.engine {
            Engine::Gpu { plan, executor } => {
                let sub_batches = split_batch(input, self.input, plan.input.shape.n)?;
                let pending = sub_batches.iter().map(|sub_batch| executor.submit(sub_batch));
                Ok(Pending(Flight::Gpu(pending.collect::<Result<_>>()?)))
            }
            Engine::Cpu(executor) => Ok(Pending(Flight::Done(executor.run(input)?))),
        }
    }

    /// Waits for an inference that [`Session::submit`] started, and returns its outputs. Inferences may be
    /// collected in any order.
    ///
    /// # Errors
    /// As [`Session::run`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn collect(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        pollster::block_on(self.collect_yielding(pending))
    }

    /// [`Session::collect`] as a future. It yields in a browser only; on native targets it blocks.
    pub(crate) async fn collect_yielding(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::new();
        match (pending.0, &mut self.engine) {
            (Flight::Gpu(sub_batches), Engine::Gpu { executor, .. }) => {
                for sub_batch in sub_batches {
                    outputs.push(executor.collect_yielding(sub_batch).await?);
                }
            }
            (Flight::Done(done), Engine::Cpu(_)) => outputs.push(done),
            _ => return Err(foreign_inference()),
        }
        self.join(outputs)
    }

    /// [`Session::collect`] for callers that must not block.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn collect_async(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::new();
        match (pending.0, &mut self.engine) {
            (Flight::Gpu(sub_batches), Engine::Gpu { executor, .. }) => {
                for sub_batch in sub_batches {
                    outputs.push(executor.collect_async(sub_batch).await?);
                }
            }
            (Flight::Done(done), Engine::Cpu(_)) => outputs.push(done),
            _ => return Err(foreign_inference()),
        }
        self.join(outputs)
    }

    /// Runs once and returns the time of each of [`Session::steps`] in nanoseconds, measured in the usual
    /// sequence of steps; on a GPU, with timestamps.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has no timestamps, or as [`Session::run`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        pollster::block_on(self.profile_async(input))
    }

    /// [`Session::profile`] for browsers, where nothing may block. On native targets it blocks.
    ///
    /// # Errors
    /// As [`Session::profile`].
    pub async fn profile_async(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        match &mut self.engine {
            Engine::Gpu { plan, executor } => {
                let mut times = vec![0.0; plan.steps.len()];
                for sub_batch in split_batch(input, self.input, plan.input.shape.n)? {
                    for (time, ns) in times.iter_mut().zip(executor.profile_async(&sub_batch).await?) {
                        *time += ns;
                    }
                }
                Ok(times)
            }
            Engine::Cpu(executor) => executor.profile(input),
        }
    }

    /// Runs once and returns the nanoseconds from the start of the first step to the end of the last, by two GPU
    /// timestamps. Unlike [`Session::profile`], it does not separate the steps.
    ///
    /// # Errors
    /// [`Error::Device`] on the CPU, or if the device has no timestamps, or as [`Session::run`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn gpu_time(&mut self, input: &Tensor) -> Result<f64> {
        pollster::block_on(self.gpu_time_async(input))
    }

    /// [`Session::gpu_time`] for browsers, where nothing may block. On native targets it blocks.
    ///
    /// # Errors
    /// As [`Session::gpu_time`].
    pub async fn gpu_time_async(&mut self, input: &Tensor) -> Result<f64> {
        match &mut self.engine {
            Engine::Gpu { plan, executor } => {
                let mut time = 0.0;
                for sub_batch in split_batch(input, self.input, plan.input.shape.n)? {
                    time += executor.gpu_time_async(&sub_batch).await?;
                }
                Ok(time)
            }
            Engine::Cpu(_) => Err(Error::Device("the session is on the CPU, which has no timestamps".into())),
        }
    }

    /// Returns every layer's output in the last run, `[N, C, H, W]` or `[N, C]`, with the name of its module
    /// in the source library. Empty unless the session was built with [`Options::taps`].
    ///
    /// # Errors
    /// [`Error::Lost`] if the device was lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        pollster::block_on(self.taps_async())
    }

    /// [`Session::taps`] for browsers, where nothing may block. On native targets it blocks.
    ///
    /// # Errors
    /// As [`Session::taps`].
    pub async fn taps_async(&self) -> Result<Vec<(String, Tensor)>> {
        match &self.engine {
            Engine::Gpu { executor, .. } => executor.taps_async().await,
            Engine::Cpu(executor) => executor.taps(),
        }
    }
}

impl Session {
    /// Checks that the session has a single output.
    fn check_single_output(&self) -> Result<()> {
        match &self.outputs[..] {
            [_] => Ok(()),
            outputs => {
                let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
                Err(Error::Input(format!("the session has {} outputs: {}", names.len(), names.join(", "))))
            }
        }
    }

    /// Joins the outputs of the sub-batches, without those of the pictures that pad the last one.
    fn join(&self, sub_batches: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>> {
        let mut joined: Vec<Vec<f32>> = vec![Vec::new(); self.outputs.len()];
        for outputs in sub_batches {
            for (whole, output) in joined.iter_mut().zip(outputs) {
                match whole.is_empty() {
                    true => *whole = output.into_data(),
                    false => whole.extend(output.into_data()),
                }
            }
        }
        let tensor = |(mut data, (_, dims)): (Vec<f32>, &(String, Vec<usize>))| {
            data.truncate(dims.iter().product());
            Tensor::new(dims.clone(), data)
        };
        joined.into_iter().zip(&self.outputs).map(tensor).collect()
    }
}

/// The error for an inference that another session began.
fn foreign_inference() -> Error {
    Error::Input("this inference is in flight for another session".into())
}

/// Splits the batch into sub-batches of `n` pictures, padding the last one with zeros.
fn split_batch(input: &Tensor, whole: Shape, n: usize) -> Result<Vec<Cow<'_, Tensor>>> {
    let shape = input.shape()?;
    if shape != whole {
        return Err(Error::Input(format!("the input has the shape {shape}, expected {whole}")));
    }
    if whole.n == n {
        return Ok(vec![Cow::Borrowed(input)]);
    }
    let sub_batch = Shape { n, ..whole };
    let padded = |pictures: &[f32]| {
        let mut data = pictures.to_vec();
        data.resize(sub_batch.len(), 0.0);
        Ok(Cow::Owned(Tensor::new(<[usize; 4]>::from(sub_batch), data)?))
    };
    input.data().chunks(sub_batch.len()).map(padded).collect()
}
