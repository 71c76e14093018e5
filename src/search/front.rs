//! The Pareto front of accuracy over time: its networks, the dominated ones, and the one to recommend.

use std::{cmp::Reverse, collections::HashMap, fmt};

use serde::Serialize;

use super::{Limit, Limits, Metric, Published, limits::megabytes};
use crate::{measure::Spread, quantize::StoredType};

/// A published network, measured in one precision on one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The network and its published accuracy.
    pub published: Published,
    /// The storage type of maps and weights. The published accuracy is always that of f32.
    pub precision: StoredType,
    /// `gpu` or `cpu`.
    pub backend: &'static str,
    /// The device's name.
    pub device: String,
    /// Milliseconds from a tensor in memory to the result in memory, for one picture.
    pub ms: Spread,
    /// Milliseconds by GPU timestamps; none on the CPU, or on GPUs without timestamps.
    pub gpu_ms: Option<Spread>,
    /// True if many runs took far longer than the median: something else was running.
    pub noisy: bool,
    /// Multiply-adds per picture.
    pub macs: u64,
    /// Bytes of maps and weights.
    pub memory_bytes: u64,
}

impl Measured {
    /// True if both have the same device and metric, and both or neither are int8, whose accuracy is unknown.
    pub fn is_comparable(&self, other: &Self) -> bool {
        let kind = |row: &Self| (row.backend, row.published.metric, row.precision == StoredType::Int8);
        kind(self) == kind(other) && self.device == other.device
    }

    /// The shell commands that run it on a picture as it was measured. `device` holds the flags that select
    /// its device, such as `--backend cpu --threads 1`. An int8 network is first quantised, on the user's
    /// pictures.
    pub fn command(&self, device: &str) -> String {
        let (fetch, weights) = self.published.weights_flags();
        let task = self.published.metric.task();
        match (self.precision, self.backend) {
            // The CPU computes in f32 for any `--precision`.
            (StoredType::F32, "cpu") => format!("{} {device}", self.published.command()),
            (StoredType::F32 | StoredType::F16, _) => {
                format!("{} {device} --precision {}", self.published.command(), self.precision)
            }
            (StoredType::Int8, _) => format!(
                "{fetch}goldcrest quantize {weights} --pictures FOLDER --out int8.safetensors && goldcrest {task} IMAGE \
                 --weights int8.safetensors {device}"
            ),
        }
    }

    /// True if it is at least as accurate and as fast as `other`, and better in one of the two.
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

/// The rule by which a network is recommended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The most accurate network within the limits.
    MostAccurate,
    /// The fastest network that is accurate enough, if accuracy is the only limit.
    Fastest,
    /// The knee of the front, if there is no limit.
    Knee,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MostAccurate => "the most accurate",
            Self::Fastest => "the fastest",
            Self::Knee => "the knee of the front",
        })
    }
}

/// Measured networks, sorted by device and then by time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Front {
    rows: Vec<Measured>,
    standings: Vec<Standing>,
}

/// A network's relation to the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// No comparable network dominates it.
    Front,
    /// A comparable network dominates it.
    Dominated,
    /// It exceeds a limit other than time.
    Excluded,
}

