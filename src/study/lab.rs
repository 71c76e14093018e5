//! Where experiments measure: the devices, what was measured on them so far, and what failed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::Mode;
use crate::{
    Result, Shape,
    graph::{Cost, Graph},
    measure::{self, Effort, Peaks, Timing, report::Cell},
    plan::Fuse,
    session::{Device, Options},
    tensor::Element,
    zoo::synthetic,
};

/// A device and what it is called in figures.
pub struct Bench {
    pub device: Device,
    pub label: String,
    pub peaks: Result<Peaks, String>,
}

/// What was measured, or why it was not.
pub type Measured = Result<Arc<Timing>, String>;

pub struct Lab<'a> {
    pub benches: Vec<Bench>,
    pub mode: Mode,
    /// Measurements that failed, and why; each experiment takes its own.
    pub failures: Vec<String>,
    effort: Effort,
    measured: HashMap<(usize, String), Measured>,
    graphs: HashMap<String, Arc<Graph>>,
    hear: Box<dyn FnMut(&str) + 'a>,
    stop: &'a AtomicBool,
}

impl<'a> Lab<'a> {
    pub fn new(devices: &[Device], mode: Mode, hear: impl FnMut(&str) + 'a, stop: &'a AtomicBool) -> Self {
        let (warmup, runs, time) = match mode {
            Mode::Quick => (1, 5, Duration::from_millis(100)),
            Mode::Full => (5, 20, Duration::from_secs(1)),
        };
        let mut hear: Box<dyn FnMut(&str) + 'a> = Box::new(hear);
        let bench = |device: &Device| {
            hear("peaks");
            let label = match device {
                Device::Gpu(gpu) if gpu.adapter().software => "software GPU",
                Device::Gpu(_) => "GPU",
                Device::Cpu(_) => "CPU",
            };
            let peaks = Peaks::measure(device, Element::F32).map_err(|e| e.to_string());
            Bench { device: device.clone(), label: label.into(), peaks }
        };
        let benches: Vec<Bench> = devices.iter().map(bench).collect();
        Self {
            benches,
            mode,
            failures: Vec::new(),
            effort: Effort { warmup, runs, time },
            measured: HashMap::new(),
            graphs: HashMap::new(),
            hear,
            stop,
        }
    }

    /// Whether no more is to be measured.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn quick(&self) -> bool {
        self.mode == Mode::Quick
    }

    /// Devices by their places.
    pub fn devices(&self) -> std::ops::Range<usize> {
        0..self.benches.len()
    }

    /// The graphics adapter's place, if there is one.
    pub fn gpu(&self) -> Option<usize> {
        self.benches.iter().position(|bench| matches!(bench.device, Device::Gpu(_)))
    }

    pub fn label(&self, at: usize) -> &str {
        &self.benches[at].label
    }

    pub fn peaks(&self, at: usize) -> Option<Peaks> {
        self.benches[at].peaks.as_ref().ok().copied()
    }

    /// A network of [`synthetic::NAMES`], made once.
    pub fn graph(&mut self, name: &str) -> Result<Arc<Graph>> {
        if let Some(graph) = self.graphs.get(name) {
            return Ok(graph.clone());
        }
        let graph = Arc::new(synthetic::network(name)?.graph);
        self.graphs.insert(name.into(), graph.clone());
        Ok(graph)
    }

    /// Says what is being done.
    pub fn say(&mut self, what: &str) {
        (self.hear)(what);
    }

    /// Measures a network of that name for inputs of 224x224, unless that was done before.
    pub fn network(&mut self, at: usize, name: &str, batch: usize, fuse: Fuse) -> Measured {
        let graph = self.graph(name).map_err(|e| e.to_string())?;
        let case = Case::new(name, &graph, Shape::new(batch, 3, 224, 224), fuse);
        let key = self.key(at, &case);
        match self.measured.get(&key) {
            Some(known) => known.clone(),
            None => self.compare(at, &[case]).remove(0),
        }
    }

    /// Measures graphs that are to be compared, in turns.
    pub fn compare(&mut self, at: usize, cases: &[Case]) -> Vec<Measured> {
        if self.is_stopped() {
            return cases.iter().map(|_| Err("interrupted".into())).collect();
        }
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        let label = self.label(at).to_string();
        (self.hear)(&format!("{} on the {label}", names.join(", ")));
        let each: Vec<measure::Case> = cases.iter().map(|case| self.options(at, case)).collect();
        let timings = measure::compare(&self.benches[at].device, &each, self.effort);
        let mut measured = Vec::new();
        for (case, timing) in cases.iter().zip(timings) {
            let what = format!("{}, {}{}, on the {label}", case.name, case.input, case.joined());
            let timing = timing.map(Arc::new).map_err(|e| e.to_string());
            match &timing {
                Ok(timing) if timing.noisy => {
                    self.failures.push(format!("{what}: too noisy to rely on, something else was running"));
                }
                Ok(timing) => {
                    let missing = timing.gpu_missing.as_ref();
                    self.failures
                        .extend(missing.map(|reason| format!("{what}: by the wall's clock: {reason}")));
                }
                Err(reason) => self.failures.push(format!("{what}: not measured: {reason}")),
            }
            let key = self.key(at, case);
            self.measured.insert(key, timing.clone());
            measured.push(timing);
        }
        measured
    }

    /// The case as the device runs it: the CPU has one way to run a graph.
    fn options<'b>(&self, at: usize, case: &Case<'b>) -> measure::Case<'b> {
        let cpu = matches!(self.benches[at].device, Device::Cpu(_));
        let (fuse, baseline) = if cpu { (Fuse::None, true) } else { (case.fuse, case.baseline) };
        let options = Options { fuse, baseline, ..Options::default() };
        measure::Case { graph: case.graph, input: case.input, options }
    }

    /// What tells a measurement from all others.
    fn key(&self, at: usize, case: &Case) -> (usize, String) {
        let options = self.options(at, case).options;
        (at, format!("{} {} {:?} {}", case.name, case.input, options.fuse, options.baseline))
    }
}

