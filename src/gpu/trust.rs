//! Does this adapter compute what it should? Drivers have bugs; a user should know at once.

use std::{sync::Arc, time::Instant};

use serde::Serialize;

use super::Gpu;
use crate::{
    Error, Result, Shape, Tensor,
    graph::{Activation, Conv, Padding},
    kernels::{self, Launch, dense, depthwise, pointwise, pointwise_split, pool, scale},
    tensor::layout,
};

/// The largest error that rounding explains, over the reference's norm.
pub const TOLERANCE: f64 = 1e-5;

/// What came of a check.
#[derive(Debug, Clone, Serialize)]
pub struct Trust {
    /// Every kernel's ||out - reference|| / ||reference||.
    pub errors: Vec<(&'static str, f64)>,
    /// True if all are within what rounding explains.
    pub trusted: bool,
    /// How long it took, compilation included.
    pub seconds: f64,
}

/// Runs every kernel once on an odd shape and compares it with its reference.
///
/// # Errors
/// [`Error::Device`] if the device refuses a kernel or is lost.
pub fn check(gpu: &Gpu) -> Result<Trust> {
    let start = Instant::now();
    let mut errors = Vec::new();
    for case in cases()? {
        let reads: Vec<&[f32]> = case.reads.iter().map(Vec::as_slice).collect();
        let shape = case.expected.shape()?;
        let out = gpu.dispatch(&case.launch, &reads, layout::len(shape))?;
        let error = distance(&layout::from_device(shape, &out), &case.expected);
        errors.push((case.launch.shader.name, error));
    }
    // Written so that a NaN is not trusted.
    let trusted = errors.iter().all(|(_, e)| *e <= TOLERANCE);
    Ok(Trust { errors, trusted, seconds: start.elapsed().as_secs_f64() })
}

struct Case {
    launch: Launch,
    reads: Vec<Vec<f32>>,
    expected: Tensor,
}

fn cases() -> Result<Vec<Case>> {
    let x = Shape::new(2, 21, 9, 13);
    let picture = wave(x, 0.37);
    let conv = |outputs: usize, groups: usize, kernel: usize, stride: usize, activation| Conv {
        weight: Arc::new(wave(Shape::new(outputs, x.c / groups, kernel, kernel), 0.71)),
        bias: Some(Arc::new(Tensor::from_fn([outputs], |i| (i as f32 * 0.9).cos()))),
        stride,
        dilation: 1,
        padding: if stride == 2 { Padding::Same } else { Padding::Symmetric },
        groups,
        activation,
        linear: false,
    };
    let reads = |conv: &Conv, packed: Vec<f32>| {
        let x = on_device(&picture, x);
        vec![x.clone(), packed, kernels::pack_bias(conv), x]
    };
    let mut cases = Vec::new();

    let c = conv(30, 1, 1, 1, Activation::HardSwish);
    let y = output(&c, x)?;
    let expected = pointwise::reference(&c, &picture, y, None);
    for launch in [
        pointwise::launch(&c, x, y, false, pointwise::Tile::ALL[0]),
        pointwise_split::launch(&c, x, y, false),
    ] {
        cases.push(Case { launch, reads: reads(&c, pointwise::pack(&c)), expected: expected.clone() });
    }

    let c = conv(x.c, x.c, 5, 2, Activation::Relu6);
    let (y, window) = (output(&c, x)?, c.window(x.h, x.w));
    let window = window.ok_or_else(|| Error::Device("the window does not fit".into()))?;
    cases.push(Case {
        launch: depthwise::launch(&c, x, y, window, false, 4),
        reads: reads(&c, depthwise::pack(&c)),
        expected: depthwise::reference(&c, &picture, y, window, None),
    });

    let c = conv(17, 1, 3, 2, Activation::HardSigmoid);
    let (y, window) = (output(&c, x)?, c.window(x.h, x.w));
    let window = window.ok_or_else(|| Error::Device("the window does not fit".into()))?;
    cases.push(Case {
        launch: dense::launch(&c, x, y, window, false, dense::Tile::ALL[0]),
        reads: reads(&c, dense::pack(&c)),
        expected: dense::reference(&c, &picture, y, window, None),
    });

    cases.push(Case {
        launch: pool::launch(x),
        reads: vec![on_device(&picture, x)],
        expected: pool::reference(&picture),
    });
    let gates = Shape { h: 1, w: 1, ..x };
    let gate = wave(gates, 1.3);
    cases.push(Case {
        launch: scale::launch(x),
        reads: vec![on_device(&picture, x), on_device(&gate, gates)],
        expected: scale::reference(&picture, &gate),
    });
    Ok(cases)
}

fn output(conv: &Conv, x: Shape) -> Result<Shape> {
    let window = conv.window(x.h, x.w).ok_or_else(|| Error::Device("the window does not fit".into()))?;
    Ok(Shape::new(x.n, conv.outputs(), window.height, window.width))
}

/// Values that repeat nowhere and have no rounding of their own to hide in.
fn wave(shape: Shape, frequency: f32) -> Tensor {
    Tensor::from_fn([shape.n, shape.c, shape.h, shape.w], |i| (i as f32 * frequency).sin())
}

fn on_device(tensor: &Tensor, shape: Shape) -> Vec<f32> {
    let mut values = vec![0.0; layout::len(shape)];
    layout::to_device(tensor, shape, &mut values);
    values
}

/// ||a - b|| / ||b||.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (mut apart, mut norm) = (0.0, 0.0);
    for (&a, &b) in a.data().iter().zip(b.data()) {
        apart += f64::from(a - b).powi(2);
        norm += f64::from(b).powi(2);
    }
    (apart / norm).sqrt()
}
