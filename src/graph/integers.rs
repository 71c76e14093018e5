//! The integer parameters of an int8 convolution, per output.

use super::{ActivationTable, Conv, Int8, Rescale};

/// The largest magnitude of a bias, in units of the accumulator.
const MOST_BIAS: f64 = (1 << 30) as f64;

/// The largest magnitude of a rescaled residual, in units of the accumulator.
const MOST_RESIDUAL: i32 = 1 << 29;

/// A convolution in integers. The accumulator of an output is the sum of products `q_x q_w`, plus bias and
/// residual; [`EpilogueKind`] describes its conversion to the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Integers {
    /// The quantised weights, in the convolution's order.
    pub weights: Vec<i8>,
    /// The biases, corrected for the zero point of the input.
    pub bias: Vec<i32>,
    /// The rescaling of the residual, if there is one.
    pub residual: Option<ResidualRescale>,
    /// The conversion of accumulators to outputs.
    pub epilogue: EpilogueKind,
    /// An upper bound for the magnitude of each output's sum of `(q_x - zero) q_w`, bias and residual.
    pub most: Vec<i64>,
    /// An upper bound for the magnitude of an output's sum of `q_x q_w`, over all outputs.
    pub products: i64,
}

/// The rescaling of a residual to the accumulators' scale.
#[derive(Debug, Clone, PartialEq)]
pub struct ResidualRescale {
    /// The residual's zero point.
    pub zero: i8,
    /// The factor of each output.
    pub rescales: Vec<Rescale>,
}

/// The conversion of accumulators to outputs.
#[derive(Debug, Clone, PartialEq)]
pub enum EpilogueKind {
    /// Integers, clamped to the limits.
    Clamped {
        /// The factor of each output.
        rescales: Vec<Rescale>,
        /// The output's zero point.
        zero: i8,
        /// The smallest and the largest integer.
        limits: [i8; 2],
    },
    /// Integers, looked up in the activation's table.
    Table {
        /// The factor of each output, to units of [`ActivationTable::scale`].
        rescales: Vec<Rescale>,
        /// The table.
        table: ActivationTable,
    },
    /// Floating point, with one factor per output.
    Float(Vec<f32>),
}

/// The integer of a weight that is an integer multiple of `scale`, from -128 to 127.
pub(crate) fn weight_integer(weight: f32, scale: f32) -> i8 {
    (weight / scale).round().clamp(-128.0, 127.0) as i8
}

impl Integers {
    /// Checks that a convolution has one weight scale per output. If not, it cannot be quantised, and the
    /// reason is returned.
    pub fn refusal(conv: &Conv, int8: &Int8) -> Option<String> {
        let (outputs, scales) = (conv.outputs(), int8.weight_scales.as_deref().unwrap_or_default().len());
        (scales != outputs).then(|| format!("has {scales} weight scales for {outputs} outputs"))
    }

    /// Quantises a convolution, given the quantisation of its inputs, weights and output.
    ///
    /// # Errors
    /// The reason that [`Integers::refusal`] gives.
    pub fn new(conv: &Conv, int8: &Int8) -> Result<Self, String> {
        if let Some(reason) = Self::refusal(conv, int8) {
            return Err(reason);
        }
        let (outputs, x) = (conv.outputs(), int8.inputs[0]);
        let scales = int8.weight_scales.as_deref().unwrap_or_default();
        let each = conv.weight.data().len() / outputs;
        let integer = |(i, weight): (usize, &f32)| weight_integer(*weight, scales[i / each]);
        let weights: Vec<i8> = conv.weight.data().iter().enumerate().map(integer).collect();
        // The scale of an output's accumulator.
        let sum_scale = |o: usize| f64::from(x.scale) * f64::from(scales[o]);
        let rescales = |factor: &dyn Fn(f64) -> f64| -> Vec<Rescale> {
            (0..outputs).map(|o| Rescale::new(factor(sum_scale(o)))).collect()
        };
        let residual = int8.inputs.get(1).map(|map| ResidualRescale {
            zero: map.zero,
            rescales: rescales(&|sum_scale| f64::from(map.scale) / sum_scale),
        });
        let epilogue = match int8.output {
            Some(map) if conv.activation.needs_table() => {
                let table = ActivationTable::new(conv.activation, map);
                EpilogueKind::Table {
                    rescales: rescales(&|sum_scale| sum_scale / f64::from(table.scale)),
                    table,
                }
            }
            Some(map) => EpilogueKind::Clamped {
                rescales: rescales(&|sum_scale| sum_scale / f64::from(map.scale)),
                zero: map.zero,
                limits: map.limits(conv.activation),
            },
            None => EpilogueKind::Float(scales.iter().map(|scale| x.scale * scale).collect()),
        };
        let (mut bias, mut most, mut products) = (Vec::new(), Vec::new(), 0);
        for (o, weights) in weights.chunks_exact(each).enumerate() {
            let exact = conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[o]));
            let own = (exact / sum_scale(o)).round_ties_even().clamp(-MOST_BIAS, MOST_BIAS) as i32;
            let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
            bias.push(own.wrapping_sub(i32::from(x.zero).wrapping_mul(sum)));
            let size: i64 = weights.iter().map(|w| i64::from(w.unsigned_abs())).sum();
            let added = if residual.is_some() { i64::from(MOST_RESIDUAL) } else { 0 };
            most.push(i64::from(own).abs() + 255 * size + added);
            products = products.max(128 * size);
        }
        Ok(Self { weights, bias, residual, epilogue, most, products })
    }

    /// The bias of output `o` for inputs that are stored as `q_x - zero`.
    pub fn bias_from(&self, o: usize, zero: i32) -> i32 {
        let each = self.weights.len() / self.bias.len();
        let sum: i32 = self.weights[o * each..][..each].iter().map(|w| i32::from(*w)).sum();
        self.bias[o].wrapping_add(zero.wrapping_mul(sum))
    }

    /// The value that a residual's integer adds to the accumulator of output `o`.
    pub fn added(&self, o: usize, residual: i8) -> i32 {
        let Some(ResidualRescale { zero, rescales }) = &self.residual else { return 0 };
        rescales[o].apply(i32::from(residual) - i32::from(*zero)).clamp(-MOST_RESIDUAL, MOST_RESIDUAL)
    }

    /// The output integer for the accumulator of output `o`; 0 if the output is floating point.
    pub fn finished(&self, o: usize, sum: i32) -> i8 {
        match &self.epilogue {
            EpilogueKind::Clamped { rescales, zero, limits: [least, most] } => {
                let moved = rescales[o].apply(sum).saturating_add(i32::from(*zero));
                moved.max(i32::from(*least)).min(i32::from(*most)) as i8
            }
            EpilogueKind::Table { rescales, table } => table.at(rescales[o].apply(sum)),
            EpilogueKind::Float(_) => 0,
        }
    }
}
