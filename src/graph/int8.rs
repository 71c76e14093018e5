//! Arithmetic of 8 bits: what integers stand for, and the one way in which every engine computes with them. The CPU,
//! its reference loops and all drivers have the same bits, as nothing here is left to floating point.
//!
//! A map's value is `scale (q - zero)`, q from -128 to 127; a weight's is `scale[output] q`, q from -127 to 127. A
//! convolution adds up `(q_x - zero_x) q_w` and its bias in 32 bits, in steps of `scale_x scale_w[output]`; what
//! surrounds a picture is `zero_x`. A residual is brought to these steps first. The sum goes to the output's steps by
//! [`Rescale`], and an activation that bends is looked up in a [`Curve`].

use std::sync::Arc;

use super::{Activation, Graph, NodeId, Op};

/// What the integers of a map stand for: `scale (q - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// What one step is: positive and finite.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero: i8,
}

impl Affine {
    /// The integers of -128 to 127 over `least` to `most`, widened so that 0 is one of them.
    ///
    /// ```
    /// use goldcrest::graph::Affine;
    /// let relu6 = Affine::over(0.0, 6.0);
    /// assert_eq!((relu6.zero, relu6.quantise(6.0), relu6.value(127)), (-128, 127, 6.0));
    /// ```
    pub fn over(least: f32, most: f32) -> Self {
        let (least, most) = (f64::from(least.min(0.0)), f64::from(most.max(0.0)));
        let scale = ((most - least) / 255.0).max(f64::from(f32::MIN_POSITIVE));
        let zero = (-128.0 - least / scale).round_ties_even().clamp(-128.0, 127.0);
        Self { scale: scale as f32, zero: zero as i8 }
    }

    /// The integer nearest to a value, of two the even step from zero.
    #[inline]
    pub fn quantise(self, value: f32) -> i8 {
        let steps = (value * (1.0 / self.scale)).round_ties_even();
        (steps.clamp(-512.0, 512.0) as i32 + i32::from(self.zero)).clamp(-128, 127) as i8
    }

    /// What an integer stands for.
    pub fn value(self, q: i8) -> f32 {
        self.scale * f32::from(i16::from(q) - i16::from(self.zero))
    }

    /// What is left of the integers by an activation that cuts off: the least and the largest.
    pub fn limits(self, activation: Activation) -> [i8; 2] {
        match activation {
            Activation::Relu => [self.zero, 127],
            Activation::Relu6 => [self.zero, self.quantise(6.0)],
            _ => [-128, 127],
        }
    }
}

/// A factor as a multiplier and a shift, so that integers are scaled in integers: `multiplier / 2^shift`, the
/// multiplier from 2^30 to 2^31.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescale {
    /// From 2^30 on, below 2^31; 0 for a factor that is too small to count.
    pub multiplier: i32,
    /// From 1 to 62.
    pub shift: u32,
}

impl Rescale {
    /// The largest factor. Just below 2^30 a multiplier would round up to 2^31, which no shift makes up for.
    const MOST: f64 = ((1 << 30) - 1) as f64;

    /// The nearest there is to a `factor`: what is below 0 or no number counts as 0, what is too large as 2^30 - 1.
    pub fn new(factor: f64) -> Self {
        let factor = if factor > 0.0 { factor.min(Self::MOST) } else { 0.0 };
        let mut exponent = 0i32;
        let mut mantissa = factor;
        if factor > 0.0 {
            // 0.5 <= mantissa < 1, factor = mantissa 2^exponent
            exponent = factor.log2().floor() as i32 + 1;
            mantissa = factor * 2f64.powi(-exponent);
            if mantissa >= 1.0 {
                (mantissa, exponent) = (mantissa / 2.0, exponent + 1);
            }
        }
        let mut multiplier = (mantissa * 2f64.powi(31)).round();
        if multiplier >= 2f64.powi(31) {
            (multiplier, exponent) = (multiplier / 2.0, exponent + 1);
        }
        let shift = 31 - exponent;
        if factor == 0.0 || shift > 62 {
            return Self { multiplier: 0, shift: 62 };
        }
        Self { multiplier: multiplier as i32, shift: shift.max(1) as u32 }
    }

    /// `x` times the factor, halves rounded up; what does not fit 32 bits is the nearest that does.
    #[inline(always)]
    pub fn apply(self, x: i32) -> i32 {
        let product = i64::from(x) * i64::from(self.multiplier) + (1 << (self.shift - 1));
        (product >> self.shift).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
    }

    /// How engines without 64 bits apply it: `x` is shifted to the left by the first, the upper 32 bits of its product
    /// with the multiplier to the right by the second, from 1 on, halves rounded up. None if `x`, which may be as large
    /// as `most`, has no room to be shifted.
    pub fn by_upper_half(self, most: i64) -> Option<[u32; 2]> {
        let left = 33u32.saturating_sub(self.shift);
        (left == 0 || most < 1 << (31 - left.min(31))).then_some([left, self.shift + left - 32])
    }
}

/// Entries of a [`Curve`].
pub const CURVE: usize = 4096;

/// An activation that bends, as a table from sums to integers of the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What an entry is away from the next.
    pub step: f32,
    /// The entry of 0.
    pub zero: i32,
    /// The output's integers.
    pub entries: Vec<i8>,
}

