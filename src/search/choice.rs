//! Measures published networks on devices, and skips those that cannot change the result.

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
    measure::{Case, Sampling, time},
    quantize::StoredType,
    session::Device,
    tensor::Element,
    zoo::{Network, synthetic},
};

/// The thoroughness of [`choose`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only networks that may be on the front within the limits or, if no network is within them, those nearest to
    /// them. No measurement starts after 45 seconds.
    Quick,
    /// Every network, each for longer.
    Thorough,
}

impl Depth {
    fn sampling(self) -> Sampling {
        match self {
            Self::Quick => Sampling { warmup: 2, runs: 5, time: Duration::from_millis(150) },
            Self::Thorough => Sampling { warmup: 3, runs: 10, time: Duration::from_millis(500) },
        }
    }

    fn budget(self) -> Duration {
        match self {
            Self::Quick => Duration::from_secs(45),
            Self::Thorough => Duration::MAX,
        }
    }
}

/// The progress of [`choose`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Finished candidates of the current phase.
    pub done: usize,
    /// All candidates of the current phase.
    pub of: usize,
    /// The current network and operation.
    pub what: String,
}

/// Candidates by outcome. There is one candidate per network, device and precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All candidates.
    pub candidates: usize,
    /// Measured.
    pub measured: usize,
    /// Not measured: the published accuracy or the size of the file is beyond a limit.
    pub excluded: usize,
    /// Not measured: ruled out by a lower bound on time or memory.
    pub ruled_out: usize,
    /// Not measured: there was no time left.
    pub unreached: usize,
    /// The measurement failed.
    pub failed: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} measured", self.measured, self.candidates)?;
        for (count, what) in [
            (self.excluded, "excluded by their published accuracy or size"),
            (self.ruled_out, "ruled out by a lower bound on time or memory"),
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

/// A failed measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The network, its size, precision and device.
    pub what: String,
    /// The error message.
    pub reason: String,
}

/// The result of [`choose`].
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// All measured networks.
    pub front: Front,
    /// The candidates by outcome.
    pub counts: Counts,
    /// The failed measurements.
    pub failures: Vec<Failure>,
}

impl Choice {
    /// The recommended network and the rule that picked it; see [`Front::pick`].
    pub fn recommended(&self, limits: &Limits) -> Option<(&Measured, Rule)> {
        self.front.pick(limits)
    }
}

/// Measures `networks` in each of `precisions` on each of `devices`. [`Depth::Quick`] skips candidates that
/// cannot be on the front within `limits`. If no network is within the limits, the networks nearest to them
/// are measured. Precisions that a device does not support are skipped. Published accuracies are those of
/// f32; they are used for all precisions.
///
/// # Errors
/// [`Error::Input`] if `networks` is empty; [`Error::NoF16`] if no device has any of the precisions; those of
/// [`Peaks::measure`](crate::measure::Peaks::measure). A network whose measurement fails is in
/// [`Choice::failures`] instead.
pub fn choose(
    devices: &[Device],
    networks: &[&Published],
    precisions: &[StoredType],
    limits: &Limits,
    depth: Depth,
    mut progress: impl FnMut(Progress),
) -> Result<Choice> {
    if networks.is_empty() {
        return Err(Error::Input("there are no networks to choose from".into()));
    }
    let mut chooser = Chooser::new(devices, networks, precisions, depth, &mut progress)?;
    let goal = if depth == Depth::Thorough { Goal::All } else { Goal::Front(limits.within_ms) };
    chooser.run(goal, limits)?;
    chooser.confirm(goal, limits);
    if !limits.is_empty() && chooser.front(limits).pick(limits).is_none() {
        chooser.measure_nearest(limits)?;
    }
    let counts = chooser.counts(goal, limits);
    Ok(Choice { front: chooser.front(limits), counts, failures: chooser.failures })
}

/// A network in one precision on one device.
struct Candidate<'a> {
    device: &'a Device,
    published: &'a Published,
    precision: StoredType,
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

    /// Bytes of its maps and weights; until it is measured, of its weights alone.
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

