//! Ranges and ticks of axes.

use super::{Scale, number};

/// Values beyond this, or below its inverse on a logarithmic axis, are left out: they cannot be
/// measurements, and the axis range would overflow.
const HUGE: f64 = 1e99;

/// The approximate number of ticks of a linear axis, and the maximum number of labelled powers of ten of a
/// logarithmic one.
const TICKS: f64 = 5.0;
const POWERS: i32 = 7;

/// A linear axis extends to zero if the values' least magnitude is below this fraction of the largest.
const NEAR: f64 = 0.25;

/// The room beyond the values of a logarithmic axis, as a fraction of their range.
const ROOM: f64 = 0.06;

/// The range and the ticks of an axis.
pub(super) struct Ruler {
    lo: f64,
    hi: f64,
    log: bool,
    pub ticks: Vec<Tick>,
}

/// A labelled value on an axis.
pub(super) struct Tick {
    pub at: f64,
    pub text: String,
}

impl Scale {
    /// Returns true if the axis can show the value.
    pub(super) fn holds(&self, value: f64) -> bool {
        match self {
            Self::Linear => value.abs() < HUGE,
            Self::Log => value > 1.0 / HUGE && value < HUGE,
            Self::Categories(names) => value > -0.5 && value < names.len() as f64 - 0.5,
        }
    }
}

impl Ruler {
    /// Creates an axis that covers the values, except those that it cannot show.
    pub fn new(scale: &Scale, values: impl Iterator<Item = f64>) -> Self {
        let (lo, hi) = values
            .filter(|&value| scale.holds(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), value| (lo.min(value), hi.max(value)));
        match scale {
            Scale::Linear if lo <= hi => Self::linear(lo, hi),
            Scale::Linear => Self::linear(0.0, 1.0),
            Scale::Log if lo <= hi => Self::log(lo, hi),
            Scale::Log => Self::log(1.0, 10.0),
            Scale::Categories(names) => {
                let ticks = names.iter().enumerate();
                let ticks = ticks.map(|(i, name)| Tick { at: i as f64, text: name.clone() }).collect();
                Self { lo: -0.5, hi: names.len() as f64 - 0.5, log: false, ticks }
            }
        }
    }

    fn linear(mut lo: f64, mut hi: f64) -> Self {
        // Include zero if that costs little: readers compare lengths by eye. Bars always include it.
        if lo > 0.0 && lo < NEAR * hi {
            lo = 0.0;
        } else if hi < 0.0 && hi > NEAR * lo {
            hi = 0.0;
        }
        let most = lo.abs().max(hi.abs());
        if hi - lo <= 1e-9 * most || most < 1.0 / HUGE {
            let room = if most < 1.0 / HUGE { 1.0 } else { most / 2.0 };
            (lo, hi) = (lo - room, hi + room);
        }
        let step = rung(rung_below((hi - lo) / TICKS) + 1);
        let (first, last) = ((lo / step).floor() as i64, (hi / step).ceil() as i64);
        let ticks = (first..=last).map(|k| k as f64 * step);
        let ticks = ticks.map(|at| Tick { at, text: short(at) }).collect();
        Self { lo: first as f64 * step, hi: last as f64 * step, log: false, ticks }
    }

    fn log(lo: f64, hi: f64) -> Self {
        let first = rung_below(lo);
        let mut last = rung_below(hi);
        if rung(last) < hi || last == first {
            last += 1;
        }
        // Ticks at 1, 2 and 5 for up to two decades, at powers of ten for a few more, at every n-th power
        // beyond.
        let powers = (last - first) / 3;
        let every = if powers <= 2 { 1 } else { 3 * (1 + powers / POWERS) };
        let ticks = (first..=last).filter(|k| k.rem_euclid(every) == 0).map(rung);
        let mut ticks: Vec<Tick> = ticks.map(|at| Tick { at, text: short(at) }).collect();
        // A little room on both sides or, if that has too few ticks, up to the next ones.
        let room = (hi / lo).powf(ROOM);
        let (mut from, mut to) = (lo / room, hi * room);
        let inside = |tick: &Tick| tick.at >= from && tick.at <= to;
        if ticks.iter().filter(|tick| inside(tick)).count() < 2 {
            (from, to) = (rung(first), rung(last));
        } else {
            ticks.retain(inside);
        }
        Self { lo: from, hi: to, log: true, ticks }
    }

