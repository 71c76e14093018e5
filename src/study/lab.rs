//! State that the experiments share: the devices, the measurements so far, and the failures.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    Mode, Waiting,
    answer::{Evidence, Savings},
};
use crate::{
    Result, Shape,
    graph::{Cost, Graph},
    measure::{
        self, Peaks, Sampling, Timing,
        report::{Cell, Outcome},
    },
    plan::Fuse,
    session::{Device, Options, Precision},
    tensor::Element,
    zoo::synthetic,
};

/// A device, with its name in figures.
pub struct Bench {
    pub device: Device,
    pub label: String,
    pub peaks: Result<Peaks, String>,
}

/// A measurement, or the reason why it failed.
pub type Measured = Result<Arc<Timing>, String>;

/// Called with what is being measured. The study waits for the future.
type Announce<'a> = Box<dyn FnMut(&str) -> Waiting<'a> + 'a>;

pub struct Lab<'a> {
    pub benches: Vec<Bench>,
    pub mode: Mode,
    /// Failed measurements with their reasons; each experiment moves its own to its section.
    pub failures: Vec<String>,
    /// Measurements for the answer at the top of the page.
    pub evidence: Evidence,
    sampling: Sampling,
    measured: HashMap<(usize, String), Measured>,
    graphs: HashMap<String, Arc<Graph>>,
    on_progress: Announce<'a>,
    stop: &'a AtomicBool,
}

impl<'a> Lab<'a> {
    /// Measures the peak rates of the devices.
    pub async fn new(
        devices: &[Device],
        mode: Mode,
        on_progress: impl FnMut(&str) -> Waiting<'a> + 'a,
        stop: &'a AtomicBool,
    ) -> Self {
        let (warmup, runs, time) = match mode {
            Mode::Quick => (1, 5, Duration::from_millis(100)),
            Mode::Full => (5, 20, Duration::from_secs(1)),
        };
        let mut lab = Self {
            benches: Vec::new(),
            mode,
            failures: Vec::new(),
            evidence: Evidence::default(),
            sampling: Sampling { warmup, runs, time },
            measured: HashMap::new(),
            graphs: HashMap::new(),
            on_progress: Box::new(on_progress),
            stop,
        };
        // Experiments compare the first device, a graphics adapter, with the second, the CPU.
        let (gpus, cpus): (Vec<&Device>, Vec<&Device>) =
            devices.iter().partition(|device| matches!(device, Device::Gpu(_)));
        for device in gpus.into_iter().chain(cpus) {
            let label = match device {
                Device::Gpu(gpu) if gpu.adapter().software => "software GPU",
                Device::Gpu(_) => "GPU",
                Device::Cpu(_) => "CPU",
            };
            lab.announce(&format!("peak rates of the {label}")).await;
            let peaks = Peaks::measure_async(device, Element::F32).await.map_err(|e| e.to_string());
            lab.benches.push(Bench { device: device.clone(), label: label.into(), peaks });
            lab.evidence.devices.push(Savings::default());
        }
        lab
    }

