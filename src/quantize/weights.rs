//! Weights as whole steps from -127 to 127, a step for each output.

use std::sync::Arc;

use half::f16;

use crate::{
    Tensor,
    cpu::vectorised,
    graph::{Affine, Conv},
    tensor::Element,
};

/// The largest of a weight's integers.
const MOST: f32 = 127.0;

/// Shares of the largest weight that are tried as the end of the integers: what lies beyond is cut off.
const ENDS: [f32; 7] = [1.0, 0.97, 0.94, 0.9, 0.86, 0.8, 0.72];

/// How much of the squares of weights may be lost where they are stored as f16: rounding takes 2^-23 at most, and only
/// weights too small for it more.
const HALF_LOSS: f64 = 1e-6;

/// Sums are of 32 bits, and what is added to them, bias and residual, is to leave room: so many steps at most.
const ROOM: f32 = (1u32 << 28) as f32;

/// A weight as the file has it.
#[derive(Debug, Clone)]
pub(super) struct Rounded {
    /// What the integers stand for.
    pub weight: Arc<Tensor>,
    /// What a step of each output's is.
    pub steps: Arc<[f32]>,
}

/// The integers of a convolution's weights that lose least. `input` is what its input's integers stand for, and
/// `residual` its second input's, if it is computed in integers: a channel with tiny weights gets steps with which its
/// bias has room in a sum.
pub(super) fn rounded(conv: &Conv, input: Option<Affine>, residual: Option<Affine>) -> Rounded {
    let each = conv.weight.data().len() / conv.outputs();
    let reach = residual.map_or(0.0, |affine| affine.value(127).max(-affine.value(-128)));
    let step = |(at, weights): (usize, &[f32])| {
        let bias = conv.bias.as_ref().map_or(0.0, |bias| bias.data()[at].abs());
        let floor = input.map_or(0.0, |input| (bias + reach) / (input.scale * ROOM));
        best_step(weights).max(floor).max(f32::MIN_POSITIVE)
    };
    let steps: Vec<f32> = conv.weight.data().chunks_exact(each).enumerate().map(step).collect();
    let value = |at: usize| {
        let step = steps[at / each];
        f32::from(quantise(conv.weight.data()[at], step)) * step
    };
    let weight = vectorised!(Arc::new(Tensor::from_fn(conv.weight.dims(), value)));
    Rounded { weight, steps: steps.into() }
}

/// A weight's integer, given what a step is.
#[inline(always)]
pub(super) fn quantise(weight: f32, step: f32) -> i8 {
    (weight / step).round_ties_even().clamp(-MOST, MOST) as i8
}

/// The step with which the weights of an output lose least.
fn best_step(weights: &[f32]) -> f32 {
    let largest = weights.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
    let lost = |step: f32| -> f64 {
        let off = |weight: &f32| f64::from(f32::from(quantise(*weight, step)) * step - weight).powi(2);
        vectorised!(weights.iter().map(off).sum())
    };
    let steps = ENDS.map(|end| (end * largest / MOST).max(f32::MIN_POSITIVE));
    let mut best = (steps[0], lost(steps[0]));
    for step in steps {
        let loss = lost(step);
        if loss < best.1 {
            best = (step, loss);
        }
    }
    best.0
}

/// A weight that stays in floating point, as the file has it: f16 where that is exact enough.
pub(super) fn stored(weight: &Arc<Tensor>) -> (Arc<Tensor>, Element) {
    let half = Tensor::from_fn(weight.dims(), |at| f16::from_f32(weight.data()[at]).to_f32());
    let square = |v: f32| f64::from(v).powi(2);
    let whole: f64 = weight.data().iter().map(|v| square(*v)).sum();
    let lost: f64 = weight.data().iter().zip(half.data()).map(|(a, b)| square(a - b)).sum();
    // What overflows is infinitely far off.
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
    fn weights_are_whole_steps_of_their_output() {
        let weights: Vec<f32> =
            (0..64).map(|i| (i as f32 * 0.71).sin() * if i < 32 { 1.0 } else { 1e-3 }).collect();
        let conv = conv(&weights, &[0.5, -0.5]);
        let Rounded { weight, steps } = rounded(&conv, None, None);
        for (at, (&found, &wanted)) in weight.data().iter().zip(&weights).enumerate() {
            let step = steps[at / 32];
            assert_eq!(f32::from(quantise(found, step)) * step, found, "{at}");
            // Cut off at most by what the shortest end leaves.
            assert!((found - wanted).abs() <= 0.5001 * step + 0.28 * 127.0 * step, "{at}: {found}, {wanted}");
        }
    }

    #[test]
    fn a_dead_channel_leaves_room_for_its_bias() {
        let conv = conv(&[0.0, 0.0, 1e-30, -1e-30], &[3.0, 3.0]);
        let input = Affine { scale: 0.02, zero: 0 };
        for step in rounded(&conv, Some(input), Some(Affine { scale: 0.1, zero: -128 })).steps.iter() {
            assert!((3.0 + 25.5) / (input.scale * step) <= 1.001 * ROOM, "{step}");
        }
        assert!(rounded(&conv, None, None).steps.iter().all(|step| *step >= f32::MIN_POSITIVE));
    }

    #[test]
    fn what_f16_has_no_room_for_stays_in_f32() {
        let of = |values: &[f32]| stored(&Arc::new(Tensor::new([values.len()], values.to_vec()).unwrap())).1;
        assert_eq!(of(&[0.1, -3.3, 1e-3]), Element::F16);
        assert_eq!(of(&[1e-9, 2e-9]), Element::F32);
        assert_eq!(of(&[1.0, 1e6]), Element::F32);
    }
}
