//! What repeating a measurement gives.

use serde::Serialize;

/// A number that was measured many times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// As many were more as were less.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these; none of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self { median: *values.get(values.len() / 2)?, min: *values.first()?, max: *values.last()? })
    }

    /// Whether the medians differ by more than repeating moves either: by half of what lies between its least and its
    /// most.
    pub fn differs(self, other: Self) -> bool {
        let moved = |spread: Self| (spread.max - spread.min) / spread.median / 2.0;
        (self.median / other.median - 1.0).abs() >= moved(self).max(moved(other))
    }

    /// All three times `factor`.
    pub fn times(self, factor: f64) -> Self {
        Self { median: self.median * factor, min: self.min * factor, max: self.max * factor }
    }
}

/// Whether a quarter of the values are more than half as much again as the median: something else
/// was running, and the median says little.
pub fn noisy(values: &[f64]) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: usize| sorted.get(sorted.len() * share / 4).copied();
    at(3).zip(at(2)).is_some_and(|(upper, median)| upper > 1.5 * median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_all_values_and_noise_of_many() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(vec![]), None);
        let around = |median: f64| Spread { median, min: 0.9 * median, max: 1.1 * median };
        assert!(around(1.0).differs(around(1.2)) && around(1.2).differs(around(1.0)));
        assert!(!around(1.0).differs(around(1.05)) && !around(1.0).differs(around(0.95)));
        // One that was disturbed is no noise, a third of them is.
        assert!(!noisy(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0]));
        assert!(noisy(&[1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]));
        assert!(!noisy(&[]));
    }
}
