//! Random cases for kernels, and the code that runs them.

use std::sync::Arc;

use goldcrest::{
    Shape, Tensor,
    gpu::Gpu,
    graph::{Activation, Conv, Padding, Window},
    kernels::{Launch, pointwise, resize},
    tensor::{Element, layout},
};
use half::f16;
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};

const CASES: u32 = 24;

/// Pseudo-random values in -1..1.
pub fn noise(shape: impl Into<Vec<usize>>, mut seed: u64) -> Tensor {
    Tensor::from_fn(shape, |_| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

/// Rounds a tensor to `element`, so that storing it is exact.
pub fn rounded(tensor: &Tensor, element: Element) -> Tensor {
    let round = |v: f32| match element {
        Element::F32 => v,
        Element::F16 => f16::from_f32(v).to_f32(),
    };
    Tensor::from_fn(tensor.dims(), |i| round(tensor.data()[i]))
}

/// Rounds a convolution's weights to `element`. Biases are always f32.
pub fn rounded_weights(conv: &Conv, element: Element) -> Conv {
    Conv { weight: Arc::new(rounded(&conv.weight, element)), ..conv.clone() }
}

/// Returns the largest error of each value of a map that is stored as `element`: `error`, its error before,
/// plus half a unit in the last place. The rounding of f32 is left to the tests' tolerances.
pub fn storage_error(exact: &Tensor, error: Option<&Tensor>, element: Element) -> Tensor {
    Tensor::from_fn(exact.dims(), |i| {
        let (v, error) = (exact.data()[i].abs(), error.map_or(0.0, |e| e.data()[i]));
        let largest = v + error;
        match element {
            Element::F32 => error,
            Element::F16 if largest == 0.0 => 0.0,
            // f16 has 11 significant bits, and no bit below 2^-24.
            Element::F16 => error + (largest * 0.5f32.powi(11)).max(0.5f32.powi(25)),
        }
    })
}

/// Returns an activation's largest slope: the most by which it multiplies an error.
pub fn max_slope(activation: Activation) -> f32 {
    match activation {
        Activation::Identity | Activation::Relu | Activation::Relu6 => 1.0,
        Activation::HardSwish => 1.5,
        Activation::HardSigmoid => 1.0 / 6.0,
        Activation::Sigmoid => 0.25,
        Activation::Swish => 1.1,
    }
}

/// Returns the largest error of each output of a pointwise convolution with sums in `arithmetic`: half a unit
/// in the last place for every product and every sum, relative to the largest possible partial sum. The
/// rounding of f32 is left to the tests' tolerances.
pub fn accumulation_error(conv: &Conv, x: &Tensor, y: Shape, arithmetic: Element) -> Tensor {
    let absolute = |t: &Tensor| Tensor::from_fn(t.dims(), |i| t.data()[i].abs());
    let largest = Conv {
        weight: Arc::new(absolute(&conv.weight)),
        bias: conv.bias.as_ref().map(|bias| Arc::new(absolute(bias))),
        activation: Activation::Identity,
        ..conv.clone()
    };
    let largest = pointwise::reference(&largest, &absolute(x), y, None);
    // Each product is rounded, and every sum after it; a gate may have rounded `x` before.
    let roundings = match arithmetic {
        Element::F32 => 0.0,
        Element::F16 => conv.inputs().next_multiple_of(4) as f32 + 3.0,
    };
    let each = roundings * 0.5f32.powi(11) * max_slope(conv.activation);
    Tensor::from_fn(largest.dims(), |i| each * largest.data()[i])
}

/// Returns the relative error of the whole of `exact` if `bound` is the error of each value.
pub fn relative_bound(bound: &Tensor, exact: &Tensor) -> f64 {
    let norm = |t: &Tensor| t.data().iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    norm(bound) / norm(exact).max(f64::MIN_POSITIVE)
}

/// Checks that `found` are the channels of `input`, resized to `y`, with the largest values, within rounding.
pub fn check_argmax(found: &Tensor, input: &Tensor, y: Shape) -> Result<(), TestCaseError> {
    let channels = input.dims()[1];
    let scaled = resize::reference(input, Shape { c: channels, ..y });
    let plane = y.h * y.w;
    prop_assert_eq!(found.dims(), [y.n, 1, y.h, y.w]);
    for (at, channel) in found.data().iter().map(|v| *v as usize).enumerate() {
        let value = |c: usize| scaled.data()[(at / plane * channels + c) * plane + at % plane];
        let most = (0..channels).map(value).fold(f32::MIN, f32::max);
        prop_assert!(channel < channels, "channel {channel} of {channels}");
        prop_assert!(value(channel) >= most - 1e-6, "{} at {at}, not {most}", value(channel));
    }
    Ok(())
}

/// Converts a tensor to the device's layout.
pub fn on_device(tensor: &Tensor) -> Vec<f32> {
    // Kernels must ignore the padding's values, as long as they are finite.
    padded(tensor, 1e3)
}

/// Converts a gate to the device's layout. It is a sigmoid's output, padding included.
pub fn gate_on_device(tensor: &Tensor) -> Vec<f32> {
    padded(tensor, 1.0)
}

fn padded(tensor: &Tensor, padding: f32) -> Vec<f32> {
    let shape = tensor.shape().unwrap();
    let mut values = vec![0.0; layout::len(shape)];
    layout::to_device(tensor, shape, &mut values);
    let (channels, padded) = (shape.c, shape.quads() * 4);
    for (i, value) in values.iter_mut().enumerate() {
        if i % padded >= channels {
            *value = padding;
        }
    }
    values
}

pub fn activation() -> impl Strategy<Value = Activation> {
    prop::sample::select(&Activation::ALL[..])
}

pub fn padding() -> impl Strategy<Value = Padding> {
    prop_oneof![Just(Padding::Symmetric), Just(Padding::Same)]
}

/// A convolution, its input shape, and the other parameters of a launch.
#[derive(Debug, Clone)]
pub struct Case {
    pub conv: Conv,
    pub x: Shape,
    pub residual: bool,
    pub tile: usize,
    pub seed: u64,
}

impl Case {
    /// The case with its weights rounded to `element`.
    pub fn stored_as(&self, element: Element) -> Self {
        Self { conv: rounded_weights(&self.conv, element), ..self.clone() }
    }

    pub fn window(&self) -> Window {
        self.conv.window(self.x.h, self.x.w).expect("the strategy makes inputs that hold the window")
    }

    pub fn y(&self) -> Shape {
        let window = self.window();
        Shape::new(self.x.n, self.conv.outputs(), window.height, window.width)
    }
}

/// Batch size, input and output channels, rows and columns: small, odd, and not square.
pub fn sizes() -> impl Strategy<Value = (usize, usize, usize, usize, usize)> {
    (1..4usize, 1..40usize, 1..40usize, 1..20usize, 1..20usize)
}

pub fn convolution(windowed: bool, depthwise: bool) -> impl Strategy<Value = Case> {
    let window = if windowed {
        (prop::sample::select(&[1usize, 2, 3, 5, 7][..]), 1..4usize, 1..4usize, padding()).boxed()
    } else {
        Just((1, 1, 1, Padding::Symmetric)).boxed()
    };
    let rest = (activation(), any::<bool>(), any::<bool>(), any::<usize>(), any::<u64>());
    (sizes(), window, rest).prop_filter_map("the window does not fit", move |(size, window, rest)| {
        let ((n, inputs, outputs, h, w), (kernel, stride, dilation, padding)) = (size, window);
        let (activation, biased, residual, tile, seed) = rest;
        let (outputs, groups) = if depthwise { (inputs, inputs) } else { (outputs, 1) };
        let weight = noise([outputs, inputs / groups, kernel, kernel], seed ^ 1);
        let bias = biased.then(|| Arc::new(noise([outputs], seed ^ 2)));
        let conv = Conv {
            weight: Arc::new(weight),
            bias,
            stride,
            dilation,
            padding,
            groups,
            activation,
            linear: false,
        };
        let x = Shape::new(n, inputs, h, w);
        conv.window(h, w)?;
        Some(Case { conv, x, residual, tile, seed })
    })
}

/// A fixed seed, so that results are reproducible. `PROPTEST_CASES=2000` and `PROPTEST_RNG_SEED=7` test more
/// cases.
pub fn config() -> ProptestConfig {
    let is_set = |name| std::env::var_os(name).is_some();
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if !is_set("PROPTEST_CASES") {
        config.cases = CASES;
    }
    if !is_set("PROPTEST_RNG_SEED") {
        config.rng_seed = RngSeed::Fixed(0);
    }
    config
}

/// Runs `check` on random cases on every adapter, with every element type that it supports.
pub fn on_every_adapter<T: std::fmt::Debug>(
    strategy: impl Strategy<Value = T>,
    check: impl Fn(&Gpu, Element, &T) -> Result<(), TestCaseError>,
) {
    for gpu in super::gpus() {
        for element in gpu.elements() {
            TestRunner::new(config())
                .run(&strategy, |case| check(&gpu, element, &case))
                .unwrap_or_else(|e| panic!("{element} on {}: {e}", gpu.adapter()));
        }
    }
}

/// Runs a kernel and returns its first output, of `len` values.
pub fn dispatch(
    gpu: &Gpu,
    launch: &Launch,
    element: Element,
    reads: &[&[f32]],
    len: usize,
) -> Result<Vec<f32>, TestCaseError> {
    let lens = &[len, 4][..launch.shader.writes.len()];
    let written =
        gpu.dispatch(launch, element, reads, lens).map_err(|e| TestCaseError::fail(e.to_string()))?;
    Ok(written.into_iter().next().expect("every kernel writes something"))
}
