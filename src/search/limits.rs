//! Limits on a network's time, accuracy and size.

use std::fmt;

use serde::Serialize;

use super::Measured;

/// Limits on a network; `None` means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Limits {
    /// The longest median time of a run, in milliseconds.
    pub within_ms: Option<f64>,
    /// The lowest published accuracy, in percent.
    pub accuracy: Option<f64>,
    /// The most bytes of maps and weights on the device.
    pub memory: Option<u64>,
    /// The most bytes of the checkpoint's file.
    pub download: Option<u64>,
}

/// A kind of limit in [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The time of a run.
    Within,
    /// The accuracy.
    Accuracy,
    /// The memory for maps and weights.
    Memory,
    /// The size of the checkpoint's file.
    Download,
}

impl Limit {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Within, Self::Accuracy, Self::Memory, Self::Download];
}

impl Limits {
    /// True if there is no limit.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True if this limit is set.
    pub fn has(&self, limit: Limit) -> bool {
        match limit {
            Limit::Within => self.within_ms.is_some(),
            Limit::Accuracy => self.accuracy.is_some(),
            Limit::Memory => self.memory.is_some(),
            Limit::Download => self.download.is_some(),
        }
    }

    /// The same limits except this one.
    pub fn without(self, limit: Limit) -> Self {
        match limit {
            Limit::Within => Self { within_ms: None, ..self },
            Limit::Accuracy => Self { accuracy: None, ..self },
            Limit::Memory => Self { memory: None, ..self },
            Limit::Download => Self { download: None, ..self },
        }
    }

    /// True if a network's published accuracy and size are within the limits.
    pub(super) fn admit_published(&self, accuracy: f64, download: u64) -> bool {
        self.accuracy.is_none_or(|least| accuracy >= least)
            && self.download.is_none_or(|most| download <= most)
    }

    /// True if a network is within the limits, by its median time.
    pub fn admit(&self, measured: &Measured) -> bool {
        self.admit_published(measured.published.accuracy, measured.published.download_bytes)
            && self.within_ms.is_none_or(|most| measured.ms.median <= most)
            && self.memory.is_none_or(|most| measured.memory_bytes <= most)
    }
}

impl fmt::Display for Limits {
    /// `within 4 ms, with at least 75 % accuracy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.within_ms.map(|ms| format!("within {} ms", short(ms))),
            self.accuracy.map(|percent| format!("with at least {percent} % accuracy")),
            self.memory.map(|bytes| format!("with at most {} of memory", megabytes(bytes))),
            self.download.map(|bytes| format!("with a file of at most {}", megabytes(bytes))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&if parts.is_empty() { "without limits".to_owned() } else { parts.join(", ") })
    }
}

/// Formats bytes in kB or MB.
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{} kB", short(bytes as f64 / 1e3)),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Formats a number with at most three decimal places; numbers below 0.01 keep all their digits.
pub fn short(number: f64) -> String {
    if number < 1e-2 {
        return number.to_string();
    }
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Parses milliseconds from `4ms`, `0.5s` or `250us`.
///
/// ```
/// assert_eq!(goldcrest::search::milliseconds("0.5s"), Ok(500.0));
/// ```
///
/// # Errors
/// A message if the text is not a positive duration with a unit.
pub fn milliseconds(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, f64); 4] = [("s", 1e3), ("ms", 1.0), ("us", 1e-3), ("µs", 1e-3)];
    quantity(text, &UNITS).ok_or_else(|| "expected a time with its unit, such as 4ms or 0.5s".into())
}

/// Parses bytes from `64MB`, `64MiB`, `1.5GB` or a number without a unit.
///
/// ```
/// assert_eq!(goldcrest::search::bytes("64MB"), Ok(64_000_000));
/// assert_eq!(goldcrest::search::bytes("64MiB"), Ok(64 << 20));
/// ```
///
/// # Errors
/// A message if the text is not a positive size.
pub fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("", 1.0),
        ("B", 1.0),
        ("kB", 1e3),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
    ];
    let bytes = quantity(text, &UNITS).filter(|bytes| (1.0..1e18).contains(bytes));
    bytes.map(|bytes| bytes as u64).ok_or_else(|| "expected a size such as 64MB, 64MiB or 1.5GB".into())
}

/// Parses a positive number and multiplies it by the factor of its unit.
fn quantity(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    // Digits and points only: `f64` would also parse `inf` and `1e3`.
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let value = number.parse::<f64>().ok()? * factor;
    (value > 0.0 && value.is_finite()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        for (text, ms) in [("4ms", 4.0), (" 4 ms", 4.0), ("0.5s", 500.0), ("250us", 0.25), ("1µs", 0.001)] {
            assert_eq!(milliseconds(text), Ok(ms), "{text}");
        }
        for text in ["", "4", "ms", "-4ms", "0ms", "4 minutes", "4msms", "infs", "1e400s", "nan ms", "1.2.3s"]
        {
            assert!(milliseconds(text).unwrap_err().contains("4ms"), "{text}");
        }
        for (text, size) in [("64MB", 64_000_000), ("1 KiB", 1024), ("1.5GB", 1_500_000_000), ("77", 77)] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "MB", "-1MB", "0", "0.4", "1XB", "64 mb", "99999999999999999999GB", "nan"] {
            assert!(bytes(text).unwrap_err().contains("64MB"), "{text}");
        }
    }

    #[test]
    fn limits_are_displayed_in_words() {
        let limits = Limits { within_ms: Some(4.0), accuracy: Some(75.0), ..Limits::default() };
        assert_eq!(limits.to_string(), "within 4 ms, with at least 75 % accuracy");
        assert_eq!(limits.without(Limit::Accuracy).to_string(), "within 4 ms");
        assert_eq!(
            Limits { within_ms: Some(1e3 / 60.0), ..limits }.without(Limit::Accuracy).to_string(),
            "within 16.667 ms"
        );
        assert_eq!([1_000, 99_000, 24_000_000].map(megabytes), ["1 kB", "99 kB", "24.0 MB"]);
        assert!(limits.without(Limit::Accuracy).without(Limit::Within).is_empty());
        let has: Vec<bool> = Limit::ALL.iter().map(|limit| limits.has(*limit)).collect();
        assert_eq!(has, [true, true, false, false]);
    }
}
