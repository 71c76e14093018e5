//! Decides which network to measure next and which to skip: branch and bound over accuracy and time.
//!
//! Each entry has a lower bound on its time. An entry is ruled out if its bound exceeds the limit, or if a
//! measured entry is at least as accurate and takes no longer than the bound: whatever its own time, the
//! entry would be dominated.

use super::Metric;

/// A network in one precision on one device, measured or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// In percent.
    pub accuracy: f64,
    /// The device's index, the metric, and true for int8: only entries of one group are compared.
    pub group: (usize, Metric, bool),
    /// The index of the peak rates that `floor_ms` follows from: one per device and precision.
    pub rate: usize,
    /// A lower bound on its time, in milliseconds.
    pub floor_ms: f64,
    /// The state of its measurement.
    pub state: State,
}

/// The state of an entry's measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// Not measured.
    Waiting,
    /// Measured: the median time, in milliseconds.
    Took(f64),
    /// The measurement failed.
    Failed,
}

/// The goal of the measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The Pareto front, up to this many milliseconds.
    Front(Option<f64>),
    /// The fastest entry.
    Fastest,
    /// The most accurate entry within this many milliseconds.
    MostAccurate(Option<f64>),
    /// Every entry's time; no entry is ruled out.
    All,
}

impl Entry {
    pub fn took(&self) -> Option<f64> {
        match self.state {
            State::Took(ms) => Some(ms),
            _ => None,
        }
    }
}

/// True if `entry` need not be measured for `goal`. `admitted` holds all entries that are considered.
pub fn is_ruled_out(entry: &Entry, admitted: &[&Entry], goal: Goal) -> bool {
    let beyond = |limit: Option<f64>| limit.is_some_and(|limit| entry.floor_ms > limit);
    let of_group = || admitted.iter().filter(|other| other.group == entry.group);
    match goal {
        Goal::Front(within) => {
            let dominates = |ms: f64, other: &Entry| other.accuracy >= entry.accuracy && ms <= entry.floor_ms;
            beyond(within) || of_group().any(|other| other.took().is_some_and(|ms| dominates(ms, other)))
        }
        Goal::Fastest => of_group().filter_map(|other| other.took()).any(|ms| ms <= entry.floor_ms),
        Goal::MostAccurate(within) => {
            let fits = |ms: f64| within.is_none_or(|within| ms <= within);
            let fit = of_group().filter(|other| other.took().is_some_and(fits));
            beyond(within) || fit.into_iter().any(|other| other.accuracy >= entry.accuracy)
        }
        Goal::All => false,
    }
}

/// Returns the index of the entry to measure next, among those that `is_admitted` accepts.
pub fn next(entries: &[Entry], goal: Goal, is_admitted: impl Fn(usize) -> bool) -> Option<usize> {
    let admitted: Vec<&Entry> = (0..entries.len()).filter(|i| is_admitted(*i)).map(|i| &entries[i]).collect();
    let open = |i: &usize| {
        let entry = &entries[*i];
        is_admitted(*i) && entry.state == State::Waiting && !is_ruled_out(entry, &admitted, goal)
    };
    let open: Vec<usize> = (0..entries.len()).filter(open).collect();
    let estimate = |i: usize| entries[i].floor_ms * slowdown(entries, entries[i].rate);
    let priority = |i: usize| -> [f64; 3] {
        let entry = &entries[i];
        match goal {
            Goal::Front(within) => {
                let fits = within.is_none_or(|within| estimate(i) <= within);
                let rules_out = |j: &&usize| {
                    let other = &entries[**j];
                    let beaten = other.accuracy <= entry.accuracy && other.floor_ms >= estimate(i);
                    other.group == entry.group && beaten
                };
                [f64::from(u8::from(fits)), open.iter().filter(rules_out).count() as f64, entry.accuracy]
            }
            Goal::Fastest | Goal::All => [-entry.floor_ms, 0.0, 0.0],
            Goal::MostAccurate(_) => [entry.accuracy, -entry.floor_ms, 0.0],
        }
    };
    let order = |a: &[f64; 3], b: &[f64; 3]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| a.total_cmp(b))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    };
    // Reversed, because `max_by` returns the last of equal entries, and this needs the first.
    open.iter().rev().copied().max_by(|a, b| order(&priority(*a), &priority(*b)))
}

