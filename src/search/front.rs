//! Accuracy over time: what is on the front, what is dominated, and which one to take.

use std::{cmp::Reverse, collections::HashMap, fmt};

use serde::Serialize;

use super::{Limit, Limits, Metric, Published, limits::megabytes};
use crate::{measure::Spread, quantize::Precision};

/// A published network, measured one way on one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// What it is, and how good.
    pub published: Published,
    /// What maps and weights are stored as. The published accuracy is of f32, whatever this is.
    pub precision: Precision,
    /// `gpu` or `cpu`.
    pub backend: &'static str,
    /// What it ran on.
    pub device: String,
    /// Milliseconds from a tensor in memory to an answer in memory, one picture at a time.
    pub ms: Spread,
    /// Milliseconds by the GPU's own clock; none on the CPU, and where there is no such clock.
    pub gpu_ms: Option<Spread>,
    /// True if many runs took far longer than the median: something else was running.
    pub noisy: bool,
    /// Multiply-adds of a picture.
    pub macs: u64,
    /// Bytes of maps and weights.
    pub memory_bytes: u64,
}

impl Measured {
    /// Whether both are of one device and one metric, and the accuracy of both is known or of both not.
    pub fn is_comparable(&self, other: &Self) -> bool {
        let kind = |row: &Self| (row.backend, row.published.metric, row.precision == Precision::Int8);
        kind(self) == kind(other) && self.device == other.device
    }

    /// The shell commands that run it on a picture as it was measured; `device` is the flags that choose its device, such
    /// as `--backend cpu --threads 1`. In 8 bits it has to be quantised first, on pictures of the user's.
    pub fn command(&self, device: &str) -> String {
        let (fetch, weights) = self.published.weights_flags();
        let task = self.published.metric.task();
        match (self.precision, self.backend) {
            // The CPU computes in f32 whatever is said.
            (Precision::F32, "cpu") => format!("{} {device}", self.published.command()),
            (Precision::F32 | Precision::F16, _) => {
                format!("{} {device} --precision {}", self.published.command(), self.precision)
            }
            (Precision::Int8, _) => format!(
                "{fetch}goldcrest quantize {weights} --pictures FOLDER --out int8.safetensors && goldcrest {task} IMAGE \
                 --weights int8.safetensors {device}"
            ),
        }
    }

    /// Whether it is at least as accurate and as quick as `other`, and better in one of the two.
    pub fn dominates(&self, other: &Self) -> bool {
        let (a, b) =
            ([self.published.accuracy, -self.ms.median], [other.published.accuracy, -other.ms.median]);
        a[0] >= b[0] && a[1] >= b[1] && a != b
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, precision, ms, .. } = self;
        let time = format!("{:.2} ({:.2} to {:.2})", ms.median, ms.min, ms.max);
        write!(
            f,
            "{published:<56} {:>4} {precision:<9} {:>6.2} {time:>26} {:>9.1} {:>9}  {}, {}",
            published.size,
            published.accuracy,
            self.macs as f64 / 1e6,
            megabytes(self.memory_bytes),
            published.source,
            published.date
        )
    }
}

/// Why a network is the one to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The most accurate that keeps to the limits.
    MostAccurate,
    /// The quickest that is accurate enough, where nothing else was asked for.
    Quickest,
    /// The knee of the front, where nothing was asked for.
    Knee,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MostAccurate => "the most accurate",
            Self::Quickest => "the quickest",
            Self::Knee => "the knee of the front",
        })
    }
}

/// Measured networks, device by device and the quickest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Front {
    rows: Vec<Measured>,
    standings: Vec<Standing>,
}

/// Where a network stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing is as accurate and quicker, or as quick and more accurate.
    Front,
    /// Another of its device and metric is.
    Dominated,
    /// It does not keep to a limit other than that of time.
    Excluded,
}

impl Front {
    /// Puts them in order, and finds out which are dominated by others of their device and metric. What does not keep to
    /// limits other than that of time dominates nothing, unless that is so of all.
    pub fn of(mut rows: Vec<Measured>, limits: &Limits) -> Self {
        let key = |row: &Measured| (Reverse(row.backend), row.device.clone());
        rows.sort_by(|a, b| {
            let order = a.ms.median.total_cmp(&b.ms.median);
            key(a).cmp(&key(b)).then(order).then(b.published.accuracy.total_cmp(&a.published.accuracy))
        });
        let lasting = limits.without(Limit::Within);
        let limits = if rows.iter().any(|row| lasting.admit(row)) { lasting } else { Limits::default() };
        let standing = |row: &Measured| {
            let dominates = |other: &&Measured| other.is_comparable(row) && other.dominates(row);
            match limits.admit(row) {
                false => Standing::Excluded,
                true if rows.iter().filter(|other| limits.admit(other)).any(|other| dominates(&other)) => {
                    Standing::Dominated
                }
                true => Standing::Front,
            }
        };
        let standings = rows.iter().map(standing).collect();
        Self { rows, standings }
    }

