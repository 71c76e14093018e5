//! Measures what is worth measuring.

use std::{collections::HashSet, fmt, time::Duration};

use serde::Serialize;
use web_time::Instant;

use super::{
    Front, Limit, Limits, Measured, Published, Rule,
    floor::{Demand, Rate, graph, options},
    race::{Entry, Goal, State, is_ruled_out, next},
};
use crate::{
    Error, Result, Shape,
    measure::{Case, Effort, time},
    quantize::Precision,
    session::Device,
    tensor::Element,
    zoo::{Network, synthetic},
};

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What may be on the front or keep to the limits, for three quarters of a minute at most; what is begun is ended.
    Quick,
    /// Everything, longer each.
    Thorough,
}

impl Depth {
    fn effort(self) -> Effort {
        match self {
            Self::Quick => Effort { warmup: 2, runs: 5, time: Duration::from_millis(150) },
            Self::Thorough => Effort { warmup: 3, runs: 10, time: Duration::from_millis(500) },
        }
    }

    fn budget(self) -> Duration {
        match self {
            Self::Quick => Duration::from_secs(45),
            Self::Thorough => Duration::MAX,
        }
    }
}

/// What is done just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How many networks were measured or need not be.
    pub done: usize,
    /// Of how many.
    pub of: usize,
    /// The network, or what the device is measured for.
    pub what: String,
}

/// What became of all networks: on each device and in each precision one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All.
    pub candidates: usize,
    /// Those that were measured.
    pub measured: usize,
    /// Those that were not because of what is published of them: accuracy, or the size of their file.
    pub excluded: usize,
    /// Those that a bound on their time or their memory ruled out.
    pub ruled_out: usize,
    /// Those that there was no time for.
    pub unreached: usize,
    /// Those that could not be measured.
    pub failed: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} measured", self.measured, self.candidates)?;
        for (count, what) in [
            (self.excluded, "excluded by what is published of them"),
            (self.ruled_out, "ruled out by a bound on their time or memory"),
            (self.unreached, "not reached in time"),
            (self.failed, "failed"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// What could not be measured, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The network, its size, precision and device.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// All that was measured.
    pub front: Front,
    /// What became of all networks.
    pub counts: Counts,
    /// What could not be measured.
    pub failures: Vec<Failure>,
}

impl Choice {
    /// The network to take, and why; see [`Front::pick`].
    pub fn recommended(&self, limits: &Limits) -> Option<(&Measured, Rule)> {
        self.front.pick(limits)
    }
}

/// Measures `networks` in each of `precisions` on each of `devices`, as far as is needed for the front within `limits`.
/// Where nothing keeps to the limits, those are measured that come nearest. A precision that a device lacks is left out
/// there. Published accuracies are of f32, and are taken for those of all precisions.
///
/// # Errors
/// [`Error::Input`] if there is no network; [`Error::NoF16`] if no device has any of the precisions; as
/// [`Peaks::measure`](crate::measure::Peaks::measure). What cannot be measured by itself is one of [`Choice::failures`].
pub fn choose(
    devices: &[Device],
    networks: &[&Published],
    precisions: &[Precision],
    limits: &Limits,
    depth: Depth,
    progress: impl FnMut(Progress),
) -> Result<Choice> {
    if networks.is_empty() {
        return Err(Error::Input("there is no such network to choose from".into()));
    }
    let mut chooser = Chooser::new(devices, networks, precisions, limits, depth, progress)?;
    let within = limits.within_ms;
    let goal = if depth == Depth::Thorough { Goal::All } else { Goal::Front(within) };
    let published: HashSet<usize> =
        chooser.all(|candidate| limits.admit_published(candidate.accuracy(), candidate.download()));
    chooser.run(goal, &published)?;
    chooser.confirm(goal);
    if !limits.is_empty() && chooser.front().pick(limits).is_none() {
        chooser.approach(limits)?;
    }
    let counts = chooser.counts(goal, &published);
    Ok(Choice { front: chooser.front(), counts, failures: chooser.failures })
}

/// A network in a precision on a device.
struct Candidate<'a> {
    device: &'a Device,
    published: &'a Published,
    precision: Precision,
    demand: Option<Demand>,
    measured: Option<Measured>,
}

