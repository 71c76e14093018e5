//! How long a network takes, and each of its steps.

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

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Runs that do not count, before any that does.
    pub warmup: usize,
    /// Runs of each measurement at least.
    pub runs: usize,
    /// Time that each measurement may take, if its least runs took less.
    pub time: Duration,
}

/// What was measured of one network on one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    /// What maps and weights are stored as.
    pub precision: Element,
    /// Milliseconds from nothing to the first answer: planning, compiling, the first run.
    pub first_ms: f64,
    /// Milliseconds from a tensor in memory to an answer in memory.
    pub wall_ms: Spread,
    /// Milliseconds by the GPU's own clock, from the first step's start to the last one's end; none on the CPU.
    pub gpu_ms: Option<Spread>,
    /// Milliseconds of all steps together, by the clock that measures each of them; none where nothing does.
    pub steps_ms: Option<Spread>,
    /// Why there is no `gpu_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_missing: Option<String>,
    /// Milliseconds of wall time an inference takes with two in flight; none on the CPU.
    pub stream_ms: Option<f64>,
    /// True if many runs took far longer than the median: something else was running.
    pub noisy: bool,
    /// Bytes of maps and weights.
    pub peak_bytes: u64,
    /// Each step, in the order in which they run.
    pub steps: Vec<StepTime>,
}

/// What was measured of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTime {
    /// What it is.
    #[serde(flatten)]
    pub summary: Summary,
    /// What it has to do: its layers' multiply-adds without what overlapping tiles do again, and
    /// its inputs, outputs and weights once.
    pub needed: Work,
    /// Milliseconds; none where nothing measures them.
    pub ms: Option<Spread>,
}

impl Timing {
    /// What the steps' times went to, together; none where they were not measured.
    pub fn split(&self, peaks: &Peaks) -> Option<Split> {
        self.steps.iter().map(|step| step.split(peaks)).sum()
    }

    /// The steps' floors over their times, together.
    pub fn utilisation(&self, peaks: &Peaks) -> Option<f64> {
        let seconds: f64 = self.steps.iter().map(StepTime::seconds).sum::<Option<f64>>()?;
        Some(self.steps.iter().map(|step| peaks.floor(step.needed)).sum::<f64>() / seconds)
    }

    /// The milliseconds that the network takes without its input's way to the device and the answer's
    /// way back: those of the GPU's clock, on the CPU those of the steps, and of the wall where
    /// there is neither.
    pub fn ms(&self) -> Spread {
        self.gpu_ms.or(self.steps_ms).unwrap_or(self.wall_ms)
    }
}

impl StepTime {
    /// Its median.
    pub fn seconds(&self) -> Option<f64> {
        self.ms.map(|ms| ms.median / 1e3)
    }

    /// What its time went to.
    pub fn split(&self, peaks: &Peaks) -> Option<Split> {
        Some(Split::of(self.needed, self.seconds()?, peaks))
    }

    /// Its floor over its time.
    pub fn utilisation(&self, peaks: &Peaks) -> Option<f64> {
        Some(peaks.utilisation(self.needed, self.seconds()?))
    }
}

/// A graph to measure, for inputs of one shape.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The shape; the options' batch and size do not count.
    pub input: Shape,
    /// How to run it.
    pub options: Options,
}

/// Measures one graph.
///
/// # Errors
/// As [`Session::new`] and [`Session::run`].
pub fn time(device: &Device, case: Case, effort: Effort) -> Result<Timing> {
    pollster::block_on(time_async(device, case, effort))
}

/// [`time`] for where nothing may block. Elsewhere it blocks all the same.
///
/// # Errors
/// As [`time`].
pub async fn time_async(device: &Device, case: Case<'_>, effort: Effort) -> Result<Timing> {
    let mut running = Running::new(device, case, effort).await?;
    running.measure(effort, effort.time).await?;
    running.timing()
}

/// Measures several graphs that are to be compared: they take turns, so that whatever else the
/// machine does, it does to all of them.
pub fn compare(device: &Device, cases: &[Case], effort: Effort) -> Vec<Result<Timing>> {
    pollster::block_on(compare_async(device, cases, effort))
}

/// [`compare`] for where nothing may block. Elsewhere it blocks all the same.
pub async fn compare_async(device: &Device, cases: &[Case<'_>], effort: Effort) -> Vec<Result<Timing>> {
    let mut running = Vec::new();
    for case in cases {
        running.push(Running::new(device, *case, effort).await);
    }
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < effort.runs || start.elapsed() < effort.time * cases.len() as u32 {
        for running in &mut running {
            // One that fails leaves the others their turns.
            if let Ok(measured) = running
                && let Err(e) = measured.measure(Effort { runs: 1, ..effort }, Duration::ZERO).await
            {
                *running = Err(e);
            }
        }
        rounds += 1;
    }
    running.into_iter().map(|running| running?.timing()).collect()
}

/// A graph that is being measured.
struct Running<'a> {
    case: Case<'a>,
    device: &'a Device,
    session: Session,
    picture: Tensor,
    first_ms: f64,
    /// Milliseconds of every run, of the wall and of the device's clock.
    walls: Vec<f64>,
    clocks: Vec<f64>,
    /// Milliseconds an inference took with another in flight.
    streams: Vec<f64>,
    /// Of each run all steps together, and of each step every run.
    sums: Vec<f64>,
    steps: Vec<Vec<f64>>,
}

