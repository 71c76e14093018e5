//! Roofline analysis: the time of each step, compared with the peak rates of the device.
//!
//! A step's floor is the lower bound of its time: the time of its multiply-adds at the device's peak rate or
//! of its bytes at the device's peak bandwidth, whichever is longer. Utilisation is the floor divided by the
//! measured time.

use std::{fmt, iter::Sum, ops::Add};

use serde::Serialize;

use crate::plan::{Peaks, Work};

/// The largest part of a step's time; see [`Split::bound`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Multiply-adds.
    Arithmetic,
    /// Memory traffic.
    Bytes,
    /// The launch.
    Launch,
    /// None of these: execution units wait for loads or for one another, or have no work.
    Idle,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Arithmetic => "arithmetic",
            Self::Bytes => "bytes",
            Self::Launch => "launch",
            Self::Idle => "idle",
        })
    }
}

/// The time of a step or of a network, split by cause. The parts add up to the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Split {
    /// Seconds of the multiply-adds at the peak rate.
    pub arithmetic: f64,
    /// Additional seconds if moving the bytes at the peak bandwidth takes longer than the multiply-adds.
    pub bytes: f64,
    /// Additional seconds of the launch.
    pub launch: f64,
    /// The rest.
    pub idle: f64,
}

impl Split {
    /// Splits the time of a step that took `seconds`.
    pub fn of(work: Work, seconds: f64, peaks: &Peaks) -> Self {
        let mut rest = seconds;
        let mut part = |wanted: f64| {
            let taken = wanted.clamp(0.0, rest);
            rest -= taken;
            taken
        };
        let (arithmetic, bytes) = (work.macs as f64 / peaks.macs, work.bytes as f64 / peaks.bytes);
        let arithmetic_part = part(arithmetic);
        let bytes = part(bytes - arithmetic);
        let launch = part(peaks.launch);
        Self { arithmetic: arithmetic_part, bytes, launch, idle: rest }
    }

    /// Returns the whole time, in seconds.
    pub fn seconds(&self) -> f64 {
        self.arithmetic + self.bytes + self.launch + self.idle
    }

    /// Returns the largest part. Arithmetic and bytes count as one part, which is named after the larger of
    /// the two.
    pub fn bound(&self) -> Bound {
        let floor = self.arithmetic + self.bytes;
        let floor_is = if self.bytes > 0.5 * floor { Bound::Bytes } else { Bound::Arithmetic };
        let parts = [(floor, floor_is), (self.launch, Bound::Launch), (self.idle, Bound::Idle)];
        parts.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or(Bound::Idle, |(_, bound)| bound)
    }
}

impl Add for Split {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            arithmetic: self.arithmetic + other.arithmetic,
            bytes: self.bytes + other.bytes,
            launch: self.launch + other.launch,
            idle: self.idle + other.idle,
        }
    }
}

impl Sum for Split {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Self::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 multiply-adds and 4 bytes per second, half a second per launch.
    const PEAKS: Peaks = Peaks { macs: 10.0, bytes: 4.0, launch: 0.5 };

    fn split(macs: u64, bytes: u64, seconds: f64) -> (Split, f64) {
        let work = Work { macs, bytes };
        (Split::of(work, seconds, &PEAKS), PEAKS.utilisation(work, seconds))
    }

    #[test]
    fn utilisation_is_the_floor_over_the_time() {
        // 20 multiply-adds take two seconds, four bytes one: arithmetic is the floor.
        let (parts, utilisation) = split(20, 4, 4.0);
        assert_eq!(utilisation, 0.5);
        assert_eq!(parts, Split { arithmetic: 2.0, bytes: 0.0, launch: 0.5, idle: 1.5 });
        assert_eq!(parts.bound(), Bound::Arithmetic);

        // Twelve bytes take three seconds, five multiply-adds half a second: bytes are the floor.
        let (parts, utilisation) = split(5, 12, 4.0);
        assert_eq!(utilisation, 0.75);
        assert_eq!(parts, Split { arithmetic: 0.5, bytes: 2.5, launch: 0.5, idle: 0.5 });
        assert_eq!(parts.bound(), Bound::Bytes);

        // Very little work: mostly the launch.
        let (parts, utilisation) = split(1, 0, 0.75);
        assert!((utilisation - 0.1 / 0.75).abs() < 1e-12);
        assert_eq!(parts.bound(), Bound::Launch);

        // Five times the floor.
        let (parts, utilisation) = split(10, 2, 5.0);
        assert_eq!(utilisation, 0.2);
        assert_eq!(parts, Split { arithmetic: 1.0, bytes: 0.0, launch: 0.5, idle: 3.5 });
        assert_eq!(parts.bound(), Bound::Idle);
    }

    #[test]
    fn parts_add_up_even_where_a_cache_beats_the_floor() {
        let (parts, utilisation) = split(5, 8, 1.0);
        assert_eq!(utilisation, 2.0);
        assert_eq!(parts, Split { arithmetic: 0.5, bytes: 0.5, launch: 0.0, idle: 0.0 });
        let whole: Split = [parts, split(20, 4, 4.0).0].into_iter().sum();
        assert_eq!(whole.seconds(), 5.0);
    }
}