impl Candidate<'_> {
    fn accuracy(&self) -> f64 {
        self.published.accuracy
    }

    fn download(&self) -> u64 {
        self.published.download_bytes
    }

    fn input(&self, network: &Network) -> Shape {
        Shape { h: self.published.size, w: self.published.size, ..network.input_shape(1) }
    }

    fn name(&self) -> String {
        format!("{} at {}, {}", self.published, self.published.size, self.precision)
    }
}

struct Chooser<'a, F> {
    candidates: Vec<Candidate<'a>>,
    /// One for each candidate.
    entries: Vec<Entry>,
    /// The best that each way of computing did.
    rates: Vec<Option<Rate>>,
    failures: Vec<Failure>,
    /// The network that was built last, by its structure.
    network: Option<(&'a str, Network)>,
    memory: Option<u64>,
    depth: Depth,
    begun: Instant,
    progress: F,
}

impl<'a, F: FnMut(Progress)> Chooser<'a, F> {
    fn new(
        devices: &'a [Device],
        networks: &[&'a Published],
        precisions: &[Precision],
        limits: &Limits,
        depth: Depth,
        progress: F,
    ) -> Result<Self> {
        let mut candidates = Vec::new();
        let mut entries = Vec::new();
        let mut ways = 0;
        let mut lacking = None;
        for (at, device) in devices.iter().enumerate() {
            if let Device::Gpu(gpu) = device {
                // As sessions of networks do.
                pollster::block_on(gpu.calibrate())?;
            }
            for &precision in precisions {
                let element = if precision == Precision::F16 { Element::F16 } else { Element::F32 };
                if let Err(error) = device.supports(element) {
                    log::info!("{error}");
                    lacking = Some(error);
                    continue;
                }
                for &published in networks {
                    candidates.push(Candidate { device, published, precision, demand: None, measured: None });
                    entries.push(Entry {
                        accuracy: published.accuracy,
                        group: 4 * at + published.metric as usize,
                        way: ways,
                        floor_ms: 0.0,
                        state: State::Waiting,
                    });
                }
                ways += 1;
            }
        }
        match lacking {
            Some(error) if candidates.is_empty() => return Err(error),
            _ => {}
        }
        Ok(Self {
            candidates,
            entries,
            rates: vec![None; ways],
            failures: Vec::new(),
            network: None,
            memory: limits.memory,
            depth,
            begun: Instant::now(),
            progress,
        })
    }

    /// Those of which this holds.
    fn all(&self, holds: impl Fn(&Candidate) -> bool) -> HashSet<usize> {
        (0..self.candidates.len()).filter(|i| holds(&self.candidates[*i])).collect()
    }

    /// Whether its weights alone are more than there may be.
    fn is_too_large(&self, i: usize) -> bool {
        let bytes = self.candidates[i].demand.map(|demand| demand.weight_bytes);
        self.memory.zip(bytes).is_some_and(|(most, bytes)| bytes > most)
    }

    /// Measures for `goal` those that take part, as long as there is time.
    fn run(&mut self, goal: Goal, part: &HashSet<usize>) -> Result<()> {
        // Of a few networks it is quicker to measure all than to find out which need not be.
        const FEW: usize = 4;
        if part.len() > FEW && !matches!(goal, Goal::All | Goal::MostAccurate(None)) {
            self.survey(part)?;
        }
        loop {
            let takes_part = |i: usize| part.contains(&i) && (goal == Goal::All || !self.is_too_large(i));
            let Some(i) = next(&self.entries, goal, takes_part) else { return Ok(()) };
            let open = self.open(goal, part).count();
            self.tell(part.len() - open, part.len(), self.candidates[i].name());
            self.measure(i);
            if self.begun.elapsed() > self.depth.budget() {
                return Ok(());
            }
        }
    }

    /// Measures again, some time later, what would matter if it were twice as quick, as it is where something else was
    /// running for all of a measurement. The quicker time counts.
    fn confirm(&mut self, goal: Goal) {
        let entries: Vec<&Entry> = self.entries.iter().collect();
        let matters = |i: &usize| {
            let entry = &self.entries[*i];
            let halved = entry.took().map(|ms| Entry { floor_ms: ms / 2.0, ..*entry });
            halved.is_some_and(|halved| !is_ruled_out(&halved, &entries, goal))
        };
        let mut again: Vec<usize> = (0..self.entries.len()).filter(matters).collect();
        // Each structure is built once.
        again.sort_by_key(|i| self.candidates[*i].published.structure.as_str());
        let count = again.len();
        for (done, i) in again.into_iter().enumerate() {
            if self.begun.elapsed() > self.depth.budget() {
                return;
            }
            self.tell(done, count, format!("{} again", self.candidates[i].name()));
            match self.timed(i) {
                Ok(measured) if self.entries[i].took().is_some_and(|ms| measured.ms.median < ms) => {
                    self.entries[i].state = State::Took(measured.ms.median);
                    self.candidates[i].measured = Some(measured);
                }
                Ok(_) => {}
                Err(error) => log::debug!("{}, measured again: {error}", self.candidates[i].name()),
            }
        }
    }

    /// Those that still have to be measured for `goal`.
    fn open<'s>(&'s self, goal: Goal, part: &'s HashSet<usize>) -> impl Iterator<Item = usize> + 's {
        let running: Vec<&Entry> = part.iter().map(|i| &self.entries[*i]).collect();
        part.iter().copied().filter(move |i| {
            let entry = &self.entries[*i];
            let large = goal != Goal::All && self.is_too_large(*i);
            entry.state == State::Waiting && !large && !is_ruled_out(entry, &running, goal)
        })
    }

    fn counts(&self, goal: Goal, part: &HashSet<usize>) -> Counts {
        let waiting = |taking_part: bool| {
            let of = |i: &usize| part.contains(i) == taking_part && self.entries[*i].state == State::Waiting;
            (0..self.entries.len()).filter(of).count()
        };
        let unreached = self.open(goal, part).count();
        Counts {
            candidates: self.entries.len(),
            measured: self.entries.iter().filter(|entry| entry.took().is_some()).count(),
            excluded: waiting(false),
            ruled_out: waiting(true) - unreached,
            unreached,
            failed: self.failures.len(),
        }
    }

    /// Where nothing keeps to the limits: measures for each of them what comes nearest to it, of those that keep to
    /// the others.
    fn approach(&mut self, limits: &Limits) -> Result<()> {
        for limit in Limit::ALL.into_iter().filter(|limit| limits.has(*limit)) {
            let rest = limits.without(limit);
            let part = self.all(|candidate| rest.admit_published(candidate.accuracy(), candidate.download()));
            let least = |by: &dyn Fn(&Candidate) -> u64| {
                part.iter().copied().min_by_key(|i| (by(&self.candidates[*i]), *i))
            };
            let one = match limit {
                Limit::Within => {
                    self.run(Goal::Quickest, &part)?;
                    continue;
                }
                Limit::Accuracy => {
                    self.run(Goal::MostAccurate(rest.within_ms), &part)?;
                    continue;
                }
                Limit::Memory => least(&|candidate| candidate.published.parameters),
                Limit::Download => least(&|candidate| candidate.download()),
            };
            if let Some(i) = one.filter(|i| self.entries[*i].state == State::Waiting) {
                self.tell(0, 1, self.candidates[i].name());
                self.measure(i);
            }
        }
        Ok(())
    }

    /// Finds the floors of those that take part.
    fn survey(&mut self, part: &HashSet<usize>) -> Result<()> {
        let missing = |i: &usize| part.contains(i) && self.candidates[*i].demand.is_none();
        let mut missing: Vec<usize> = (0..self.candidates.len()).filter(missing).collect();
        // Each structure is built once.
        missing.sort_by_key(|i| self.candidates[*i].published.structure.as_str());
        let count = missing.len();
        for (done, i) in missing.into_iter().enumerate() {
            self.tell(done, count, format!("work of {}", self.candidates[i].published));
            let Candidate { device, precision, published, .. } = self.candidates[i];
            let way = self.entries[i].way;
            if self.rates[way].is_none() {
                let rate = Rate::measure(device, precision)?;
                log::info!("{device}, {precision}: {:.1} G multiply-adds/s at best", rate.macs / 1e9);
                self.rates[way] = Some(rate);
            }
            let input = |network: &Network| self.candidates[i].input(network);
            let demand = built(&mut self.network, &published.structure).and_then(|network| {
                // In 8 bits too: it has as many multiply-adds, and no fewer steps.
                Demand::of(device, &graph(network, Precision::F32)?, input(network), precision)
            });
            match demand {
                Ok(demand) => self.candidates[i].demand = Some(demand),
                Err(error) => self.fail(i, &error),
            }
        }
        self.floors();
        Ok(())
    }

    fn floors(&mut self) {
        for (candidate, entry) in self.candidates.iter().zip(&mut self.entries) {
            if let (Some(demand), Some(rate)) = (candidate.demand, self.rates[entry.way]) {
                entry.floor_ms = rate.floor_ms(demand);
            }
        }
    }

    fn measure(&mut self, i: usize) {
        match self.timed(i) {
            Ok(measured) => {
                self.entries[i].state = State::Took(measured.ms.median);
                // What was done can be done: a device that was busy while it was rated is rated again.
                let done = 1e3 * measured.macs as f64 / measured.ms.min;
                if let Some(rate) = self.rates[self.entries[i].way].as_mut().filter(|rate| rate.macs < done) {
                    log::debug!("{:.1} G multiply-adds/s in {}", done / 1e9, measured.published);
                    rate.macs = done;
                    self.floors();
                }
                self.candidates[i].measured = Some(measured);
            }
            Err(error) => self.fail(i, &error),
        }
    }

    fn timed(&mut self, i: usize) -> Result<Measured> {
        let Candidate { device, published, precision, .. } = self.candidates[i];
        let network = built(&mut self.network, &published.structure)?;
        let (graph, input) = (graph(network, precision)?, self.candidates[i].input(network));
        let demand = match self.candidates[i].demand {
            Some(demand) => demand,
            None => Demand::of(device, &graph, input, precision)?,
        };
        self.candidates[i].demand = Some(demand);
        let case = Case { graph: &graph, input, options: options(precision) };
        let timing = time(device, case, self.depth.effort())?;
        Ok(Measured {
            published: published.clone(),
            precision,
            backend: device.backend(),
            device: device.to_string(),
            ms: timing.wall_ms,
            gpu_ms: timing.gpu_ms,
            noisy: timing.noisy,
            macs: demand.macs,
            memory_bytes: timing.peak_bytes,
        })
    }

    fn fail(&mut self, i: usize, error: &Error) {
        self.entries[i].state = State::Failed;
        let what = format!("{} on {}", self.candidates[i].name(), self.candidates[i].device);
        self.failures.push(Failure { what, reason: error.to_string() });
    }

    fn tell(&mut self, done: usize, of: usize, what: String) {
        (self.progress)(Progress { done, of, what });
    }

    fn front(&self) -> Front {
        Front::of(self.candidates.iter().filter_map(|candidate| candidate.measured.clone()).collect())
    }
}

/// The network of this structure, built unless it is the last one that was.
fn built<'n, 'a>(last: &'n mut Option<(&'a str, Network)>, structure: &'a str) -> Result<&'n Network> {
    match last {
        Some((name, _)) if *name == structure => {}
        _ => *last = Some((structure, synthetic::network(structure)?)),
    }
    match last {
        Some((_, network)) => Ok(network),
        None => Err(Error::UnknownNetwork(structure.into())),
    }
}