    /// All rows, each with where it stands.
    pub fn rows(&self) -> impl Iterator<Item = (&Measured, Standing)> {
        self.rows.iter().zip(self.standings.iter().copied())
    }

    /// Those that nothing dominates.
    pub fn best(&self) -> impl Iterator<Item = &Measured> {
        self.rows().filter(|(_, standing)| *standing == Standing::Front).map(|(row, _)| row)
    }

    /// The network to take: the most accurate within the limits; the quickest if accuracy alone was asked for; the
    /// knee of the front if nothing was. Where networks of several metrics keep to the limits, it is one of those
    /// whose metric most of them have.
    pub fn pick(&self, limits: &Limits) -> Option<(&Measured, Rule)> {
        let admitted = one_metric(self.rows.iter().filter(|row| limits.admit(row)).collect());
        let accuracy = |row: &Measured| row.published.accuracy;
        let quickest = |a: &&&Measured, b: &&&Measured| a.ms.median.total_cmp(&b.ms.median);
        let picked = if limits.is_empty() {
            (knee(&admitted)?, Rule::Knee)
        } else if limits.without(Limit::Accuracy).is_empty() {
            let first =
                |a: &&&Measured, b: &&&Measured| quickest(a, b).then(accuracy(b).total_cmp(&accuracy(a)));
            (*admitted.iter().min_by(first)?, Rule::Quickest)
        } else {
            let first =
                |a: &&&Measured, b: &&&Measured| accuracy(b).total_cmp(&accuracy(a)).then(quickest(a, b));
            (*admitted.iter().min_by(first)?, Rule::MostAccurate)
        };
        Some(picked)
    }

    /// For each limit by itself the network that comes nearest to it, of those that keep to all others; of all, if
    /// the limits are out of reach together. With each the limits that it was sought within.
    pub fn nearest(&self, limits: &Limits) -> Vec<(Limit, Limits, &Measured)> {
        let within = |others: &dyn Fn(Limit) -> Limits| self.nearest_of(limits, others);
        let nearest = within(&|limit| limits.without(limit));
        if nearest.is_empty() { within(&|_| Limits::default()) } else { nearest }
    }

    fn nearest_of(
        &self,
        limits: &Limits,
        others: &dyn Fn(Limit) -> Limits,
    ) -> Vec<(Limit, Limits, &Measured)> {
        let asked = Limit::ALL.into_iter().filter(|limit| limits.has(*limit));
        let nearest = asked.filter_map(|limit| {
            let rest = others(limit);
            let admitted = one_metric(self.rows.iter().filter(|row| rest.admit(row)).collect());
            let far = |row: &Measured| match limit {
                Limit::Within => row.ms.median,
                Limit::Accuracy => -row.published.accuracy,
                Limit::Memory => row.memory_bytes as f64,
                Limit::Download => row.published.download_bytes as f64,
            };
            Some((limit, rest, admitted.into_iter().min_by(|a, b| far(a).total_cmp(&far(b)))?))
        });
        nearest.collect()
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut device = None;
        for (row, standing) in self.rows() {
            if device.replace(&row.device) != Some(&row.device) {
                writeln!(f, "{}", row.device)?;
                writeln!(
                    f,
                    "  {:<56} {:>4} {:<9} {:>6} {:>26} {:>9} {:>9}  accuracy's source",
                    "network", "size", "precision", "%", "ms (min to max)", "M MACs", "memory"
                )?;
            }
            // The accuracy of integers is not known.
            let mark = if row.precision == Precision::Int8 { ", of f32: not known in 8 bits" } else { "" };
            let metric = match row.published.metric {
                Metric::Top1 => String::new(),
                metric => format!(", {metric}"),
            };
            let noisy = if row.noisy { ", noisy" } else { "" };
            let place = match standing {
                Standing::Front => '*',
                Standing::Dominated => ' ',
                Standing::Excluded => '-',
            };
            writeln!(f, "{place} {row}{metric}{mark}{noisy}")?;
        }
        Ok(())
    }
}

