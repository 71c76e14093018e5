//! The integers that a convolution computes with, one output after another.

use super::{Conv, Curve, Int8, Rescale};

/// The most that a bias counts.
const MOST_BIAS: f64 = (1 << 30) as f64;

/// The most that a residual counts.
const MOST_RESIDUAL: i32 = 1 << 29;

/// A convolution in integers: to the sum of products, `q_x q_w`, each output's bias is added, and the residual; what
/// becomes of that is its ending.
#[derive(Debug, Clone, PartialEq)]
pub struct Integers {
    /// In the convolution's order.
    pub weights: Vec<i8>,
    /// With what the zero of the input adds to every sum.
    pub bias: Vec<i32>,
    /// What a residual adds.
    pub carry: Option<Carry>,
    /// What becomes of sums.
    pub ending: Ending,
    /// The most that a sum of each output may be, either way, that its bias without the zero's part and the residual
    /// are in.
    pub most: Vec<i64>,
    /// The most that the products alone of an output add up to, either way.
    pub products: i64,
}

/// How a residual comes to the steps of the sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Carry {
    /// The integer that stands for 0.
    pub zero: i8,
    /// Of each output.
    pub rescales: Vec<Rescale>,
}

/// What becomes of sums.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Integers, cut off beyond the limits.
    Cut {
        /// Of each output.
        rescales: Vec<Rescale>,
        /// The integer that stands for 0.
        zero: i8,
        /// The least and the largest.
        limits: [i8; 2],
    },
    /// Integers that a curve has for them.
    Bent {
        /// Of each output, to steps of the curve.
        rescales: Vec<Rescale>,
        /// The curve.
        curve: Curve,
    },
    /// Floating point, with a factor for each output.
    Float(Vec<f32>),
}

impl Integers {
    /// Why a convolution with this around it has none: its weights have not a step for each output.
    pub fn refusal(conv: &Conv, around: &Int8) -> Option<String> {
        let (outputs, steps) = (conv.outputs(), around.steps.as_deref().unwrap_or_default().len());
        (steps != outputs).then(|| format!("has {steps} steps for the weights of {outputs} outputs"))
    }

    /// Of a convolution with this around it.
    ///
    /// # Errors
    /// As [`Integers::refusal`] says.
    pub fn new(conv: &Conv, around: &Int8) -> Result<Self, String> {
        if let Some(reason) = Self::refusal(conv, around) {
            return Err(reason);
        }
        let (outputs, x) = (conv.outputs(), around.inputs[0]);
        let steps = around.steps.as_deref().unwrap_or_default();
        let each = conv.weight.data().len() / outputs;
        let integer =
            |(i, weight): (usize, &f32)| (weight / steps[i / each]).round().clamp(-128.0, 127.0) as i8;
        let weights: Vec<i8> = conv.weight.data().iter().enumerate().map(integer).collect();
        // Of each output's sums.
        let sum_step = |o: usize| f64::from(x.scale) * f64::from(steps[o]);
        let rescales = |factor: &dyn Fn(f64) -> f64| -> Vec<Rescale> {
            (0..outputs).map(|o| Rescale::new(factor(sum_step(o)))).collect()
        };
        let carry = around
            .inputs
            .get(1)
            .map(|map| Carry { zero: map.zero, rescales: rescales(&|step| f64::from(map.scale) / step) });
        let ending = match around.output {
            Some(map) if conv.activation.bends() => {
                let curve = Curve::new(conv.activation, map);
                Ending::Bent { rescales: rescales(&|step| step / f64::from(curve.step)), curve }
            }
            Some(map) => Ending::Cut {
                rescales: rescales(&|step| step / f64::from(map.scale)),
                zero: map.zero,
                limits: map.limits(conv.activation),
            },
            None => Ending::Float(steps.iter().map(|step| x.scale * step).collect()),
        };
        let (mut bias, mut most, mut products) = (Vec::new(), Vec::new(), 0);
        for (o, weights) in weights.chunks_exact(each).enumerate() {
            let exact = conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[o]));
            let own = (exact / sum_step(o)).round_ties_even().clamp(-MOST_BIAS, MOST_BIAS) as i32;
            let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
            bias.push(own.wrapping_sub(i32::from(x.zero).wrapping_mul(sum)));
            let size: i64 = weights.iter().map(|w| i64::from(w.unsigned_abs())).sum();
            let added = if carry.is_some() { i64::from(MOST_RESIDUAL) } else { 0 };
            most.push(i64::from(own).abs() + 255 * size + added);
            products = products.max(128 * size);
        }
        Ok(Self { weights, bias, carry, ending, most, products })
    }

    /// Without its weights' sums: the bias of output `o` for inputs that are counted from `zero` on.
    pub fn bias_from(&self, o: usize, zero: i32) -> i32 {
        let each = self.weights.len() / self.bias.len();
        let sum: i32 = self.weights[o * each..][..each].iter().map(|w| i32::from(*w)).sum();
        self.bias[o].wrapping_add(zero.wrapping_mul(sum))
    }

    /// What an integer of the residual adds to a sum of output `o`.
    pub fn added(&self, o: usize, residual: i8) -> i32 {
        let Some(Carry { zero, rescales }) = &self.carry else { return 0 };
        rescales[o].apply(i32::from(residual) - i32::from(*zero)).clamp(-MOST_RESIDUAL, MOST_RESIDUAL)
    }

    /// The integer that a sum of output `o` becomes: 0 if it becomes floating point.
    pub fn finished(&self, o: usize, sum: i32) -> i8 {
        match &self.ending {
            Ending::Cut { rescales, zero, limits: [least, most] } => {
                let moved = rescales[o].apply(sum).saturating_add(i32::from(*zero));
                moved.max(i32::from(*least)).min(i32::from(*most)) as i8
            }
            Ending::Bent { rescales, curve } => curve.at(rescales[o].apply(sum)),
            Ending::Float(_) => 0,
        }
    }
}
