//! Timing of networks and of their steps.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;
use web_time::Instant;

use super::{Peaks, Split, Spread, spread::noisy};
use crate::{
    Error, Result, Shape, Tensor, cpu,
    graph::Graph,
    plan::{Summary, Work},
    session::{Device, Options, Session},
    tensor::Element,
};

/// How often a measurement is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Warm-up runs, which are not measured.
    pub warmup: usize,
    /// The minimum number of runs per measurement.
    pub runs: usize,
    /// The minimum time per measurement; runs are repeated until both minimums are reached.
    pub time: Duration,
}

/// The measurements of one network on one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    /// The storage type of maps and weights.
    pub precision: Element,
    /// Milliseconds until the first outputs: planning, compiling, the first run.
    pub first_ms: f64,
    /// Wall-clock milliseconds from the input tensor to the output tensors, both in host memory.
    pub wall_ms: Spread,
    /// Milliseconds from the first step's start to the last one's end, by GPU timestamps; none on the CPU.
    pub gpu_ms: Option<Spread>,
    /// The sum of the milliseconds of all steps, each measured separately; none if steps cannot be measured.
    pub steps_ms: Option<Spread>,
    /// The reason why `gpu_ms` is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_missing: Option<String>,
    /// Wall-clock milliseconds per inference with two in flight; none on the CPU.
    pub stream_ms: Option<f64>,
    /// True if many runs took far longer than the median: something else was running.
    pub noisy: bool,
    /// Bytes of maps and weights.
    pub peak_bytes: u64,
    /// The steps, in execution order.
    pub steps: Vec<StepTime>,
}

/// The measurements of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTime {
    /// The step.
    #[serde(flatten)]
    pub summary: Summary,
    /// The necessary work: its layers' multiply-adds, without recomputation in overlapping tiles, and the
    /// bytes of its inputs, outputs and weights, each counted once.
    pub needed: Work,
    /// Milliseconds; none if steps cannot be measured.
    pub ms: Option<Spread>,
}

impl Timing {
    /// Splits the total time of the steps by cause; `None` if the steps were not measured.
    pub fn split(&self, peaks: &Peaks) -> Option<Split> {
        self.steps.iter().map(|step| step.split(peaks)).sum()
    }

    /// Returns the sum of the steps' lower bounds ([`Peaks::floor`]) divided by the sum of their times.
    pub fn utilisation(&self, peaks: &Peaks) -> Option<f64> {
        let seconds: f64 = self.steps.iter().map(StepTime::seconds).sum::<Option<f64>>()?;
        Some(self.steps.iter().map(|step| peaks.floor(step.needed)).sum::<f64>() / seconds)
    }

    /// Returns the milliseconds of the network without upload and readback: `gpu_ms` or, on the CPU,
    /// `steps_ms`; `wall_ms` if there is neither.
    pub fn ms(&self) -> Spread {
        self.gpu_ms.or(self.steps_ms).unwrap_or(self.wall_ms)
    }
}

impl StepTime {
    /// Returns the median time, in seconds.
    pub fn seconds(&self) -> Option<f64> {
        self.ms.map(|ms| ms.median / 1e3)
    }

    /// Splits its time by cause.
    pub fn split(&self, peaks: &Peaks) -> Option<Split> {
        Some(Split::of(self.needed, self.seconds()?, peaks))
    }

    /// Returns its lower bound ([`Peaks::floor`]) divided by its time.
    pub fn utilisation(&self, peaks: &Peaks) -> Option<f64> {
        Some(peaks.utilisation(self.needed, self.seconds()?))
    }
}

/// A graph to measure, for inputs of one shape.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The shape of the input; the batch and size in `options` are ignored.
    pub input: Shape,
    /// Options of the session.
    pub options: Options,
}

/// Measures one graph.
///
/// ```no_run
/// use goldcrest::{Device, Options, measure::{Case, Sampling, time}, zoo::synthetic};
/// use std::time::Duration;
///
/// let network = synthetic::network("mobilenet_v2")?; // random weights, which do not affect times
/// let options = Options::default();
/// let case = Case { graph: &network.graph, input: options.input_shape(&network), options };
/// let sampling = Sampling { warmup: 3, runs: 10, time: Duration::from_millis(500) };
/// println!("{:.2} ms", time(&Device::best()?, case, sampling)?.wall_ms.median);
/// # Ok::<(), goldcrest::Error>(())
/// ```
///
/// # Errors
/// As [`Session::new`] and [`Session::run`].
#[cfg(not(target_arch = "wasm32"))]
pub fn time(device: &Device, case: Case, sampling: Sampling) -> Result<Timing> {
    pollster::block_on(time_async(device, case, sampling))
}