    /// Returns the position along the axis, from 0 to 1; values outside are clamped.
    pub fn position(&self, value: f64) -> f64 {
        let along = if self.log {
            (value.max(self.lo) / self.lo).log10() / (self.hi / self.lo).log10()
        } else {
            (value - self.lo) / (self.hi - self.lo)
        };
        along.clamp(0.0, 1.0)
    }
}

/// Returns number `k` of the sequence ..., 0.5, 1, 2, 5, 10, ..., where number 0 is 1.
fn rung(k: i32) -> f64 {
    [1.0, 2.0, 5.0][k.rem_euclid(3) as usize] * 10f64.powi(k.div_euclid(3))
}

/// Returns the largest `k` for which `rung(k)` is at most `value`, which is positive.
fn rung_below(value: f64) -> i32 {
    let mut k = 3 * value.log10().floor() as i32 - 1;
    while rung(k + 1) <= value {
        k += 1;
    }
    k
}

/// Formats a tick's number as short as possible: 0.5, 20, 10⁶.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let power = (value.abs().log10() + 1e-9).floor() as i32;
    if (-4..6).contains(&power) {
        return trimmed(value, (5 - power) as usize);
    }
    let mantissa = match trimmed(value / 10f64.powi(power), 3).as_str() {
        "1" => String::new(),
        digits => format!("{digits}·"),
    };
    let power: String = power.to_string().chars().map(superscript).collect();
    format!("{mantissa}10{power}")
}

/// Formats a number without trailing zeros.
fn trimmed(value: f64, digits: usize) -> String {
    let text = number(value, digits);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

fn superscript(digit: char) -> char {
    match digit {
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '-' => '⁻',
        _ => digit.to_digit(10).and_then(|d| char::from_u32(0x2070 + d)).unwrap_or(digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(scale: Scale, values: &[f64]) -> Vec<String> {
        let ruler = Ruler::new(&scale, values.iter().copied());
        assert!(ruler.lo < ruler.hi && ruler.ticks.len() < 12, "{values:?}");
        ruler.ticks.into_iter().map(|tick| tick.text).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(Scale::Linear, &[0.3, 9.0]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(ticks(Scale::Linear, &[97.1, 98.9]), ["97", "97.5", "98", "98.5", "99"]);
        assert_eq!(ticks(Scale::Linear, &[57.0, 98.0]), ["50", "60", "70", "80", "90", "100"]);
        assert_eq!(ticks(Scale::Linear, &[-0.3, 0.2]), ["−0.4", "−0.2", "0", "0.2"]);
        assert_eq!(ticks(Scale::Log, &[0.7, 30.0]), ["1", "2", "5", "10", "20"]);
        assert_eq!(ticks(Scale::Log, &[0.3, 4000.0]), ["1", "10", "100", "1000"]);
        assert_eq!(ticks(Scale::Log, &[1e6, 3e6]), ["10⁶", "2·10⁶"]);
        assert_eq!(ticks(Scale::Log, &[96.0, 115.0]), ["50", "100", "200"]);
    }

    #[test]
    fn any_values_have_an_axis() {
        let hostile = [f64::NAN, f64::INFINITY, -1.0, 0.0, 5e-324, 1e-98, 3.0, 3.0 + 1e-15, 9.9e98, f64::MAX];
        for a in hostile {
            for b in hostile {
                for scale in [Scale::Linear, Scale::Log] {
                    let ruler = Ruler::new(&scale, [a, b].into_iter());
                    assert!((0.0..=1.0).contains(&ruler.position(3.0)), "{scale:?} {a} {b}");
                    ticks(scale, &[a, b]);
                }
            }
        }
    }

    #[test]
    fn one_value_is_in_the_middle_of_a_range() {
        let ruler = Ruler::new(&Scale::Linear, [3.0].into_iter());
        assert!(ruler.position(3.0) > 0.2 && ruler.position(3.0) < 0.8);
        assert_eq!(ticks(Scale::Log, &[10.0]), ["10", "20"]);
    }
}