impl Front {
    /// Sorts the rows and finds those that another one, comparable by [`Measured::is_comparable`], dominates.
    /// Rows beyond a limit other than time dominate nothing, unless all rows are beyond such a limit.
    pub fn of(mut rows: Vec<Measured>, limits: &Limits) -> Self {
        let key = |row: &Measured| (Reverse(row.backend), row.device.clone());
        rows.sort_by(|a, b| {
            let order = a.ms.median.total_cmp(&b.ms.median);
            key(a).cmp(&key(b)).then(order).then(b.published.accuracy.total_cmp(&a.published.accuracy))
        });
        let without_time = limits.without(Limit::Within);
        let limits =
            if rows.iter().any(|row| without_time.admit(row)) { without_time } else { Limits::default() };
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

    /// All rows with their standings.
    pub fn rows(&self) -> impl Iterator<Item = (&Measured, Standing)> {
        self.rows.iter().zip(self.standings.iter().copied())
    }

    /// The rows on the front.
    pub fn best(&self) -> impl Iterator<Item = &Measured> {
        self.rows().filter(|(_, standing)| *standing == Standing::Front).map(|(row, _)| row)
    }

    /// Picks the network to recommend: the most accurate within the limits; the fastest if accuracy is the
    /// only limit; the knee of the front without limits. If the networks within the limits have several
    /// metrics, only those of the most frequent metric count.
    pub fn pick(&self, limits: &Limits) -> Option<(&Measured, Rule)> {
        let admitted = one_metric(self.rows.iter().filter(|row| limits.admit(row)).collect());
        let accuracy = |row: &Measured| row.published.accuracy;
        let by_time = |a: &&&Measured, b: &&&Measured| a.ms.median.total_cmp(&b.ms.median);
        let picked = if limits.is_empty() {
            (knee(&admitted)?, Rule::Knee)
        } else if limits.without(Limit::Accuracy).is_empty() {
            let first =
                |a: &&&Measured, b: &&&Measured| by_time(a, b).then(accuracy(b).total_cmp(&accuracy(a)));
            (*admitted.iter().min_by(first)?, Rule::Fastest)
        } else {
            let first =
                |a: &&&Measured, b: &&&Measured| accuracy(b).total_cmp(&accuracy(a)).then(by_time(a, b));
            (*admitted.iter().min_by(first)?, Rule::MostAccurate)
        };
        Some(picked)
    }

    /// Returns, for each limit that is set: the limit, the other limits, and the network that comes nearest
    /// to it among those within the other limits. A limit is left out if no network is within the others. If
    /// all are left out, the other limits are ignored, and are empty in the result.
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
            let distance = |row: &Measured| match limit {
                Limit::Within => row.ms.median,
                Limit::Accuracy => -row.published.accuracy,
                Limit::Memory => row.memory_bytes as f64,
                Limit::Download => row.published.download_bytes as f64,
            };
            Some((limit, rest, admitted.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))?))
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
                    "  {:<56} {:>4} {:<9} {:>6} {:>26} {:>9} {:>9}  source of the accuracy",
                    "network", "size", "precision", "%", "ms (min to max)", "M MACs", "memory"
                )?;
            }
            // The accuracy of int8 is not known.
            let note = if row.precision == StoredType::Int8 { ", of f32: not known in int8" } else { "" };
            let metric = match row.published.metric {
                Metric::Top1 => String::new(),
                metric => format!(", {metric}"),
            };
            let noisy = if row.noisy { ", noisy" } else { "" };
            let mark = match standing {
                Standing::Front => '*',
                Standing::Dominated => ' ',
                Standing::Excluded => '-',
            };
            writeln!(f, "{mark} {row}{metric}{note}{noisy}")?;
        }
        Ok(())
    }
}

/// The rows of the most frequent metric.
fn one_metric(rows: Vec<&Measured>) -> Vec<&Measured> {
    let mut counts: HashMap<Metric, usize> = HashMap::new();
    for row in &rows {
        *counts.entry(row.published.metric).or_default() += 1;
    }
    let count = |row: &&Measured| counts[&row.published.metric];
    // Reversed, because `max_by_key` returns the last of equal rows, and this needs the first.
    let Some(metric) = rows.iter().rev().max_by_key(|row| count(row)).map(|row| row.published.metric) else {
        return rows;
    };
    rows.into_iter().filter(|row| row.published.metric == metric).collect()
}