/// The median ratio of measured time to lower bound, over the measured entries of this rate.
fn slowdown(entries: &[Entry], rate: usize) -> f64 {
    /// The assumed ratio before any measurement; CPUs have about this ratio.
    const DEFAULT: f64 = 2.0;
    let ratio = |entry: &Entry| Some(entry.took()? / entry.floor_ms).filter(|ratio| ratio.is_finite());
    let mut ratios: Vec<f64> = entries.iter().filter(|entry| entry.rate == rate).filter_map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Networks with their times, which the code under test does not see.
    fn networks() -> impl Strategy<Value = Vec<(Entry, f64)>> {
        let network = (0u8..20, 0..2usize, 1u8..40, 0u8..30).prop_map(|(accuracy, group, floor, more)| {
            let floor_ms = f64::from(floor) / 4.0;
            let accuracy = f64::from(accuracy);
            let entry = Entry {
                accuracy,
                group: (group, Metric::Top1, false),
                rate: group,
                floor_ms,
                state: State::Waiting,
            };
            (entry, floor_ms * (1.0 + f64::from(more) / 10.0))
        });
        proptest::collection::vec(network, 1..30)
    }

    /// Measures until no entry is left to measure, and returns all entries.
    fn run(networks: &[(Entry, f64)], goal: Goal) -> Vec<Entry> {
        let mut entries: Vec<Entry> = networks.iter().map(|(entry, _)| *entry).collect();
        while let Some(i) = next(&entries, goal, |_| true) {
            assert_eq!(entries[i].state, State::Waiting, "measured twice");
            entries[i].state = State::Took(networks[i].1);
        }
        entries
    }

    proptest! {
        #[test]
        fn no_entry_of_the_front_is_ruled_out(networks in networks(), within in 1u8..30, limited: bool) {
            let within = limited.then_some(f64::from(within));
            let entries = run(&networks, Goal::Front(within));
            for (i, (entry, ms)) in networks.iter().enumerate() {
                let dominates = |(other, took): &(Entry, f64)| {
                    let better = other.accuracy > entry.accuracy || took < ms;
                    other.group == entry.group && other.accuracy >= entry.accuracy && took <= ms && better
                };
                let equal = |(other, took): &(Entry, f64)| {
                    other.group == entry.group && other.accuracy == entry.accuracy && took == ms
                };
                let measured = |pick: &dyn Fn(&(Entry, f64)) -> bool| {
                    networks.iter().zip(&entries).any(|(n, e)| pick(n) && e.took().is_some())
                };
                if within.is_none_or(|within| *ms <= within) && !networks.iter().any(dominates) {
                    // Of entries with the same accuracy and time, one measurement is enough.
                    prop_assert!(entries[i].took().is_some() || measured(&equal), "{i} was missed");
                }
            }
        }

        #[test]
        fn the_fastest_and_the_most_accurate_are_found(networks in networks(), within in 1u8..30) {
            for group in 0..2 {
                let of = |least: f64| networks.iter().filter(move |(e, ms)| e.group.0 == group && *ms <= least);
                let found = run(&networks, Goal::Fastest);
                let fastest = of(f64::MAX).map(|(_, ms)| *ms).min_by(f64::total_cmp);
                let took = found.iter().filter(|e| e.group.0 == group).filter_map(Entry::took);
                prop_assert_eq!(took.min_by(f64::total_cmp), fastest);

                let within = f64::from(within);
                let found = run(&networks, Goal::MostAccurate(Some(within)));
                let fits = |e: &&Entry| e.group.0 == group && e.took().is_some_and(|ms| ms <= within);
                let most = found.iter().filter(fits).map(|e| e.accuracy).max_by(f64::total_cmp);
                prop_assert_eq!(most, of(within).map(|(e, _)| e.accuracy).max_by(f64::total_cmp));
            }
        }
    }

    #[test]
    fn a_good_network_saves_measuring_worse_ones() {
        let entry = |accuracy, floor_ms| Entry {
            accuracy,
            group: (0, Metric::Top1, false),
            rate: 0,
            floor_ms,
            state: State::Waiting,
        };
        let networks: Vec<(Entry, f64)> =
            [(75.0, 1.0, 1.5), (74.0, 2.0, 3.0), (73.0, 2.5, 4.0), (60.0, 0.5, 0.8)]
                .map(|(accuracy, floor, ms)| (entry(accuracy, floor), ms))
                .to_vec();
        let measured = |goal| run(&networks, goal).iter().map(|e| e.took().is_some()).collect::<Vec<_>>();
        assert_eq!(measured(Goal::Front(None)), [true, false, false, true]);
        assert_eq!(measured(Goal::Front(Some(0.9))), [false, false, false, true]);
        assert_eq!(measured(Goal::Fastest), [false, false, false, true]);
        assert_eq!(measured(Goal::MostAccurate(None)), [true, false, false, false]);
        assert_eq!(measured(Goal::All), [true; 4]);
    }
}
