//! Activations of vectors. They are functions of types, not closures: a closure that is not inlined is compiled without
//! the processor's features, and each of its vector instructions becomes a call.

use pulp::Simd;

use crate::graph::Activation;

/// An activation as a type. Loops are compiled for each type, so that they do not branch on it.
pub trait Function: Copy {
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
}

/// ReLU, ReLU6 and no activation: clamps the bits as integers. From 0 on, floats are ordered as their bits, and
/// negative floats are negative integers. On many processors, integer comparisons leave the units of multiply-adds
/// free.
#[derive(Clone, Copy)]
pub struct Clamp {
    low: i32,
    high: i32,
}

impl Clamp {
    const RELU6: Self = Self { low: 0, high: 6.0f32.to_bits().cast_signed() };

    /// The clamp of an activation. For other activations it is the identity: gates are applied by
    /// [`activate_late`], hard-swish and swish have functions of their own.
    pub fn of(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self { low: 0, high: i32::MAX },
            Activation::Relu6 => Self::RELU6,
            Activation::Identity
            | Activation::HardSigmoid
            | Activation::Sigmoid
            | Activation::HardSwish
            | Activation::Swish => Self { low: i32::MIN, high: i32::MAX },
        }
    }
}

impl Function for Clamp {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let bits = simd.max_i32s(simd.transmute_i32s_f32s(x), simd.splat_i32s(self.low));
        simd.transmute_f32s_i32s(simd.min_i32s(bits, simd.splat_i32s(self.high)))
    }
}

/// x * relu6(x + 3) / 6
#[derive(Clone, Copy)]
pub struct HardSwish;

impl Function for HardSwish {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let gate = Clamp::RELU6.apply(simd, simd.add_f32s(x, simd.splat_f32s(3.0)));
        simd.mul_f32s(x, simd.mul_f32s(gate, simd.splat_f32s(1.0 / 6.0)))
    }
}

/// x / (1 + exp(-x)). The exponential is 2^n exp(r) with an integer n and |r| of at most ln 2 / 2. exp(r) is
/// the polynomial of Cephes' `expf`, within two units in the last place.
#[derive(Clone, Copy)]
pub struct Swish;

impl Function for Swish {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let splat = |value| simd.splat_f32s(value);
        // 1.5 * 2^23: adding it rounds a number to an integer, which is then in the lowest bits.
        let rounder = splat(12_582_912.0);
        // Beyond 87 and -87, exponentials leave f32's range.
        let t = simd.max_f32s(simd.min_f32s(simd.neg_f32s(x), splat(87.0)), splat(-87.0));
        let n = simd.mul_add_e_f32s(t, splat(std::f32::consts::LOG2_E), rounder);
        let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(n), simd.splat_u32s(23));
        let power = simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(1.0f32.to_bits())));
        let n = simd.sub_f32s(n, rounder);
        // ln 2 in two parts; the first has few enough bits for an exact product with n.
        let r = simd.mul_add_e_f32s(n, splat(-0.693_359_4), t);
        let r = simd.mul_add_e_f32s(n, splat(2.121_944_4e-4), r);
        let mut sum = splat(1.987_569_1e-4);
        for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            sum = simd.mul_add_e_f32s(sum, r, splat(factor));
        }
        let exp = simd.mul_add_e_f32s(sum, simd.mul_f32s(r, r), simd.add_f32s(r, splat(1.0)));
        simd.div_f32s(x, simd.mul_add_e_f32s(exp, power, splat(1.0)))
    }
}

/// Evaluates `body` with the [`Function`] of an activation.
macro_rules! with_function {
    ($activation:expr, $function:ident => $body:expr) => {
        match $activation {
            crate::graph::Activation::HardSwish => {
                let $function = crate::cpu::activation::HardSwish;
                $body
            }
            crate::graph::Activation::Swish => {
                let $function = crate::cpu::activation::Swish;
                $body
            }
            // A wildcard, unlike the exhaustive match in `Clamp::of`: if activations are listed here, the compiler
            // makes a loop for each, and depthwise layers take 1.6 times as long.
            other => {
                let $function = crate::cpu::activation::Clamp::of(other);
                $body
            }
        }
    };
}
pub(super) use with_function;

/// Applies the gates' activations, which no [`Function`] applies, after a convolution has stored its sums.
pub fn activate_late(activation: Activation, values: &mut [f32]) {
    if matches!(activation, Activation::HardSigmoid | Activation::Sigmoid) {
        values.iter_mut().for_each(|value| *value = activation.apply(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies the vector activation to every value.
    struct Activated<'a>(&'a mut [f32], Activation);

    impl pulp::WithSimd for Activated<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            for value in self.0 {
                let mut vector = [0.0; 64];
                let x = simd.splat_f32s(*value);
                let y = with_function!(self.1, function => function.apply(simd, x));
                simd.partial_store_f32s(&mut vector[..S::F32_LANES], y);
                *value = vector[0];
            }
        }
    }

    #[test]
    fn vector_activations_match_their_functions() {
        let xs: Vec<f32> =
            (-4000..=4000).map(|i| i as f32 * 0.03).chain([-1e30, -0.0, 1e-30, 1e30]).collect();
        for activation in [Activation::Relu, Activation::Relu6, Activation::HardSwish, Activation::Swish] {
            let mut found = xs.clone();
            pulp::Arch::new().dispatch(Activated(&mut found, activation));
            for (x, found) in xs.iter().zip(found) {
                let exact = match activation {
                    Activation::Swish => (f64::from(*x) / (1.0 + (-f64::from(*x)).exp())) as f32,
                    _ => activation.apply(*x),
                };
                // Far below zero the exponent is clamped to 87, and swish is close to 0.
                let most = 4e-7 * exact.abs() + 1e-37 * x.abs();
                assert!((found - exact).abs() <= most, "{activation} {x}: {found}, {exact}");
            }
        }
    }
}