struct Chooser<'a> {
    candidates: Vec<Candidate<'a>>,
    /// One per candidate.
    entries: Vec<Entry>,
    /// The peak rates of each device and precision, once measured.
    rates: Vec<Option<Rate>>,
    failures: Vec<Failure>,
    /// The most recently built network, with the name of its structure.
    network: Option<(&'a str, Network)>,
    depth: Depth,
    begun: Instant,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Chooser<'a> {
    fn new(
        devices: &'a [Device],
        networks: &[&'a Published],
        precisions: &[StoredType],
        depth: Depth,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let mut candidates = Vec::new();
        let mut entries = Vec::new();
        let mut rates = 0;
        let mut unsupported = None;
        for (at, device) in devices.iter().enumerate() {
            if let Device::Gpu(gpu) = device {
                // Every session does this first: plans depend on it.
                pollster::block_on(gpu.calibrate())?;
            }
            for &precision in precisions {
                let element = if precision == StoredType::F16 { Element::F16 } else { Element::F32 };
                if let Err(error) = device.supports(element) {
                    log::info!("{error}");
                    unsupported = Some(error);
                    continue;
                }
                for &published in networks {
                    candidates.push(Candidate { device, published, precision, demand: None, measured: None });
                    entries.push(Entry {
                        accuracy: published.accuracy,
                        // The accuracy of int8 is unknown: int8 networks are only compared with each other.
                        group: (at, published.metric, precision == StoredType::Int8),
                        rate: rates,
                        floor_ms: 0.0,
                        state: State::Waiting,
                    });
                }
                rates += 1;
            }
        }
        match unsupported {
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

    /// The candidates within all limits except time. For unmeasured ones, a lower bound on memory counts.
    fn admitted(&self, limits: &Limits) -> HashSet<usize> {
        let is_admitted = |i: &usize| {
            let candidate = &self.candidates[*i];
            limits.admit_published(candidate.accuracy(), candidate.download())
                && limits.memory.is_none_or(|most| candidate.least_bytes() <= most)
        };
        (0..self.candidates.len()).filter(is_admitted).collect()
    }

    fn is_late(&self) -> bool {
        self.begun.elapsed() > self.depth.budget()
    }

    /// Measures those candidates within the limits that `goal` requires, until time runs out.
    fn run(&mut self, goal: Goal, limits: &Limits) -> Result<()> {
        // For a few networks, measuring all is faster than computing their lower bounds.
        const FEW: usize = 4;
        let limits = &without_memory(goal, limits);
        let admitted = self.admitted(limits);
        if admitted.len() > FEW && !matches!(goal, Goal::All | Goal::MostAccurate(None)) {
            self.survey(&admitted)?;
        }
        loop {
            let admitted = self.admitted(limits);
            let Some(i) = next(&self.entries, goal, |i| admitted.contains(&i)) else { return Ok(()) };
            let open = self.open(goal, &admitted).count();
            self.tell(admitted.len() - open, admitted.len(), self.candidates[i].name());
            self.measure(i);
            if self.is_late() {
                return Ok(());
            }
        }
    }

    /// Measures again the candidates that would be on the front at half their measured time, because another
    /// process can slow all runs of one measurement. The lower of the two medians is kept.
    fn confirm(&mut self, goal: Goal, limits: &Limits) {
        let admitted = self.admitted(&without_memory(goal, limits));
        let rivals: Vec<&Entry> = admitted.iter().map(|i| &self.entries[*i]).collect();
        let matters = |i: &usize| {
            let entry = &self.entries[*i];
            let halved = entry.took().map(|ms| Entry { floor_ms: ms / 2.0, ..*entry });
            halved.is_some_and(|halved| !is_ruled_out(&halved, &rivals, goal))
        };
        let mut again: Vec<usize> = admitted.iter().copied().filter(matters).collect();
        // Sorted so that each structure is built once.
        again.sort_by_key(|i| (self.candidates[*i].published.structure.as_str(), *i));
        let count = again.len();
        for (done, i) in again.into_iter().enumerate() {
            if self.is_late() {
                return;
            }
            self.tell(done, count, format!("{}, again", self.candidates[i].name()));
            match self.timed(i) {
                Ok(measured) if self.entries[i].took().is_some_and(|ms| measured.ms.median < ms) => {
                    self.record(i, measured);
                }
                Ok(_) => {}
                Err(error) => log::debug!("{}, measured again: {error}", self.candidates[i].name()),
            }
        }
    }

    /// The admitted candidates that still have to be measured for `goal`.
    fn open<'s>(&'s self, goal: Goal, admitted: &'s HashSet<usize>) -> impl Iterator<Item = usize> + 's {
        let rivals: Vec<&Entry> = admitted.iter().map(|i| &self.entries[*i]).collect();
        admitted.iter().copied().filter(move |i| {
            let entry = &self.entries[*i];
            entry.state == State::Waiting && !is_ruled_out(entry, &rivals, goal)
        })
    }

    fn counts(&self, goal: Goal, limits: &Limits) -> Counts {
        let published = self.admitted(&limits.without(Limit::Memory));
        let waiting = |admitted: bool| {
            let of =
                |i: &usize| published.contains(i) == admitted && self.entries[*i].state == State::Waiting;
            (0..self.entries.len()).filter(of).count()
        };
        let unreached = self.open(goal, &self.admitted(&without_memory(goal, limits))).count();
        Counts {
            candidates: self.entries.len(),
            measured: self.entries.iter().filter(|entry| entry.took().is_some()).count(),
            excluded: waiting(false),
            ruled_out: waiting(true) - unreached,
            unreached,
            failed: self.failures.len(),
        }
    }

    /// Measures, for each limit, the candidate nearest to it among those within the other limits or, if there
    /// are none, among all. Called if no candidate is within all limits.
    fn measure_nearest(&mut self, limits: &Limits) -> Result<()> {
        let asked = || Limit::ALL.into_iter().filter(|limit| limits.has(*limit));
        for limit in asked() {
            self.measure_nearest_to(limit, &limits.without(limit))?;
        }
        if self.front(limits).nearest(limits).is_empty() {
            for limit in asked() {
                self.measure_nearest_to(limit, &Limits::default())?;
            }
        }
        Ok(())
    }

    /// Measures the candidate nearest to `limit` among those within `others`.
    fn measure_nearest_to(&mut self, limit: Limit, others: &Limits) -> Result<()> {
        match limit {
            Limit::Within => self.run(Goal::Fastest, others),
            Limit::Accuracy => self.run(Goal::MostAccurate(others.within_ms), others),
            Limit::Memory => {
                self.survey(&self.admitted(others))?;
                self.measure_smallest(others, |candidate| candidate.least_bytes());
                Ok(())
            }
            Limit::Download => {
                self.measure_smallest(others, |candidate| candidate.download());
                Ok(())
            }
        }
    }

    /// Measures the smallest candidate within the limits. A candidate's size may grow when it is measured,
    /// because its maps then count too.
    fn measure_smallest(&mut self, limits: &Limits, size: impl Fn(&Candidate) -> u64) {
        loop {
            let admitted = self.admitted(limits);
            let of = |i: &usize| size(&self.candidates[*i]);
            let fits = |i: &usize| self.candidates[*i].measured.as_ref().is_some_and(|row| limits.admit(row));
            let least = admitted.iter().filter(|i| fits(i)).map(of).min();
            let open = admitted.iter().copied().filter(|i| {
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

    /// Computes the lower bounds of the admitted candidates.
    fn survey(&mut self, admitted: &HashSet<usize>) -> Result<()> {
        let missing = |i: &usize| {
            let waits = self.entries[*i].state == State::Waiting;
            waits && admitted.contains(i) && self.candidates[*i].demand.is_none()
        };
        let mut missing: Vec<usize> = (0..self.candidates.len()).filter(missing).collect();
        // Sorted so that each structure is built once.
        missing.sort_by_key(|i| self.candidates[*i].published.structure.as_str());
        let count = missing.len();
        for (done, i) in missing.into_iter().enumerate() {
            if self.is_late() {
                break;
            }
            self.tell(done, count, format!("lower bound of {}", self.candidates[i].published));
            let Candidate { device, precision, published, .. } = self.candidates[i];
            let rate = self.entries[i].rate;
            if self.rates[rate].is_none() {
                let found = Rate::measure(device, precision)?;
                log::info!("{device}, {precision}: {:.1} G multiply-adds/s at best", found.macs / 1e9);
                self.rates[rate] = Some(found);
            }
            let input = |network: &Network| self.candidates[i].input(network);
            let demand = built(&mut self.network, &published.structure).and_then(|network| {
                // The f32 graph, for int8 too: the int8 graph has as many multiply-adds and at least as many
                // steps.
                Demand::of(device, &graph(network, StoredType::F32)?, input(network), precision)
            });
            match demand {
                Ok(demand) => self.candidates[i].demand = Some(demand),
                Err(error) => self.fail(i, &error),
            }
        }
        self.update_floors();
        Ok(())
    }

    fn update_floors(&mut self) {
        for (candidate, entry) in self.candidates.iter().zip(&mut self.entries) {
            if let (Some(demand), Some(rate)) = (candidate.demand, self.rates[entry.rate]) {
                entry.floor_ms = rate.floor_ms(demand);
            }
        }
    }

    fn measure(&mut self, i: usize) {
        match self.timed(i) {
            Ok(measured) => {
                // If a network exceeds the measured peak, the device was busy while the peak was measured:
                // raise the peak.
                let least = self.candidates[i].demand.map_or(measured.macs, |demand| demand.least_macs);
                let done = 1e3 * least as f64 / measured.ms.min;
                if let Some(rate) = self.rates[self.entries[i].rate].as_mut().filter(|rate| rate.macs < done)
                {
                    log::debug!("{:.1} G multiply-adds/s in {}", done / 1e9, measured.published);
                    rate.macs = done;
                    self.update_floors();
                }
                self.record(i, measured);
            }
            Err(error) => self.fail(i, &error),
        }
    }

    fn record(&mut self, i: usize, measured: Measured) {
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
        let timing = time(device, case, self.depth.sampling())?;
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

/// The limits for admission: [`Goal::All`] ignores the limit on memory.
fn without_memory(goal: Goal, limits: &Limits) -> Limits {
    if goal == Goal::All { limits.without(Limit::Memory) } else { *limits }
}

/// Returns the network of this structure; builds it unless it is the most recently built one.
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