/// Those of the metric that most of them have.
fn one_metric(rows: Vec<&Measured>) -> Vec<&Measured> {
    let mut counts: HashMap<Metric, usize> = HashMap::new();
    for row in &rows {
        *counts.entry(row.published.metric).or_default() += 1;
    }
    let count = |row: &&Measured| counts[&row.published.metric];
    // Of equals the first.
    let Some(metric) = rows.iter().rev().max_by_key(|row| count(row)).map(|row| row.published.metric) else {
        return rows;
    };
    rows.into_iter().filter(|row| row.published.metric == metric).collect()
}

/// Where the front bends most: furthest above the line between its ends, over the logarithm of time. A front of
/// fewer than three has no knee, and one that does not bend has none.
fn knee<'a>(rows: &[&'a Measured]) -> Option<&'a Measured> {
    let mut front: Vec<&Measured> =
        rows.iter().copied().filter(|row| !rows.iter().any(|other| other.dominates(row))).collect();
    front.sort_by(|a, b| a.ms.median.total_cmp(&b.ms.median));
    let [first, .., last] = front[..] else { return None };
    let at = |row: &Measured| (row.ms.median.ln(), row.published.accuracy);
    let ((x0, y0), (x1, y1)) = (at(first), at(last));
    let above = |row: &Measured| {
        let (x, y) = at(row);
        (y - y0) / (y1 - y0) - (x - x0) / (x1 - x0)
    };
    let bent = front.into_iter().filter(|row| above(row) > 1e-9);
    bent.max_by(|a, b| above(a).total_cmp(&above(b)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A network of so many percent that takes so many milliseconds.
    pub fn measured(accuracy: f64, ms: f64) -> Measured {
        let published = Published {
            network: format!("net/{accuracy}"),
            weights: String::new(),
            size: 224,
            resize: None,
            metric: Metric::Top1,
            accuracy,
            parameters: 1_000_000,
            download_bytes: (1e6 * accuracy) as u64,
            file: None,
            source: "nobody".into(),
            date: "today".into(),
            structure: "mobilenet_v1".into(),
        };
        Measured {
            published,
            precision: Precision::F32,
            backend: "cpu",
            device: "a CPU".into(),
            ms: Spread { median: ms, min: 0.9 * ms, max: 1.2 * ms },
            gpu_ms: None,
            noisy: false,
            macs: 1_000_000,
            memory_bytes: (1e6 * ms) as u64,
        }
    }

    fn accuracies<'a>(rows: impl Iterator<Item = &'a Measured>) -> Vec<f64> {
        rows.map(|row| row.published.accuracy).collect()
    }

    /// Each limit with the accuracy of what comes nearest to it.
    fn nearest(front: &Front, limits: &Limits) -> Vec<(Limit, f64)> {
        let nearest = front.nearest(limits).into_iter();
        nearest.map(|(limit, _, row)| (limit, row.published.accuracy)).collect()
    }

    #[test]
    fn the_front_has_what_nothing_dominates() {
        let front = Front::of(
            vec![measured(75.0, 4.0), measured(70.0, 2.0), measured(69.0, 3.0), measured(60.0, 1.0)],
            &Limits::default(),
        );
        assert_eq!(accuracies(front.best()), [60.0, 70.0, 75.0]);
        use Standing::{Dominated, Front as Best};
        assert_eq!(
            front.rows().map(|(_, standing)| standing).collect::<Vec<_>>(),
            [Best, Best, Dominated, Best]
        );
    }

    #[test]
    fn of_equals_neither_dominates_but_one_tie_does() {
        let front = Front::of(
            vec![measured(70.0, 2.0), measured(70.0, 2.0), measured(70.0, 3.0), measured(69.0, 2.0)],
            &Limits::default(),
        );
        assert_eq!(accuracies(front.best()), [70.0, 70.0]);
    }

    #[test]
    fn devices_and_metrics_have_fronts_of_their_own() {
        let mut slow = measured(70.0, 9.0);
        (slow.backend, slow.device) = ("gpu", "a GPU".into());
        let mut other = measured(10.0, 5.0);
        other.published.metric = Metric::VocMiou;
        let front = Front::of(vec![measured(71.0, 2.0), slow, other], &Limits::default());
        assert_eq!(accuracies(front.best()), [70.0, 71.0, 10.0]);
        // A single one of another metric is no better for having more.
        let mut more = measured(99.0, 3.0);
        more.published.metric = Metric::VocMiou;
        let front = Front::of(vec![measured(71.0, 2.0), measured(72.0, 3.0), more], &Limits::default());
        let limits = Limits { within_ms: Some(4.0), ..Limits::default() };
        assert_eq!(front.pick(&limits).unwrap().0.published.accuracy, 72.0);
    }

    #[test]
    fn what_is_picked_follows_from_what_is_asked_for() {
        let rows = [(60.0, 1.0), (70.0, 2.0), (75.0, 4.0), (76.0, 9.0)];
        let front = Front::of(rows.map(|(accuracy, ms)| measured(accuracy, ms)).to_vec(), &Limits::default());
        let picked = |limits: Limits| front.pick(&limits).map(|(row, rule)| (row.published.accuracy, rule));
        let none = Limits::default();
        assert_eq!(picked(Limits { within_ms: Some(4.0), ..none }), Some((75.0, Rule::MostAccurate)));
        assert_eq!(picked(Limits { within_ms: Some(3.99), ..none }), Some((70.0, Rule::MostAccurate)));
        assert_eq!(picked(Limits { within_ms: Some(0.5), ..none }), None);
        assert_eq!(picked(Limits { accuracy: Some(61.0), ..none }), Some((70.0, Rule::Quickest)));
        let both = Limits { accuracy: Some(61.0), within_ms: Some(5.0), ..none };
        assert_eq!(picked(both), Some((75.0, Rule::MostAccurate)));
        assert_eq!(picked(Limits { memory: Some(2_000_000), ..none }), Some((70.0, Rule::MostAccurate)));
        assert_eq!(picked(Limits { download: Some(70_000_000), ..none }), Some((70.0, Rule::MostAccurate)));
        assert_eq!(picked(none), Some((70.0, Rule::Knee)));
    }

    #[test]
    fn few_networks_or_a_straight_front_have_no_knee() {
        for rows in [
            vec![],
            vec![(60.0, 1.0)],
            vec![(60.0, 1.0), (70.0, 2.0)],
            vec![(60.0, 1.0), (65.0, 2.0), (70.0, 4.0)],
        ] {
            let front = Front::of(
                rows.iter().map(|&(accuracy, ms)| measured(accuracy, ms)).collect(),
                &Limits::default(),
            );
            assert_eq!(front.pick(&Limits::default()), None, "{rows:?}");
        }
    }

    #[test]
    fn the_nearest_gives_way_in_one_limit() {
        let front = Front::of(
            vec![measured(60.0, 1.0), measured(75.0, 4.0), measured(80.0, 9.0)],
            &Limits::default(),
        );
        let limits = Limits { within_ms: Some(2.0), accuracy: Some(75.0), ..Limits::default() };
        assert_eq!(nearest(&front, &limits), [(Limit::Within, 75.0), (Limit::Accuracy, 60.0)]);
    }

    #[test]
    fn limits_that_are_out_of_reach_together_have_their_nearest_each() {
        let front = Front::of(vec![measured(60.0, 1.0), measured(75.0, 4.0)], &Limits::default());
        let limits = Limits { within_ms: Some(0.1), accuracy: Some(99.0), ..Limits::default() };
        assert_eq!(nearest(&front, &limits), [(Limit::Within, 60.0), (Limit::Accuracy, 75.0)]);
    }

    #[test]
    fn what_is_too_large_dominates_nothing_and_what_is_picked_is_on_the_front() {
        // Memory is a million bytes a millisecond.
        let mut large = measured(76.0, 3.0);
        large.memory_bytes = 90_000_000;
        let rows = vec![measured(60.0, 1.0), measured(70.0, 2.0), large, measured(75.0, 4.0)];
        let limits = Limits { memory: Some(5_000_000), ..Limits::default() };
        let front = Front::of(rows.clone(), &limits);
        assert_eq!(accuracies(front.best()), [60.0, 70.0, 75.0]);
        let (picked, _) = front.pick(&limits).unwrap();
        assert!(picked.published.accuracy == 75.0 && front.best().any(|row| row == picked));
        // Nothing keeps to this: the front is that of all.
        let front = Front::of(rows, &Limits { memory: Some(1), ..limits });
        assert_eq!(accuracies(front.best()), [60.0, 70.0, 76.0]);
    }

    #[test]
    fn a_front_prints_itself() {
        let mut eight = measured(70.0, 0.5);
        eight.precision = Precision::Int8;
        let text = Front::of(vec![measured(70.0, 2.0), eight], &Limits::default()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0] == "a CPU" && lines[2..].iter().all(|line| line.starts_with("* ")), "{text}");
        assert!(lines[2].contains("not known in 8 bits") && lines[3].contains("nobody, today"), "{text}");
        assert!(lines[3].contains("2.00 (1.80 to 2.40)"), "{text}");
    }
}