/// Something to measure.
pub struct Case<'a> {
    pub name: String,
    pub graph: &'a Graph,
    pub input: Shape,
    pub fuse: Fuse,
    /// With the baseline's kernels alone: those that standard convolutions have too.
    pub baseline: bool,
}

impl<'a> Case<'a> {
    pub fn new(name: impl Into<String>, graph: &'a Graph, input: Shape, fuse: Fuse) -> Self {
        Self { name: name.into(), graph, input, fuse, baseline: false }
    }

    pub fn baseline(name: impl Into<String>, graph: &'a Graph, input: Shape, fuse: Fuse) -> Self {
        Self { baseline: true, ..Self::new(name, graph, input, fuse) }
    }

    /// Which layers share a kernel, where that is not the planner's choice.
    fn joined(&self) -> &'static str {
        match self.fuse {
            Fuse::Auto => "",
            Fuse::None => ", a kernel a layer",
            Fuse::Pair => ", pairs of layers",
            Fuse::Block => ", whole blocks",
        }
    }
}

/// What a graph costs for inputs of one shape.
pub fn cost(graph: &Graph, input: Shape) -> Result<Cost> {
    Ok(graph.costs(&graph.shapes(input)?).into_iter().sum())
}

/// A time in a table.
pub fn cell(measured: &Measured) -> Cell {
    match measured {
        Ok(timing) => timing.ms().into(),
        Err(reason) => Cell::missing(reason.clone()),
    }
}

/// How many times as long one took as another, by their medians.
pub fn ratio(long: &Measured, short: &Measured) -> Option<f64> {
    Some(long.as_ref().ok()?.ms().median / short.as_ref().ok()?.ms().median)
}

/// What was measured in a table, with so many digits behind the point.
pub fn number(value: Option<f64>, digits: usize) -> Cell {
    value.map_or_else(|| Cell::missing("not measured"), |value| Cell::Number(value, digits))
}

/// A ratio in a table.
pub fn factor(ratio: Option<f64>) -> Cell {
    number(ratio, 2)
}

/// A share in a table, in percent.
pub fn share(share: Option<f64>) -> Cell {
    number(share.map(|share| 100.0 * share), 0)
}

/// "36 %", with a space that does not break.
pub fn percent(share: f64) -> String {
    format!("{:.0}\u{a0}%", 100.0 * share)
}

/// "3.4 times"
pub fn times(ratio: f64) -> String {
    format!("{ratio:.2} times")
}
