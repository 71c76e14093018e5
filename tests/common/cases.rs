//! Random cases for kernels, and how they are run.

use goldcrest::{
    Tensor,
    gpu::Gpu,
    graph::{Activation, Padding},
    kernels::Launch,
    tensor::layout,
};
use proptest::{prelude::*, test_runner::TestRunner};

const CASES: u32 = 24;

/// Values in -1..1, none like another.
pub fn noise(shape: impl Into<Vec<usize>>, mut seed: u64) -> Tensor {
    Tensor::from_fn(shape, |_| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

pub fn on_device(tensor: &Tensor) -> Vec<f32> {
    let shape = tensor.shape().unwrap();
    let mut values = vec![0.0; layout::len(shape)];
    layout::to_device(tensor, shape, &mut values);
    // What the padding holds must not matter, as long as it is finite.
    let (channels, padded) = (shape.c, shape.quads() * 4);
    for (i, value) in values.iter_mut().enumerate() {
        if i % padded >= channels {
            *value = 1e3;
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

/// Runs `check` on random cases on every adapter.
pub fn on_every_adapter<T: std::fmt::Debug>(
    strategy: impl Strategy<Value = T>,
    check: impl Fn(&Gpu, &T) -> Result<(), TestCaseError>,
) {
    for gpu in super::gpus() {
        let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
        TestRunner::new(config)
            .run(&strategy, |case| check(&gpu, &case))
            .unwrap_or_else(|e| panic!("{}: {e}", gpu.adapter()));
    }
}

/// Runs a kernel and gives the first thing that it writes, `len` values.
pub fn dispatch(gpu: &Gpu, launch: &Launch, reads: &[&[f32]], len: usize) -> Result<Vec<f32>, TestCaseError> {
    let lens = &[len, 4][..launch.shader.writes.len()];
    let written = gpu.dispatch(launch, reads, lens).map_err(|e| TestCaseError::fail(e.to_string()))?;
    Ok(written.into_iter().next().expect("every kernel writes something"))
}
