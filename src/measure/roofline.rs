//! Where time goes: what a device could do at its best, against what a step took.
//!
//! A step's floor is the longer of its multiply-adds at the device's peak and its bytes at the
//! device's bandwidth: nothing can be quicker. Utilisation is the floor over the time.

use std::{fmt, iter::Sum, ops::Add};

use serde::Serialize;

use crate::plan::Work;

/// The best that was seen of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Peaks {
    /// Multiply-adds a second.
    pub macs: f64,
    /// Bytes a second, read and written.
    pub bytes: f64,
    /// Seconds that a launch takes that has nothing to do and waits for the one before it; on the
    /// CPU, that handing work to all threads takes.
    pub launch: f64,
}

/// What most of a step's time goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Its multiply-adds.
    Arithmetic,
    /// Its bytes.
    Bytes,
    /// Being launched.
    Launch,
    /// Nothing of these: units that wait for loads, for one another, or have nothing to do.
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

/// A step's time, or a network's, split into what it was needed for. The parts add up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Split {
    /// Seconds that the multiply-adds take at the peak.
    pub arithmetic: f64,
    /// Seconds beyond these that the bytes take at the bandwidth.
    pub bytes: f64,
    /// Seconds beyond the floor that a launch takes.
    pub launch: f64,
    /// The rest.
    pub idle: f64,
}

impl Split {
    /// Of a step that took `seconds`.
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

    /// All of it, in seconds.
    pub fn seconds(&self) -> f64 {
        self.arithmetic + self.bytes + self.launch + self.idle
    }

    /// The largest part.
    pub fn bound(&self) -> Bound {
        // The floor is one of the two, whichever is longer.
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

impl Peaks {
    /// Seconds below which nothing can do this work.
    pub fn floor(&self, work: Work) -> f64 {
        (work.macs as f64 / self.macs).max(work.bytes as f64 / self.bytes)
    }

    /// The floor's share of the time. More than one means that bytes came from a cache.
    pub fn utilisation(&self, work: Work, seconds: f64) -> f64 {
        self.floor(work) / seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 multiply-adds and 4 bytes a second, half a second a launch.
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

        // Twelve bytes take three seconds, one of which five multiply-adds would not have filled.
        let (parts, utilisation) = split(5, 12, 4.0);
        assert_eq!(utilisation, 0.75);
        assert_eq!(parts, Split { arithmetic: 0.5, bytes: 2.5, launch: 0.5, idle: 0.5 });
        assert_eq!(parts.bound(), Bound::Bytes);

        // Next to no work: a launch, and little else.
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