impl Curve {
    /// Over the sums of which the output's integers can tell one from the next.
    pub fn new(activation: Activation, output: Affine) -> Self {
        // What lies beyond is flat, or as large as the largest integer.
        let (least, most) = match activation {
            Activation::HardSwish => (-3.0, output.value(127).max(3.0)),
            Activation::HardSigmoid => (-3.0, 3.0),
            Activation::Sigmoid => (-8.0, 8.0),
            // Flat where it rounds to 0; above, swish is no more than 0.2785 less than its argument.
            Activation::Swish => {
                let bends = |x: &f32| activation.apply(*x) < -output.scale / 2.0;
                let halves = (4..200).map(|i| i as f32 * -0.5);
                (halves.take_while(bends).last().unwrap_or(-1.5) - 0.5, output.value(127) + 0.2785)
            }
            Activation::Identity | Activation::Relu | Activation::Relu6 => {
                (output.value(-128), output.value(127))
            }
        };
        let step = (most - least) / (CURVE - 1) as f32;
        let zero = (-least / step).round() as i32;
        let entry = |i: usize| output.quantise(activation.apply((i as i32 - zero) as f32 * step));
        Self { step, zero, entries: (0..CURVE).map(entry).collect() }
    }

    /// The output's integer for a sum in steps of the curve.
    #[inline(always)]
    pub fn at(&self, steps: i32) -> i8 {
        self.entries[steps.saturating_add(self.zero).clamp(0, CURVE as i32 - 1) as usize]
    }
}

impl Activation {
    /// Whether it does more than cut off: then it is looked up in a [`Curve`].
    pub const fn bends(self) -> bool {
        matches!(self, Self::HardSwish | Self::HardSigmoid | Self::Sigmoid | Self::Swish)
    }
}

/// What the integers around a node stand for that is computed in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8 {
    /// Of what it reads.
    pub inputs: Vec<Affine>,
    /// Of what it makes; none of a convolution whose sums become floating point.
    pub output: Option<Affine>,
    /// What a step of each output's weights is; none without weights.
    pub steps: Option<Arc<[f32]>>,
}

impl Graph {
    /// What the integers around a node stand for, if it is computed in them. A convolution is if its weights have steps
    /// and all that it reads lies in 8 bits; without a map of its own its sums become floating point, if no activation
    /// is to follow. What has no weights is if what it reads and its own value lie in 8 bits, and it is a mean, a gate,
    /// a joint or a maximum. All else is computed in floating point, of what the integers stand for.
    pub fn int8(&self, id: NodeId) -> Option<Int8> {
        let node = self.node(id);
        let output = node.map;
        let inputs: Vec<Affine> =
            node.reads().iter().map(|id| self.node(*id).map).collect::<Option<Vec<Affine>>>()?;
        let steps = match &node.op {
            Op::Conv(conv) if output.is_some() || conv.activation == Activation::Identity => {
                Some(node.steps.clone()?)
            }
            Op::GlobalPool | Op::Scale | Op::Concat(_) | Op::MaxPool(_) if output.is_some() => None,
            _ => return None,
        };
        (!inputs.is_empty()).then_some(Int8 { inputs, output, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_come_back_to_the_last_of_31_bits() {
        for factor in [1e-9, 3.7e-5, 0.25, 0.5, 0.999_999_999_9, 1.0, 1.5, 77.7, 1e6, 1e9] {
            let Rescale { multiplier, shift } = Rescale::new(factor);
            assert!(multiplier >= 1 << 30, "{factor}: {multiplier}");
            let found = f64::from(multiplier) / 2f64.powi(shift as i32);
            assert!((found / factor - 1.0).abs() < 1e-9, "{factor}: {found}");
        }
        assert_eq!(Rescale::new(0.0).apply(i32::MAX), 0);
        let half = Rescale::new(0.5);
        assert_eq!([-3, -1, 1, 3].map(|x| half.apply(x)), [-1, 0, 1, 2]);
        assert_eq!(Rescale::new(1e9).apply(-7), i32::MIN);
        let largest = Rescale::new(f64::from(1 << 30) - 0.125);
        assert_eq!(largest, Rescale::new(f64::INFINITY));
        assert_eq!(largest.apply(1), (1 << 30) - 1);
        assert_eq!([-1.0, f64::NAN].map(|factor| Rescale::new(factor).apply(i32::MAX)), [0; 2]);
    }

    #[test]
    fn maps_hold_zero_and_their_ends() {
        for (least, most) in [(0.0, 6.0), (-1.0, 3.0), (-5.0, 0.0), (2.0, 3.0), (0.0, 0.0), (-1e-3, 1e3)] {
            let affine = Affine::over(least, most);
            assert_eq!(affine.value(affine.zero), 0.0);
            assert_eq!(affine.quantise(0.0), affine.zero);
            for value in [least, most] {
                let error = (affine.value(affine.quantise(value)) - value).abs();
                assert!(error <= affine.scale, "{least} to {most}: {value} is off by {error}");
            }
        }
        assert_eq!(Affine::over(0.0, 6.0).quantise(f32::INFINITY), 127);
    }

    #[test]
    fn curves_are_within_a_step_of_their_function() {
        for activation in Activation::ALL.into_iter().filter(|activation| activation.bends()) {
            let output = Affine::over(-0.375, 4.0);
            let curve = Curve::new(activation, output);
            for i in -1000..=1000 {
                let x = i as f32 * 0.01;
                let found = output.value(curve.at((x / curve.step).round() as i32));
                let exact = activation.apply(x).min(output.value(127));
                assert!(
                    (found - exact).abs() <= 0.51 * output.scale + 0.002,
                    "{activation} {x}: {found}, {exact}"
                );
            }
        }
    }
}
