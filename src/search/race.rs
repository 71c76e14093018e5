//! What to measure next, and what not at all: branch and bound over accuracy and time.
//!
//! Each entry has a floor, a lower bound on its time. An entry is ruled out if its floor is beyond the limit, or if
//! something at least as accurate was measured to take no longer than the floor: whatever it would take, it would be
//! dominated.

use super::Metric;

/// A network that may be measured on a device in a precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// In percent.
    pub accuracy: f64,
    /// Which device, metric and kind of numbers it is of: entries of one group are compared.
    pub group: (usize, Metric, bool),
    /// Which rate its floor follows from: of its device and precision.
    pub rate: usize,
    /// The milliseconds that it takes at least.
    pub floor_ms: f64,
    /// What came of it.
    pub state: State,
}

/// What came of an entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// Nothing yet.
    Waiting,
    /// It takes so many milliseconds.
    Took(f64),
    /// It could not be measured.
    Failed,
}

/// What measuring is to find out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// All that is on the front, as far as this many milliseconds.
    Front(Option<f64>),
    /// The quickest.
    Quickest,
    /// The most accurate within this many milliseconds.
    MostAccurate(Option<f64>),
    /// Everything.
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

/// Whether `entry` need not be measured for `goal`. `running` are all that take part.
pub fn is_ruled_out(entry: &Entry, running: &[&Entry], goal: Goal) -> bool {
    let beyond = |limit: Option<f64>| limit.is_some_and(|limit| entry.floor_ms > limit);
    let of_group = || running.iter().filter(|other| other.group == entry.group);
    match goal {
        Goal::Front(within) => {
            let dominates = |ms: f64, other: &Entry| other.accuracy >= entry.accuracy && ms <= entry.floor_ms;
            beyond(within) || of_group().any(|other| other.took().is_some_and(|ms| dominates(ms, other)))
        }
        Goal::Quickest => of_group().filter_map(|other| other.took()).any(|ms| ms <= entry.floor_ms),
        Goal::MostAccurate(within) => {
            let fits = |ms: f64| within.is_none_or(|within| ms <= within);
            let fit = of_group().filter(|other| other.took().is_some_and(fits));
            beyond(within) || fit.into_iter().any(|other| other.accuracy >= entry.accuracy)
        }
        Goal::All => false,
    }
}

/// The one to measure next, of those that `takes_part` admits.
pub fn next(entries: &[Entry], goal: Goal, takes_part: impl Fn(usize) -> bool) -> Option<usize> {
    let running: Vec<&Entry> = (0..entries.len()).filter(|i| takes_part(*i)).map(|i| &entries[i]).collect();
    let open = |i: &usize| {
        let entry = &entries[*i];
        takes_part(*i) && entry.state == State::Waiting && !is_ruled_out(entry, &running, goal)
    };
    let open: Vec<usize> = (0..entries.len()).filter(open).collect();
    let estimate = |i: usize| entries[i].floor_ms * slowness(entries, entries[i].rate);
    let worth = |i: usize| -> [f64; 3] {
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
            Goal::Quickest | Goal::All => [-entry.floor_ms, 0.0, 0.0],
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
    // Of equals the first.
    open.iter().rev().copied().max_by(|a, b| order(&worth(*a), &worth(*b)))
}

/// How many times its floor a network of this rate takes, in the median of those that were measured.
fn slowness(entries: &[Entry], rate: usize) -> f64 {
    /// About what is seen on CPUs.
    const UNKNOWN: f64 = 2.0;
    let ratio = |entry: &Entry| Some(entry.took()? / entry.floor_ms).filter(|ratio| ratio.is_finite());
    let mut ratios: Vec<f64> = entries.iter().filter(|entry| entry.rate == rate).filter_map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Networks with what they take, which the race does not know.
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

    /// Runs to the end; gives what was measured.
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
        fn nothing_of_the_front_is_ruled_out(networks in networks(), within in 1u8..30, limited: bool) {
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
                    // It, or another that is exactly as good.
                    prop_assert!(entries[i].took().is_some() || measured(&equal), "{i} was missed");
                }
            }
        }

        #[test]
        fn the_quickest_and_the_most_accurate_are_found(networks in networks(), within in 1u8..30) {
            for group in 0..2 {
                let of = |least: f64| networks.iter().filter(move |(e, ms)| e.group.0 == group && *ms <= least);
                let found = run(&networks, Goal::Quickest);
                let quickest = of(f64::MAX).map(|(_, ms)| *ms).min_by(f64::total_cmp);
                let took = found.iter().filter(|e| e.group.0 == group).filter_map(Entry::took);
                prop_assert_eq!(took.min_by(f64::total_cmp), quickest);

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
        assert_eq!(measured(Goal::Quickest), [false, false, false, true]);
        assert_eq!(measured(Goal::MostAccurate(None)), [true, false, false, false]);
        assert_eq!(measured(Goal::All), [true; 4]);
    }
}