/// [`time`] for browsers, where nothing may block. On native targets it blocks.
///
/// # Errors
/// As [`time`].
pub async fn time_async(device: &Device, case: Case<'_>, sampling: Sampling) -> Result<Timing> {
    let mut running = Running::new(device, case, sampling).await?;
    running.measure(sampling, sampling.time).await?;
    running.timing()
}

/// Measures several graphs for comparison. Their runs alternate, so that other load on the machine affects
/// all of them. Each graph has its own result, with the errors of [`time`].
#[cfg(not(target_arch = "wasm32"))]
pub fn compare(device: &Device, cases: &[Case], sampling: Sampling) -> Vec<Result<Timing>> {
    pollster::block_on(compare_async(device, cases, sampling))
}

/// [`compare`] for browsers, where nothing may block. On native targets it blocks.
pub async fn compare_async(device: &Device, cases: &[Case<'_>], sampling: Sampling) -> Vec<Result<Timing>> {
    let mut running = Vec::new();
    for case in cases {
        running.push(Running::new(device, *case, sampling).await);
    }
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < sampling.runs || start.elapsed() < sampling.time * cases.len() as u32 {
        for running in &mut running {
            // If one fails, the others continue.
            if let Ok(measured) = running
                && let Err(e) = measured.measure(Sampling { runs: 1, ..sampling }, Duration::ZERO).await
            {
                *running = Err(e);
            }
        }
        rounds += 1;
    }
    running.into_iter().map(|running| running?.timing()).collect()
}

/// The smallest step of the clock that measures wall-clock time; browsers round it.
pub fn clock_resolution() -> Duration {
    const STEPS: usize = 5;
    // A clock that stands still has no steps.
    const PATIENCE: usize = 100_000_000;
    let (mut last, mut steps) = (Instant::now(), Vec::new());
    for _ in 0..PATIENCE {
        let now = Instant::now();
        if now > last {
            steps.push(now - last);
            last = now;
        }
        if steps.len() == STEPS {
            break;
        }
    }
    steps.into_iter().min().unwrap_or_default()
}

/// A graph that is being measured.
struct Running<'a> {
    case: Case<'a>,
    device: &'a Device,
    session: Session,
    picture: Tensor,
    first_ms: f64,
    /// Milliseconds of every run, by wall-clock time and by GPU timestamps.
    walls: Vec<f64>,
    clocks: Vec<f64>,
    /// Milliseconds per inference with another in flight.
    streams: Vec<f64>,
    /// Milliseconds of all steps together by run, and of each step by run.
    sums: Vec<f64>,
    steps: Vec<Vec<f64>>,
}

impl<'a> Running<'a> {
    /// Builds the session and warms it up.
    async fn new(device: &'a Device, case: Case<'a>, sampling: Sampling) -> Result<Self> {
        let begun = Instant::now();
        let mut session = Session::of_graph_async(device, case.graph, case.input, case.options).await?;
        let built = begun.elapsed();
        // After the session is built: an input that no session accepts may be too large to allocate.
        let picture = picture(case.input)?;
        let begun = Instant::now();
        session.run_all_yielding(&picture).await?;
        let first_ms = 1e3 * (built + begun.elapsed()).as_secs_f64();
        for _ in 0..sampling.warmup {
            session.run_all_yielding(&picture).await?;
        }
        Ok(Self {
            case,
            device,
            steps: vec![Vec::new(); session.steps().len()],
            session,
            picture,
            first_ms,
            walls: Vec::new(),
            clocks: Vec::new(),
            streams: Vec::new(),
            sums: Vec::new(),
        })
    }

    /// Returns true if the steps can be measured separately.
    fn has_clock(&self) -> bool {
        match self.device {
            Device::Gpu(gpu) => gpu.has_timestamps(),
            Device::Cpu(_) => true,
        }
    }