/// The knee of the front: the network furthest above the straight line between the front's ends, in a plot of
/// accuracy over the logarithm of time. A front without a network above that line has no knee.
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

    /// A network with this accuracy in percent and this time.
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
            precision: StoredType::F32,
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

    /// Each limit with the accuracy of the network nearest to it.
    fn nearest(front: &Front, limits: &Limits) -> Vec<(Limit, f64)> {
        let nearest = front.nearest(limits).into_iter();
        nearest.map(|(limit, _, row)| (limit, row.published.accuracy)).collect()
    }

    #[test]
    fn the_front_has_the_networks_that_none_dominates() {
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
    fn equal_networks_do_not_dominate_each_other() {
        let front = Front::of(
            vec![measured(70.0, 2.0), measured(70.0, 2.0), measured(70.0, 3.0), measured(69.0, 2.0)],
            &Limits::default(),
        );
        assert_eq!(accuracies(front.best()), [70.0, 70.0]);
    }

    #[test]
    fn each_device_and_metric_has_its_own_front() {
        let mut slow = measured(70.0, 9.0);
        (slow.backend, slow.device) = ("gpu", "a GPU".into());
        let mut other = measured(10.0, 5.0);
        other.published.metric = Metric::VocMiou;
        let front = Front::of(vec![measured(71.0, 2.0), slow, other], &Limits::default());
        assert_eq!(accuracies(front.best()), [70.0, 71.0, 10.0]);
        // One network of another metric is not picked, although its number is higher.
        let mut more = measured(99.0, 3.0);
        more.published.metric = Metric::VocMiou;
        let front = Front::of(vec![measured(71.0, 2.0), measured(72.0, 3.0), more], &Limits::default());
        let limits = Limits { within_ms: Some(4.0), ..Limits::default() };
        assert_eq!(front.pick(&limits).unwrap().0.published.accuracy, 72.0);
    }

    #[test]
    fn the_limits_decide_the_rule() {
        let rows = [(60.0, 1.0), (70.0, 2.0), (75.0, 4.0), (76.0, 9.0)];
        let front = Front::of(rows.map(|(accuracy, ms)| measured(accuracy, ms)).to_vec(), &Limits::default());
        let picked = |limits: Limits| front.pick(&limits).map(|(row, rule)| (row.published.accuracy, rule));
        let none = Limits::default();
        assert_eq!(picked(Limits { within_ms: Some(4.0), ..none }), Some((75.0, Rule::MostAccurate)));
        assert_eq!(picked(Limits { within_ms: Some(3.99), ..none }), Some((70.0, Rule::MostAccurate)));
        assert_eq!(picked(Limits { within_ms: Some(0.5), ..none }), None);
        assert_eq!(picked(Limits { accuracy: Some(61.0), ..none }), Some((70.0, Rule::Fastest)));
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
    fn the_nearest_network_exceeds_one_limit() {
        let front = Front::of(
            vec![measured(60.0, 1.0), measured(75.0, 4.0), measured(80.0, 9.0)],
            &Limits::default(),
        );
        let limits = Limits { within_ms: Some(2.0), accuracy: Some(75.0), ..Limits::default() };
        assert_eq!(nearest(&front, &limits), [(Limit::Within, 75.0), (Limit::Accuracy, 60.0)]);
    }

    #[test]
    fn each_limit_has_its_nearest_network_if_none_is_within_any_other() {
        let front = Front::of(vec![measured(60.0, 1.0), measured(75.0, 4.0)], &Limits::default());
        let limits = Limits { within_ms: Some(0.1), accuracy: Some(99.0), ..Limits::default() };
        assert_eq!(nearest(&front, &limits), [(Limit::Within, 60.0), (Limit::Accuracy, 75.0)]);
    }

    #[test]
    fn a_network_beyond_a_limit_dominates_nothing() {
        // `measured` sets a million bytes per millisecond.
        let mut large = measured(76.0, 3.0);
        large.memory_bytes = 90_000_000;
        let rows = vec![measured(60.0, 1.0), measured(70.0, 2.0), large, measured(75.0, 4.0)];
        let limits = Limits { memory: Some(5_000_000), ..Limits::default() };
        let front = Front::of(rows.clone(), &limits);
        assert_eq!(accuracies(front.best()), [60.0, 70.0, 75.0]);
        let (picked, _) = front.pick(&limits).unwrap();
        assert!(picked.published.accuracy == 75.0 && front.best().any(|row| row == picked));
        // No network is within this limit: the front is that of all networks.
        let front = Front::of(rows, &Limits { memory: Some(1), ..limits });
        assert_eq!(accuracies(front.best()), [60.0, 70.0, 76.0]);
    }

    #[test]
    fn a_front_prints_itself() {
        let mut int8 = measured(70.0, 0.5);
        int8.precision = StoredType::Int8;
        let text = Front::of(vec![measured(70.0, 2.0), int8], &Limits::default()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0] == "a CPU" && lines[2..].iter().all(|line| line.starts_with("* ")), "{text}");
        assert!(lines[2].contains("not known in int8") && lines[3].contains("nobody, today"), "{text}");
        assert!(lines[3].contains("2.00 (1.80 to 2.40)"), "{text}");
    }
}
