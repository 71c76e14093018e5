//! Int8 arithmetic: quantisation, and one definition of the computation, shared by all engines. In layers
//! computed in integers, the CPU, the reference loops and all GPU drivers give the same integers: where a
//! kernel adds up in f32, the sums are exact.
//!
//! A map's value is `scale (q - zero)`, with q from -128 to 127. A weight's value is `scale[output] q`, with
//! q from -127 to 127, or from -128 in networks that were quantised with torch. A convolution accumulates
//! `(q_x - zero_x) q_w` and its bias in 32 bits, with the scale `scale_x scale_w[output]`; padding is
//! `zero_x`. A residual is rescaled to that scale first. [`Rescale`] converts the accumulator to the output's
//! scale; an activation that is more than a clamp is looked up in an [`ActivationTable`].

use std::sync::Arc;

use super::{Activation, Graph, NodeId, Op};

/// The quantisation of a map: the integer q represents `scale (q - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// The difference between the values of adjacent integers: positive and finite.
    pub scale: f32,
    /// The zero point: the integer that represents 0.
    pub zero: i8,
}

impl Affine {
    /// Spreads -128 to 127 over the range from `least` to `most`, widened to include 0.
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

    /// The integer nearest to a value; ties go to an even distance from the zero point.
    #[inline(always)]
    pub fn quantise(self, value: f32) -> i8 {
        // One and a half times 2^23: floats of this size are whole numbers, so that the sum is rounded. The compiler
        // does not vectorise a cast, because that saturates.
        const WHOLE: f32 = 12_582_912.0;
        let offset = (value * (1.0 / self.scale)).clamp(-512.0, 512.0);
        let whole = (offset + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()).cast_signed();
        whole.saturating_add(self.zero.into()).clamp(-128, 127) as i8
    }

    /// The value that an integer represents.
    #[inline(always)]
    pub fn value(self, q: i8) -> f32 {
        self.scale * f32::from(i16::from(q) - i16::from(self.zero))
    }

    /// The smallest and the largest integer after a clamping activation.
    pub fn limits(self, activation: Activation) -> [i8; 2] {
        match activation {
            Activation::Relu => [self.zero, 127],
            Activation::Relu6 => [self.zero, self.quantise(6.0)],
            _ => [-128, 127],
        }
    }
}

/// A fixed-point factor for scaling integers: `multiplier / 2^shift`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescale {
    /// From 2^30 to below 2^31; 0 for a factor that is too small.
    pub multiplier: i32,
    /// From 1 to 62.
    pub shift: u32,
}

impl Rescale {
    /// The largest factor: one closer to 2^30 would round the multiplier up to 2^31 and need a shift of 0.
    const MOST: f64 = ((1 << 30) - 1) as f64;

    /// The representable factor nearest to `factor`: 0 for negative factors and NaN, at most 2^30 - 1.
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

    /// `x` times the factor, halves rounded up, saturated to 32 bits.
    #[inline(always)]
    pub fn apply(self, x: i32) -> i32 {
        let product = i64::from(x) * i64::from(self.multiplier) + (1 << (self.shift - 1));
        (product >> self.shift).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
    }

    /// The two shifts for engines without 64-bit integers: `x` is shifted left by the first, then the upper
    /// 32 bits of its product with the multiplier are shifted right by the second (at least 1), with halves
    /// rounded up. None if the left shift may overflow for an `x` of magnitude up to `most`.
    pub fn by_upper_half(self, most: i64) -> Option<[u32; 2]> {
        let left = 33u32.saturating_sub(self.shift);
        (left == 0 || most < 1 << (31 - left.min(31))).then_some([left, self.shift + left - 32])
    }
}

/// The number of entries of an [`ActivationTable`].
pub const TABLE_ENTRIES: usize = 4096;

/// An activation as a lookup table, from accumulators to output integers.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationTable {
    /// The difference between the arguments of adjacent entries.
    pub scale: f32,
    /// The index of the entry for the argument 0.
    pub zero: i32,
    /// The output integers.
    pub entries: Vec<i8>,
}

