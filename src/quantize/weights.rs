//! Weights as integers from -127 to 127, with one scale per output.

use std::sync::Arc;

use half::f16;

use crate::{
    Tensor,
    cpu::vectorised,
    graph::{Affine, Conv},
    tensor::Element,
};

/// The largest integer of a weight.
const MOST: f32 = 127.0;

/// Candidate ends of the representable range, as fractions of the largest weight: larger weights are clipped.
const ENDS: [f32; 7] = [1.0, 0.97, 0.94, 0.9, 0.86, 0.8, 0.72];

/// The largest relative squared error with which weights are stored as f16. Rounding causes 2^-22 at most;
/// only weights below f16's normal range cause more.
const HALF_LOSS: f64 = 1e-6;

/// The largest sum of bias and residual, in units of an i32 accumulator, which leaves room for the products.
const ROOM: f32 = (1u32 << 28) as f32;

/// A convolution's quantised weights.
#[derive(Debug, Clone)]
pub(super) struct Rounded {
    /// The values that the integers represent.
    pub weight: Arc<Tensor>,
    /// The scale of each output's weights.
    pub scales: Arc<[f32]>,
}

/// Quantises a convolution's weights with the least error. `input` and `residual` are the quantisations of
/// its first and second input, if it is computed in integers: a channel with tiny weights then gets a scale
/// large enough for its bias to fit in the accumulator.
pub(super) fn rounded(conv: &Conv, input: Option<Affine>, residual: Option<Affine>) -> Rounded {
    let each = conv.weight.data().len() / conv.outputs();
    let reach = residual.map_or(0.0, |affine| affine.value(127).max(-affine.value(-128)));
    let scale = |(at, weights): (usize, &[f32])| {
        let bias = conv.bias.as_ref().map_or(0.0, |bias| bias.data()[at].abs());
        let lower_bound = input.map_or(0.0, |input| (bias + reach) / (input.scale * ROOM));
        best_scale(weights).max(lower_bound).max(f32::MIN_POSITIVE)
    };
    let scales: Vec<f32> = conv.weight.data().chunks_exact(each).enumerate().map(scale).collect();
    let value = |at: usize| {
        let scale = scales[at / each];
        f32::from(quantise(conv.weight.data()[at], scale)) * scale
    };
    let weight = vectorised!(Arc::new(Tensor::from_fn(conv.weight.dims(), value)));
    Rounded { weight, scales: scales.into() }
}

/// Rounds a weight to an integer multiple of `scale`.
#[inline(always)]
pub(super) fn quantise(weight: f32, scale: f32) -> i8 {
    (weight / scale).round_ties_even().clamp(-MOST, MOST) as i8
}

/// The scale with the least error for an output's weights.
fn best_scale(weights: &[f32]) -> f32 {
    let largest = weights.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
    let lost = |scale: f32| -> f64 {
        let off = |weight: &f32| f64::from(f32::from(quantise(*weight, scale)) * scale - weight).powi(2);
        vectorised!(weights.iter().map(off).sum())
    };
    let scales = ENDS.map(|end| (end * largest / MOST).max(f32::MIN_POSITIVE));
    let mut best = (scales[0], lost(scales[0]));
    for scale in scales {
        let loss = lost(scale);
        if loss < best.1 {
            best = (scale, loss);
        }
    }
    best.0
}

/// A weight that stays in floating point, as the file stores it: f16 if that is exact enough.
pub(super) fn stored(weight: &Arc<Tensor>) -> (Arc<Tensor>, Element) {
    let half = Tensor::from_fn(weight.dims(), |at| f16::from_f32(weight.data()[at]).to_f32());
    let square = |v: f32| f64::from(v).powi(2);
    let whole: f64 = weight.data().iter().map(|v| square(*v)).sum();
    let lost: f64 = weight.data().iter().zip(half.data()).map(|(a, b)| square(a - b)).sum();
    // An overflow makes `lost` infinite.
    if lost <= HALF_LOSS * whole { (Arc::new(half), Element::F16) } else { (weight.clone(), Element::F32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, Padding};

    fn conv(weights: &[f32], bias: &[f32]) -> Conv {
        let dims = [bias.len(), weights.len() / bias.len(), 1, 1];
        Conv {
            weight: Arc::new(Tensor::new(dims, weights.to_vec()).unwrap()),
            bias: Some(Arc::new(Tensor::new([bias.len()], bias.to_vec()).unwrap())),
            stride: 1,
            dilation: 1,
            padding: Padding::Symmetric,
            groups: 1,
            activation: Activation::Identity,
            linear: false,
        }
    }

    #[test]
    fn weights_are_integer_multiples_of_their_scale() {
        let weights: Vec<f32> =
            (0..64).map(|i| (i as f32 * 0.71).sin() * if i < 32 { 1.0 } else { 1e-3 }).collect();
        let conv = conv(&weights, &[0.5, -0.5]);
        let Rounded { weight, scales } = rounded(&conv, None, None);
        for (at, (&found, &wanted)) in weight.data().iter().zip(&weights).enumerate() {
            let scale = scales[at / 32];
            assert_eq!(f32::from(quantise(found, scale)) * scale, found, "{at}");
            // Clipped at most by the narrowest candidate.
            assert!(
                (found - wanted).abs() <= 0.5001 * scale + 0.28 * 127.0 * scale,
                "{at}: {found}, {wanted}"
            );
        }
    }

    #[test]
    fn a_dead_channel_leaves_room_for_its_bias() {
        let conv = conv(&[0.0, 0.0, 1e-30, -1e-30], &[3.0, 3.0]);
        let input = Affine { scale: 0.02, zero: 0 };
        for scale in rounded(&conv, Some(input), Some(Affine { scale: 0.1, zero: -128 })).scales.iter() {
            assert!((3.0 + 25.5) / (input.scale * scale) <= 1.001 * ROOM, "{scale}");
        }
        assert!(rounded(&conv, None, None).scales.iter().all(|scale| *scale >= f32::MIN_POSITIVE));
    }

    #[test]
    fn weights_outside_the_range_of_f16_stay_in_f32() {
        let of = |values: &[f32]| stored(&Arc::new(Tensor::new([values.len()], values.to_vec()).unwrap())).1;
        assert_eq!(of(&[0.1, -3.3, 1e-3]), Element::F16);
        assert_eq!(of(&[1e-9, 2e-9]), Element::F32);
        assert_eq!(of(&[1.0, 1e6]), Element::F32);
    }
}
