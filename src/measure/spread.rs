//! Statistics of repeated measurements.

use serde::{Deserialize, Serialize};

/// Median and range of a measurement that was repeated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

impl Spread {
    /// Returns the spread of `values`; `None` if there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self { median: *values.get(values.len() / 2)?, min: *values.first()?, max: *values.last()? })
    }

    /// Returns true if the ratio of the medians differs from 1 by at least the measurement noise. A spread's noise
    /// is half of its range divided by its median; the larger of the two counts.
    pub fn differs(self, other: Self) -> bool {
        let noise = |spread: Self| (spread.max - spread.min) / spread.median / 2.0;
        (self.median / other.median - 1.0).abs() >= noise(self).max(noise(other))
    }

    /// Multiplies all three values by `factor`.
    pub fn times(self, factor: f64) -> Self {
        Self { median: self.median * factor, min: self.min * factor, max: self.max * factor }
    }
}

/// Returns true if a quarter of the values exceed 1.5 times the median: something else was running, and the
/// median is unreliable.
pub fn noisy(values: &[f64]) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |quarters: usize| sorted.get(sorted.len() * quarters / 4).copied();
    at(3).zip(at(2)).is_some_and(|(upper, median)| upper > 1.5 * median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_covers_all_values_and_noise_needs_many() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(vec![]), None);
        let around = |median: f64| Spread { median, min: 0.9 * median, max: 1.1 * median };
        assert!(around(1.0).differs(around(1.2)) && around(1.2).differs(around(1.0)));
        assert!(!around(1.0).differs(around(1.05)) && !around(1.0).differs(around(0.95)));
        // One disturbed value of eight is not noise; three are.
        assert!(!noisy(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0]));
        assert!(noisy(&[1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]));
        assert!(!noisy(&[]));
    }
}