    /// Repeats each measurement at least `sampling.runs` times, and for at least `time`.
    async fn measure(&mut self, sampling: Sampling, time: Duration) -> Result<()> {
        let Self { session, picture, .. } = self;
        let walls = repeat(sampling.runs, time, async || {
            let start = Instant::now();
            session.run_all_yielding(picture).await?;
            Ok(1e3 * start.elapsed().as_secs_f64())
        });
        let walls = walls.await?;
        if matches!(self.device, Device::Gpu(_)) {
            self.streams.push(stream(session, picture, walls.len().max(2)).await?);
        }
        self.walls.extend(walls);
        if !self.has_clock() {
            return Ok(());
        }
        let Self { device, session, picture, steps, clocks, .. } = self;
        // Alternate the two measurements, so that both see the same state of the machine.
        let sums = repeat(sampling.runs, time, async || {
            if matches!(device, Device::Gpu(_)) {
                clocks.push(session.gpu_time_async(picture).await? / 1e6);
            }
            let times = session.profile_async(picture).await?;
            for (of_step, ns) in steps.iter_mut().zip(&times) {
                of_step.push(ns / 1e6);
            }
            Ok(times.iter().sum::<f64>() / 1e6)
        });
        self.sums.extend(sums.await?);
        Ok(())
    }

    /// Returns the results.
    fn timing(self) -> Result<Timing> {
        let gpu_missing = match self.device {
            Device::Gpu(gpu) if !gpu.has_timestamps() => Some(format!("{} has no timestamps", gpu.adapter())),
            Device::Gpu(_) if self.clocks.iter().all(|ms| *ms <= 0.0) => {
                Some("its timestamps do not advance".to_string())
            }
            _ => None,
        };
        let clocked = gpu_missing.is_none();
        // A batch that exceeds the device's limits runs every step once per sub-batch.
        let Case { graph, input, .. } = self.case;
        let sub_batch = self.session.plan().map_or(input.n, |plan| plan.input.shape.n);
        let sub_batches = input.n.div_ceil(sub_batch) as u64;
        let macs = macs(graph, Shape { n: sub_batch, ..input })?;
        let steps = self.session.steps().into_iter().zip(self.steps).map(|(summary, times)| {
            let macs: u64 = summary.layers.iter().filter_map(|layer| macs.get(layer.as_str())).sum();
            let needed = Work { bytes: sub_batches * summary.work.bytes, macs: sub_batches * macs };
            StepTime { summary, needed, ms: Spread::of(times).filter(|_| clocked) }
        });
        let first = Spread { median: self.first_ms, min: self.first_ms, max: self.first_ms };
        Ok(Timing {
            precision: self.session.element(),
            first_ms: self.first_ms,
            noisy: noisy(&self.walls),
            wall_ms: Spread::of(self.walls).unwrap_or(first),
            gpu_ms: Spread::of(self.clocks).filter(|_| clocked),
            steps_ms: Spread::of(self.sums).filter(|_| clocked),
            gpu_missing,
            stream_ms: Spread::of(self.streams).map(|spread| spread.median),
            peak_bytes: self.session.peak_bytes(),
            steps: steps.collect(),
        })
    }
}

/// Creates an input of this shape with varied values.
fn picture(shape: Shape) -> Result<Tensor> {
    let mut values = Vec::new();
    // A batch that devices split into sub-batches may still exceed the host's memory.
    let (needed, limit) = (4 * shape.len() as u64, cpu::available_bytes());
    if needed > limit || values.try_reserve_exact(shape.len()).is_err() {
        return Err(Error::Limit { what: "the input".into(), needed, limit });
    }
    values.extend((0..shape.len()).map(|i| (i as f32 * 0.37).sin()));
    Tensor::new(<[usize; 4]>::from(shape), values)
}

/// Measures the milliseconds per inference with the next one in flight.
async fn stream(session: &mut Session, picture: &Tensor, runs: usize) -> Result<f64> {
    let start = Instant::now();
    let mut flying = session.submit(picture)?;
    for _ in 1..runs {
        let next = session.submit(picture)?;
        session.collect_yielding(std::mem::replace(&mut flying, next)).await?;
    }
    session.collect_yielding(flying).await?;
    Ok(1e3 * start.elapsed().as_secs_f64() / runs as f64)
}

/// Calls `run` at least `runs` times and for at least `time`, and returns its values.
async fn repeat(runs: usize, time: Duration, mut run: impl AsyncFnMut() -> Result<f64>) -> Result<Vec<f64>> {
    let start = Instant::now();
    let mut values = Vec::new();
    while values.len() < runs || start.elapsed() < time {
        values.push(run().await?);
    }
    Ok(values)
}

/// Returns the multiply-adds of each layer.
fn macs(graph: &Graph, input: Shape) -> Result<HashMap<&str, u64>> {
    let costs = graph.costs(&graph.shapes(input)?);
    Ok(graph.nodes().zip(costs).map(|((_, node), cost)| (node.name(), cost.macs)).collect())
}
