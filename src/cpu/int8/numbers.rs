//! The integers that a convolution computes with, one channel after another. Maps lie in unsigned bytes, 128 above
//! what the graph counts them as, so that processors multiply them by signed weights; their zeros are moved likewise.

use super::Maps;
use crate::graph::{Affine, CURVE, Conv, Curve, Rescale};

/// The byte that stands for 0.
pub fn zero(map: Affine) -> u8 {
    byte(map.zero)
}

/// How an integer lies in memory.
#[inline]
pub fn byte(q: i8) -> u8 {
    q.cast_unsigned() ^ 0x80
}

/// The most that a bias counts.
const MOST_BIAS: f64 = (1 << 30) as f64;

/// The most that a residual counts.
const MOST_RESIDUAL: i32 = 1 << 29;

/// A convolution in integers.
pub struct Numbers {
    /// As the graph has them.
    pub weights: Vec<i8>,
    /// With what the zero of the input adds to every sum.
    pub bias: Vec<i32>,
    pub residual: Option<Residual>,
    pub ending: Ending,
    /// The most that a sum of each output may be, either way.
    pub most: Vec<i64>,
}

/// How a residual comes to the steps of the sums.
pub struct Residual {
    pub zero: u8,
    pub rescales: Vec<Rescale>,
}

/// What becomes of sums.
pub enum Ending {
    /// Bytes, cut off beyond the limits.
    Cut { rescales: Vec<Rescale>, zero: u8, limits: [u8; 2] },
    /// Bytes by a curve's table, in which `zero` is the place of 0.
    Bent { rescales: Vec<Rescale>, zero: i32, table: Box<[u8; CURVE]> },
    /// Floating point, with a factor for each output.
    Float(Vec<f32>),
}

impl Numbers {
    /// Of a convolution whose weights' `steps` are known. Without an output its sums become floating point.
    pub fn new(conv: &Conv, steps: &[f32], maps: Maps) -> Result<Self, String> {
        let (outputs, x) = (conv.outputs(), maps.input);
        if steps.len() != outputs {
            return Err(format!("has {} steps for the weights of {outputs} outputs", steps.len()));
        }
        let each = conv.weight.data().len() / outputs;
        let integer =
            |(i, weight): (usize, &f32)| (weight / steps[i / each]).round().clamp(-128.0, 127.0) as i8;
        let weights: Vec<i8> = conv.weight.data().iter().enumerate().map(integer).collect();
        // Of each output's sums.
        let sum_step = |o: usize| f64::from(x.scale) * f64::from(steps[o]);
        let rescales = |factor: &dyn Fn(f64) -> f64| -> Vec<Rescale> {
            (0..outputs).map(|o| Rescale::new(factor(sum_step(o)))).collect()
        };
        let residual = maps
            .residual
            .map(|map| Residual { zero: zero(map), rescales: rescales(&|step| f64::from(map.scale) / step) });
        let ending = match maps.output {
            Some(map) if conv.activation.bends() => {
                let curve = Curve::new(conv.activation, map);
                let rescales = rescales(&|step| step / f64::from(curve.step));
                let table = std::array::from_fn(|at| byte(curve.entries[at]));
                Ending::Bent { rescales, zero: curve.zero, table: Box::new(table) }
            }
            Some(map) => Ending::Cut {
                rescales: rescales(&|step| step / f64::from(map.scale)),
                zero: zero(map),
                limits: map.limits(conv.activation).map(byte),
            },
            None => Ending::Float(steps.iter().map(|step| x.scale * step).collect()),
        };
        let (mut bias, mut most) = (Vec::new(), Vec::new());
        for (o, weights) in weights.chunks_exact(each).enumerate() {
            let exact = conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[o]));
            let own = (exact / sum_step(o)).round_ties_even().clamp(-MOST_BIAS, MOST_BIAS) as i32;
            let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
            bias.push(own.wrapping_sub(i32::from(zero(x)).wrapping_mul(sum)));
            let products: i64 = weights.iter().map(|w| 255 * i64::from(w.unsigned_abs())).sum();
            let added = if residual.is_some() { i64::from(MOST_RESIDUAL) } else { 0 };
            most.push(i64::from(own).abs() + products + added);
        }
        Ok(Self { weights, bias, residual, ending, most })
    }

    /// What a byte of the residual adds to a sum of output `o`.
    pub fn added(&self, o: usize, residual: u8) -> i32 {
        let Some(Residual { zero, rescales }) = &self.residual else { return 0 };
        rescales[o].apply(i32::from(residual) - i32::from(*zero)).clamp(-MOST_RESIDUAL, MOST_RESIDUAL)
    }

    /// The byte that a sum of output `o` becomes: 0 if it becomes floating point.
    pub fn byte(&self, o: usize, sum: i32) -> u8 {
        match &self.ending {
            Ending::Cut { rescales, zero, limits: [least, most] } => {
                let moved = rescales[o].apply(sum).saturating_add(i32::from(*zero));
                moved.max(i32::from(*least)).min(i32::from(*most)) as u8
            }
            Ending::Bent { rescales, zero, table } => {
                let place = rescales[o].apply(sum).saturating_add(*zero);
                table[place.clamp(0, CURVE as i32 - 1) as usize]
            }
            Ending::Float(_) => 0,
        }
    }

    /// Bytes of a value that it makes.
    pub fn size(&self) -> usize {
        if matches!(self.ending, Ending::Float(_)) { 4 } else { 1 }
    }
}