    /// True if the study was asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn quick(&self) -> bool {
        self.mode == Mode::Quick
    }

    /// The indices of the devices.
    pub fn devices(&self) -> std::ops::Range<usize> {
        0..self.benches.len()
    }

    /// The index of the graphics adapter, if there is one.
    pub fn gpu(&self) -> Option<usize> {
        self.benches.iter().position(|bench| matches!(bench.device, Device::Gpu(_)))
    }

    /// True for a graphics adapter that is not software, which would compute on the CPU.
    pub fn is_parallel(&self, at: usize) -> bool {
        matches!(&self.benches[at].device, Device::Gpu(gpu) if !gpu.adapter().software)
    }

    /// The outcome of the claim that CPUs realise more of the saving than parallel devices.
    pub fn claim_on_cpu(&self) -> Outcome {
        match (self.evidence.more_on_cpu, self.gpu()) {
            (Some((more, layers)), Some(gpu)) if self.is_parallel(gpu) => Outcome::of(more, layers),
            _ => Outcome::Untested,
        }
    }

    pub fn label(&self, at: usize) -> &str {
        &self.benches[at].label
    }

    /// `gpu` or `cpu`.
    pub fn backend(&self, at: usize) -> &'static str {
        self.benches[at].device.backend()
    }

    pub fn peaks(&self, at: usize) -> Option<Peaks> {
        self.benches[at].peaks.as_ref().ok().copied()
    }

    /// A network of [`synthetic::NAMES`], built once.
    pub fn graph(&mut self, name: &str) -> Result<Arc<Graph>> {
        if let Some(graph) = self.graphs.get(name) {
            return Ok(graph.clone());
        }
        let graph = Arc::new(synthetic::network(name)?.graph);
        self.graphs.insert(name.into(), graph.clone());
        Ok(graph)
    }

    /// Reports the current activity.
    pub async fn announce(&mut self, what: &str) {
        (self.on_progress)(what).await;
    }

    /// [`Lab::announce`] from a callback.
    #[cfg(all(feature = "demo", not(target_arch = "wasm32")))]
    pub fn announce_now(&mut self, what: &str) {
        pollster::block_on(self.announce(what));
    }

    /// Measures the network of this name for inputs of 224x224, or returns the earlier measurement.
    pub async fn network(&mut self, at: usize, name: &str, batch: usize, fuse: Fuse) -> Measured {
        let graph = self.graph(name).map_err(|e| e.to_string())?;
        let case = Case::new(name, &graph, Shape::new(batch, 3, 224, 224), fuse);
        let key = self.key(at, &case);
        match self.measured.get(&key) {
            Some(known) => known.clone(),
            None => self.compare(at, &[case]).await.remove(0),
        }
    }

    /// [`Lab::compare`] on every device.
    pub async fn compare_all(&mut self, cases: &[Case<'_>]) -> Vec<Vec<Measured>> {
        let mut measured = Vec::new();
        for at in self.devices() {
            measured.push(self.compare(at, cases).await);
        }
        measured
    }

    /// Measures graphs for comparison: their runs alternate.
    pub async fn compare(&mut self, at: usize, cases: &[Case<'_>]) -> Vec<Measured> {
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        let label = self.label(at).to_string();
        if !self.is_stopped() {
            self.announce(&format!("{} on the {label}", names.join(", "))).await;
        }
        if self.is_stopped() {
            return cases.iter().map(|_| Err("interrupted".into())).collect();
        }
        let each: Vec<measure::Case> = cases.iter().map(|case| self.options(at, case)).collect();
        let timings = measure::compare_async(&self.benches[at].device, &each, self.sampling).await;
        let mut measured = Vec::new();
        for (case, timing) in cases.iter().zip(timings) {
            let what = format!("{}, {}{}, on the {label}", case.name, case.input, case.fuse_suffix());
            let timing = timing.map(Arc::new).map_err(|e| e.to_string());
            match &timing {
                Ok(timing) if timing.noisy => {
                    self.failures.push(format!("{what}: too noisy to rely on: another program was running"));
                }
                Ok(timing) => {
                    let missing = timing.gpu_missing.as_ref();
                    self.failures
                        .extend(missing.map(|reason| format!("{what}: wall-clock times only: {reason}")));
                }
                Err(reason) => self.failures.push(format!("{what}: not measured: {reason}")),
            }
            let key = self.key(at, case);
            self.measured.insert(key, timing.clone());
            measured.push(timing);
        }
        measured
    }

    /// The case with the options for a device: the CPU ignores `fuse` and `baseline`.
    fn options<'b>(&self, at: usize, case: &Case<'b>) -> measure::Case<'b> {
        let cpu = matches!(self.benches[at].device, Device::Cpu(_));
        let (fuse, baseline) = if cpu { (Fuse::None, true) } else { (case.fuse, case.baseline) };
        // Not what `tune` has found faster on this machine.
        let options = Options { fuse, baseline, precision: Precision::F32, ..Options::default() };
        measure::Case { graph: case.graph, input: case.input, options }
    }

    /// The key of a measurement.
    fn key(&self, at: usize, case: &Case) -> (usize, String) {
        let options = self.options(at, case).options;
        (at, format!("{} {} {:?} {}", case.name, case.input, options.fuse, options.baseline))
    }
}

/// A graph to measure.
pub struct Case<'a> {
    pub name: String,
    pub graph: &'a Graph,
    pub input: Shape,
    pub fuse: Fuse,
    /// True to use only kernels of WebGPU's baseline, to compare standard convolutions with others.
    pub baseline: bool,
}

impl<'a> Case<'a> {
    pub fn new(name: impl Into<String>, graph: &'a Graph, input: Shape, fuse: Fuse) -> Self {
        Self { name: name.into(), graph, input, fuse, baseline: false }
    }

    pub fn baseline(name: impl Into<String>, graph: &'a Graph, input: Shape, fuse: Fuse) -> Self {
        Self { baseline: true, ..Self::new(name, graph, input, fuse) }
    }

    /// The fusion of layers, as a suffix; empty for the planner's choice.
    fn fuse_suffix(&self) -> &'static str {
        match self.fuse {
            Fuse::Auto => "",
            Fuse::None => ", one kernel per layer",
            Fuse::Pair => ", pairs of layers",
            Fuse::Block => ", whole blocks",
        }
    }
}

/// The cost of a graph for inputs of one shape.
pub fn cost(graph: &Graph, input: Shape) -> Result<Cost> {
    Ok(graph.costs(&graph.shapes(input)?).into_iter().sum())
}

/// A time as a table cell.
pub fn cell(measured: &Measured) -> Cell {
    match measured {
        Ok(timing) => timing.ms().into(),
        Err(reason) => Cell::missing(reason.clone()),
    }
}

/// The ratio of two median times.
pub fn ratio(long: &Measured, short: &Measured) -> Option<f64> {
    Some(long.as_ref().ok()?.ms().median / short.as_ref().ok()?.ms().median)
}

/// A measured number as a table cell, with `digits` decimal places.
pub fn number(value: Option<f64>, digits: usize) -> Cell {
    value.map_or_else(|| Cell::missing("not measured"), |value| Cell::Number(value, digits))
}

/// A ratio as a table cell.
pub fn factor(ratio: Option<f64>) -> Cell {
    number(ratio, 2)
}

/// A fraction as a table cell, in percent.
pub fn share(share: Option<f64>) -> Cell {
    number(share.map(|share| 100.0 * share), 0)
}

/// "36 %", with a no-break space.
pub fn percent(share: f64) -> String {
    format!("{:.0}\u{a0}%", 100.0 * share)
}

/// "3.40 times".
pub fn times(ratio: f64) -> String {
    format!("{ratio:.2} times")
}
