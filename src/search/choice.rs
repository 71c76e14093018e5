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
    /// What may be on the front or keep to the limits. After 45 seconds no measurement is started.
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
    /// Candidates that were measured or ruled out.
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
    let mut chooser = Chooser::new(devices, networks, precisions, depth, progress)?;
    let goal = if depth == Depth::Thorough { Goal::All } else { Goal::Front(limits.within_ms) };
    chooser.run(goal, limits)?;
    chooser.confirm(goal, limits);
    if !limits.is_empty() && chooser.front(limits).pick(limits).is_none() {
        chooser.approach(limits)?;
    }
    let counts = chooser.counts(goal, limits);
    Ok(Choice { front: chooser.front(limits), counts, failures: chooser.failures })
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

    /// Bytes of its maps and weights, or, until it is measured, of its weights alone.
    fn least_bytes(&self) -> u64 {
        let measured = self.measured.as_ref().map(|measured| measured.memory_bytes);
        measured.or(self.demand.map(|demand| demand.weight_bytes)).unwrap_or(0)
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
    /// The peak of each device and precision.
    rates: Vec<Option<Rate>>,
    failures: Vec<Failure>,
    /// The network that was built last, by its structure.
    network: Option<(&'a str, Network)>,
    depth: Depth,
    begun: Instant,
    progress: F,
}

impl<'a, F: FnMut(Progress)> Chooser<'a, F> {
    fn new(
        devices: &'a [Device],
        networks: &[&'a Published],
        precisions: &[Precision],
        depth: Depth,
        progress: F,
    ) -> Result<Self> {
        let mut candidates = Vec::new();
        let mut entries = Vec::new();
        let mut rates = 0;
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
                        // What 8 bits cost is not known: they are compared with one another.
                        group: (at, published.metric, precision == Precision::Int8),
                        rate: rates,
                        floor_ms: 0.0,
                        state: State::Waiting,
                    });
                }
                rates += 1;
            }
        }
        match lacking {
            Some(error) if candidates.is_empty() => return Err(error),
            _ => {}
        }
        Ok(Self {
            candidates,
            entries,
            rates: vec![None; rates],
            failures: Vec::new(),
            network: None,
            depth,
            begun: Instant::now(),
            progress,
        })
    }

    /// Those that keep to the limits but that of time, as far as is known of them.
    fn part(&self, limits: &Limits) -> HashSet<usize> {
        let admitted = |i: &usize| {
            let candidate = &self.candidates[*i];
            limits.admit_published(candidate.accuracy(), candidate.download())
                && limits.memory.is_none_or(|most| candidate.least_bytes() <= most)
        };
        (0..self.candidates.len()).filter(admitted).collect()
    }

    fn is_late(&self) -> bool {
        self.begun.elapsed() > self.depth.budget()
    }

    /// Measures for `goal` what keeps to the limits, as long as there is time.
    fn run(&mut self, goal: Goal, limits: &Limits) -> Result<()> {
        // Of a few networks it is quicker to measure all than to find out which need not be.
        const FEW: usize = 4;
        let limits = &without_memory(goal, limits);
        let part = self.part(limits);
        if part.len() > FEW && !matches!(goal, Goal::All | Goal::MostAccurate(None)) {
            self.survey(&part)?;
        }
        loop {
            let part = self.part(limits);
            let Some(i) = next(&self.entries, goal, |i| part.contains(&i)) else { return Ok(()) };
            let open = self.open(goal, &part).count();
            self.tell(part.len() - open, part.len(), self.candidates[i].name());
            self.measure(i);
            if self.is_late() {
                return Ok(());
            }
        }
    }

    /// Measures again what would reach the front at half its time: another process can slow all runs of one measurement
    /// alike. The faster median counts.
    fn confirm(&mut self, goal: Goal, limits: &Limits) {
        let part = self.part(&without_memory(goal, limits));
        let running: Vec<&Entry> = part.iter().map(|i| &self.entries[*i]).collect();
        let matters = |i: &usize| {
            let entry = &self.entries[*i];
            let halved = entry.took().map(|ms| Entry { floor_ms: ms / 2.0, ..*entry });
            halved.is_some_and(|halved| !is_ruled_out(&halved, &running, goal))
        };
        let mut again: Vec<usize> = part.iter().copied().filter(matters).collect();
        // Each structure is built once.
        again.sort_by_key(|i| (self.candidates[*i].published.structure.as_str(), *i));
        let count = again.len();
        for (done, i) in again.into_iter().enumerate() {
            if self.is_late() {
                return;
            }
            self.tell(done, count, format!("{} again", self.candidates[i].name()));
            match self.timed(i) {
                Ok(measured) if self.entries[i].took().is_some_and(|ms| measured.ms.median < ms) => {
                    self.keep(i, measured);
                }
                Ok(_) => {}
                Err(error) => log::debug!("{}, measured again: {error}", self.candidates[i].name()),
            }
        }
    }

    /// Those that still have to be measured for `goal`, of those that take part.
    fn open<'s>(&'s self, goal: Goal, part: &'s HashSet<usize>) -> impl Iterator<Item = usize> + 's {
        let running: Vec<&Entry> = part.iter().map(|i| &self.entries[*i]).collect();
        part.iter().copied().filter(move |i| {
            let entry = &self.entries[*i];
            entry.state == State::Waiting && !is_ruled_out(entry, &running, goal)
        })
    }

    fn counts(&self, goal: Goal, limits: &Limits) -> Counts {
        let published = self.part(&limits.without(Limit::Memory));
        let waiting = |admitted: bool| {
            let of =
                |i: &usize| published.contains(i) == admitted && self.entries[*i].state == State::Waiting;
            (0..self.entries.len()).filter(of).count()
        };
        let unreached = self.open(goal, &self.part(&without_memory(goal, limits))).count();
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
    /// the others, or, if there is none, of all.
    fn approach(&mut self, limits: &Limits) -> Result<()> {
        let asked = || Limit::ALL.into_iter().filter(|limit| limits.has(*limit));
        for limit in asked() {
            self.near(limit, &limits.without(limit))?;
        }
        if self.front(limits).nearest(limits).is_empty() {
            for limit in asked() {
                self.near(limit, &Limits::default())?;
            }
        }
        Ok(())
    }

    /// Measures what comes nearest to a limit of those that keep to `others`.
    fn near(&mut self, limit: Limit, others: &Limits) -> Result<()> {
        match limit {
            Limit::Within => self.run(Goal::Quickest, others),
            Limit::Accuracy => self.run(Goal::MostAccurate(others.within_ms), others),
            Limit::Memory => {
                self.survey(&self.part(others))?;
                self.smallest(others, |candidate| candidate.least_bytes());
                Ok(())
            }
            Limit::Download => {
                self.smallest(others, |candidate| candidate.download());
                Ok(())
            }
        }
    }

    /// Measures the smallest that keeps to the limits. A candidate's size may grow once it is measured.
    fn smallest(&mut self, limits: &Limits, size: impl Fn(&Candidate) -> u64) {
        loop {
            let part = self.part(limits);
            let of = |i: &usize| size(&self.candidates[*i]);
            let fits = |i: &usize| self.candidates[*i].measured.as_ref().is_some_and(|row| limits.admit(row));
            let least = part.iter().filter(|i| fits(i)).map(of).min();
            let open = part.iter().copied().filter(|i| {
                let Entry { state, floor_ms, .. } = self.entries[*i];
                let in_time = limits.within_ms.is_none_or(|most| floor_ms <= most);
                state == State::Waiting && in_time && least.is_none_or(|least| of(i) < least)
            });
            let Some(i) = open.min_by_key(|i| (of(i), *i)) else { return };
            self.tell(0, 1, self.candidates[i].name());
            self.measure(i);
            if self.is_late() {
                return;
            }
        }
    }

    /// Finds the floors of those that take part.
    fn survey(&mut self, part: &HashSet<usize>) -> Result<()> {
        let missing = |i: &usize| part.contains(i) && self.candidates[*i].demand.is_none();
        let mut missing: Vec<usize> = (0..self.candidates.len()).filter(missing).collect();
        // Each structure is built once.
        missing.sort_by_key(|i| self.candidates[*i].published.structure.as_str());
        let count = missing.len();
        for (done, i) in missing.into_iter().enumerate() {
            if self.is_late() {
                break;
            }
            self.tell(done, count, format!("work of {}", self.candidates[i].published));
            let Candidate { device, precision, published, .. } = self.candidates[i];
            let rate = self.entries[i].rate;
            if self.rates[rate].is_none() {
                let found = Rate::measure(device, precision)?;
                log::info!("{device}, {precision}: {:.1} G multiply-adds/s at best", found.macs / 1e9);
                self.rates[rate] = Some(found);
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
            if let (Some(demand), Some(rate)) = (candidate.demand, self.rates[entry.rate]) {
                entry.floor_ms = rate.floor_ms(demand);
            }
        }
    }

    fn measure(&mut self, i: usize) {
        match self.timed(i) {
            Ok(measured) => {
                // What was done can be done: a device that was busy while it was rated is rated again.
                let done = 1e3 * measured.macs as f64 / measured.ms.min;
                if let Some(rate) = self.rates[self.entries[i].rate].as_mut().filter(|rate| rate.macs < done)
                {
                    log::debug!("{:.1} G multiply-adds/s in {}", done / 1e9, measured.published);
                    rate.macs = done;
                    self.floors();
                }
                self.keep(i, measured);
            }
            Err(error) => self.fail(i, &error),
        }
    }

    fn keep(&mut self, i: usize, measured: Measured) {
        self.entries[i].state = State::Took(measured.ms.median);
        self.candidates[i].measured = Some(measured);
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

    fn front(&self, limits: &Limits) -> Front {
        Front::of(self.candidates.iter().filter_map(|candidate| candidate.measured.clone()).collect(), limits)
    }
}

/// The limits that decide what takes part: everything is measured whatever memory it takes.
fn without_memory(goal: Goal, limits: &Limits) -> Limits {
    if goal == Goal::All { limits.without(Limit::Memory) } else { *limits }
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
