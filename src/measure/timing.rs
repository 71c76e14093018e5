//! How long a network takes, and each of its steps.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{Peaks, Split, Spread, spread::noisy};
use crate::{
    Result, Shape, Tensor,
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

/// Measures `graph` for inputs of one shape.
///
/// # Errors
/// As [`Session::new`] and [`Session::run`].
pub fn time(
    device: &Device,
    graph: &Graph,
    input: Shape,
    options: Options,
    effort: Effort,
) -> Result<Timing> {
    let picture = Tensor::from_fn(<[usize; 4]>::from(input), |i| (i as f32 * 0.37).sin());
    let begun = Instant::now();
    let mut session = Session::of_graph(device, graph, input, options)?;
    session.run(&picture)?;
    let first_ms = 1e3 * begun.elapsed().as_secs_f64();
    for _ in 0..effort.warmup {
        session.run(&picture)?;
    }
    let walls = repeat(effort, || {
        let start = Instant::now();
        session.run(&picture)?;
        Ok(1e3 * start.elapsed().as_secs_f64())
    })?;
    let stream_ms = match device {
        Device::Gpu(_) => Some(stream(&mut session, &picture, walls.len())?),
        Device::Cpu(_) => None,
    };
    let clocks = match device {
        Device::Gpu(gpu) if gpu.has_timestamps() => repeat(effort, || Ok(session.clock(&picture)? / 1e6))?,
        _ => Vec::new(),
    };
    let gpu_missing = match device {
        Device::Gpu(gpu) if !gpu.has_timestamps() => Some(format!("{} has no timestamps", gpu.adapter())),
        Device::Gpu(_) if clocks.iter().all(|ms| *ms <= 0.0) => Some("its clock stood still".to_string()),
        _ => None,
    };
    let steps = session.steps();
    let mut of_steps: Vec<Vec<f64>> = vec![Vec::new(); steps.len()];
    let mut sums = Vec::new();
    if gpu_missing.is_none() {
        sums = repeat(effort, || {
            let times = session.profile(&picture)?;
            for (of_step, ns) in of_steps.iter_mut().zip(&times) {
                of_step.push(ns / 1e6);
            }
            Ok(times.iter().sum::<f64>() / 1e6)
        })?;
    }
    // A batch beyond the device's limits runs every step for each of its shares.
    let share = session.plan().map_or(input.n, |plan| plan.input.shape.n);
    let shares = input.n.div_ceil(share) as u64;
    let macs = macs(graph, Shape { n: share, ..input })?;
    let steps = steps.into_iter().zip(of_steps).map(|(summary, times)| {
        let macs: u64 = summary.layers.iter().filter_map(|layer| macs.get(layer.as_str())).sum();
        let needed = Work { bytes: shares * summary.work.bytes, macs: shares * macs };
        StepTime { summary, needed, ms: Spread::of(times) }
    });
    Ok(Timing {
        precision: session.element(),
        first_ms,
        noisy: noisy(&walls),
        wall_ms: Spread::of(walls).unwrap_or(Spread { median: first_ms, min: first_ms, max: first_ms }),
        gpu_ms: Spread::of(clocks).filter(|_| gpu_missing.is_none()),
        steps_ms: Spread::of(sums),
        gpu_missing,
        stream_ms,
        peak_bytes: session.peak_bytes(),
        steps: steps.collect(),
    })
}

/// Milliseconds an inference takes with the next one in flight.
fn stream(session: &mut Session, picture: &Tensor, runs: usize) -> Result<f64> {
    let start = Instant::now();
    let mut flying = session.submit(picture)?;
    for _ in 1..runs {
        let next = session.submit(picture)?;
        session.collect(std::mem::replace(&mut flying, next))?;
    }
    session.collect(flying)?;
    Ok(1e3 * start.elapsed().as_secs_f64() / runs as f64)
}

/// What `run` gives, time after time.
fn repeat(effort: Effort, mut run: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    let start = Instant::now();
    let mut values = Vec::new();
    while values.len() < effort.runs || start.elapsed() < effort.time {
        values.push(run()?);
    }
    Ok(values)
}

/// Multiply-adds of each layer.
fn macs(graph: &Graph, input: Shape) -> Result<HashMap<&str, u64>> {
    let costs = graph.costs(&graph.shapes(input)?);
    Ok(graph.nodes().zip(costs).map(|((_, node), cost)| (node.name(), cost.macs)).collect())
}