impl ActivationTable {
    /// Tabulates the activation over the range in which the output integers differ.
    pub fn new(activation: Activation, output: Affine) -> Self {
        // Beyond this range, the activation is constant or saturates the output.
        let (least, most) = match activation {
            Activation::HardSwish => (-3.0, output.value(127).max(3.0)),
            Activation::HardSigmoid => (-3.0, 3.0),
            Activation::Sigmoid => (-8.0, 8.0),
            // Starts where swish rounds to 0, and ends where it saturates: swish is at most 0.2785 less than
            // its argument.
            Activation::Swish => {
                let nonzero = |x: &f32| activation.apply(*x) < -output.scale / 2.0;
                let halves = (4..200).map(|i| i as f32 * -0.5);
                (halves.take_while(nonzero).last().unwrap_or(-1.5) - 0.5, output.value(127) + 0.2785)
            }
            Activation::Identity | Activation::Relu | Activation::Relu6 => {
                (output.value(-128), output.value(127))
            }
        };
        let scale = (most - least) / (TABLE_ENTRIES - 1) as f32;
        let zero = (-least / scale).round() as i32;
        let entry = |i: usize| output.quantise(activation.apply((i as i32 - zero) as f32 * scale));
        Self { scale, zero, entries: (0..TABLE_ENTRIES).map(entry).collect() }
    }

    /// The output integer for an accumulator in units of [`ActivationTable::scale`].
    #[inline(always)]
    pub fn at(&self, sum: i32) -> i8 {
        self.entries[sum.saturating_add(self.zero).clamp(0, TABLE_ENTRIES as i32 - 1) as usize]
    }
}

impl Activation {
    /// Returns whether it is more than a clamp, and needs an [`ActivationTable`].
    pub const fn needs_table(self) -> bool {
        match self {
            Self::Identity | Self::Relu | Self::Relu6 => false,
            Self::HardSwish | Self::HardSigmoid | Self::Sigmoid | Self::Swish => true,
        }
    }
}

/// The quantisation of a node that is computed in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8 {
    /// The quantisation of its inputs.
    pub inputs: Vec<Affine>,
    /// The quantisation of its output; none for a convolution with floating-point output.
    pub output: Option<Affine>,
    /// The weight scale of each output; none without weights.
    pub weight_scales: Option<Arc<[f32]>>,
}

impl Graph {
    /// The quantisation of a node, if it is computed in integers. Two kinds of nodes are computed in integers:
    /// convolutions with weight scales and int8 inputs, if their output is int8 or they have no activation; and
    /// global pooling, channel scaling, concatenation and max pooling with int8 inputs and output. All other
    /// nodes are computed in floating point, from dequantised inputs.
    pub fn int8(&self, id: NodeId) -> Option<Int8> {
        let node = self.node(id);
        let output = node.quantisation;
        let inputs: Vec<Affine> =
            node.reads().iter().map(|id| self.node(*id).quantisation).collect::<Option<Vec<Affine>>>()?;
        let weight_scales = match &node.op {
            Op::Conv(conv) if output.is_some() || conv.activation == Activation::Identity => {
                Some(node.weight_scales.clone()?)
            }
            Op::GlobalPool | Op::Scale | Op::Concat(_) | Op::MaxPool(_) if output.is_some() => None,
            _ => return None,
        };
        (!inputs.is_empty()).then_some(Int8 { inputs, output, weight_scales })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_exact_to_31_bits() {
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
    fn affine_maps_represent_zero_and_both_ends() {
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
    fn tables_are_close_to_their_function() {
        for activation in Activation::ALL.into_iter().filter(|activation| activation.needs_table()) {
            let output = Affine::over(-0.375, 4.0);
            let table = ActivationTable::new(activation, output);
            for i in -1000..=1000 {
                let x = i as f32 * 0.01;
                let found = output.value(table.at((x / table.scale).round() as i32));
                let exact = activation.apply(x).min(output.value(127));
                assert!(
                    (found - exact).abs() <= 0.51 * output.scale + 0.002,
                    "{activation} {x}: {found}, {exact}"
                );
            }
        }
    }
}