impl<'a> Running<'a> {
    /// Builds the session and warms it up.
    async fn new(device: &'a Device, case: Case<'a>, effort: Effort) -> Result<Self> {
        let begun = Instant::now();
        let mut session = Session::build_graph(device, case.graph, case.input, case.options).await?;
        let built = begun.elapsed();
        // Not before: what no session takes may be too large to make.
        let picture = picture(case.input)?;
        let begun = Instant::now();
        session.answers(&picture).await?;
        let first_ms = 1e3 * (built + begun.elapsed()).as_secs_f64();
        for _ in 0..effort.warmup {
            session.answers(&picture).await?;
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

    /// Whether the device's clock, or the CPU's, can tell one step from the next.
    fn has_clock(&self) -> bool {
        match self.device {
            Device::Gpu(gpu) => gpu.has_timestamps(),
            Device::Cpu(_) => true,
        }
    }

    /// Each measurement as often as `effort` says, and longer up to `time`.
    async fn measure(&mut self, effort: Effort, time: Duration) -> Result<()> {
        let Self { session, picture, .. } = self;
        let walls = repeat(effort.runs, time, async || {
            let start = Instant::now();
            session.answers(picture).await?;
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
        // In turns, so that both meet the same moods of the machine.
        let sums = repeat(effort.runs, time, async || {
            if matches!(device, Device::Gpu(_)) {
                clocks.push(session.clock_async(picture).await? / 1e6);
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

    /// What came of it.
    fn timing(self) -> Result<Timing> {
        let gpu_missing = match self.device {
            Device::Gpu(gpu) if !gpu.has_timestamps() => Some(format!("{} has no timestamps", gpu.adapter())),
            Device::Gpu(_) if self.clocks.iter().all(|ms| *ms <= 0.0) => {
                Some("its clock stood still".to_string())
            }
            _ => None,
        };
        let clocked = gpu_missing.is_none();
        // A batch beyond the device's limits runs every step for each of its shares.
        let Case { graph, input, .. } = self.case;
        let share = self.session.plan().map_or(input.n, |plan| plan.input.shape.n);
        let shares = input.n.div_ceil(share) as u64;
        let macs = macs(graph, Shape { n: share, ..input })?;
        let steps = self.session.steps().into_iter().zip(self.steps).map(|(summary, times)| {
            let macs: u64 = summary.layers.iter().filter_map(|layer| macs.get(layer.as_str())).sum();
            let needed = Work { bytes: shares * summary.work.bytes, macs: shares * macs };
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

/// An input of this shape, of which nothing is zero.
fn picture(shape: Shape) -> Result<Tensor> {
    let mut values = Vec::new();
    // A batch that devices run in shares may still be larger than memory.
    let (needed, limit) = (4 * shape.len() as u64, cpu::available_bytes());
    if needed > limit || values.try_reserve_exact(shape.len()).is_err() {
        return Err(Error::Limit { what: "the input".into(), needed, limit });
    }
    values.extend((0..shape.len()).map(|i| (i as f32 * 0.37).sin()));
    Tensor::new(<[usize; 4]>::from(shape), values)
}

/// Milliseconds an inference takes with the next one in flight.
async fn stream(session: &mut Session, picture: &Tensor, runs: usize) -> Result<f64> {
    let start = Instant::now();
    let mut flying = session.submit(picture)?;
    for _ in 1..runs {
        let next = session.submit(picture)?;
        session.answer(std::mem::replace(&mut flying, next)).await?;
    }
    session.answer(flying).await?;
    Ok(1e3 * start.elapsed().as_secs_f64() / runs as f64)
}

/// What `run` gives, so often at least and as long as there is time.
async fn repeat(runs: usize, time: Duration, mut run: impl AsyncFnMut() -> Result<f64>) -> Result<Vec<f64>> {
    let start = Instant::now();
    let mut values = Vec::new();
    while values.len() < runs || start.elapsed() < time {
        values.push(run().await?);
    }
    Ok(values)
}

/// Multiply-adds of each layer.
fn macs(graph: &Graph, input: Shape) -> Result<HashMap<&str, u64>> {
    let costs = graph.costs(&graph.shapes(input)?);
    Ok(graph.nodes().zip(costs).map(|((_, node), cost)| (node.name(), cost.macs)).collect())
}
