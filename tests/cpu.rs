//! The CPU's loops against the kernels' plain references on random shapes. Whole networks are
//! `golden`'s.

mod common;

use common::cases::{Case, config, convolution, noise};
use goldcrest::{
    Error, Shape, Tensor,
    cpu::{Cpu, Executor},
    graph::{Activation, Graph, MaxPool, Op},
    kernels::{dense, depthwise, max_pool, pool, scale},
    zoo::synthetic::Builder,
};
use proptest::{prelude::*, test_runner::TestRunner};

/// f32 sums in another order than the reference's f64.
const TOLERANCE: f64 = 2e-6;

fn dims(shape: Shape) -> [usize; 4] {
    shape.into()
}

/// One thread, and more than divide anything evenly.
fn cpus() -> [Cpu; 2] {
    [1, 3].map(|threads| Cpu::new(Some(threads)).unwrap())
}

fn answer(cpu: &Cpu, graph: &Graph, input: &Tensor) -> Tensor {
    Executor::new(cpu, graph, input.shape().unwrap(), false).unwrap().run(input).unwrap()
}

/// A convolution whose residual, if it has one, is made by another of the same form.
fn is_its_reference(windowed: bool, by_channel: bool) {
    let check = |case: Case| {
        let Case { conv, x, residual, seed, .. } = &case;
        let other = noise(conv.weight.dims(), seed ^ 5);
        let other = goldcrest::graph::Conv { weight: other.into(), ..conv.clone() };
        let mut graph = Graph::default();
        let picture = graph.push("input", Op::Input(x.c), &[]);
        let side = residual.then(|| graph.push("side", Op::Conv(other.clone()), &[picture]));
        let mut inputs = vec![picture];
        inputs.extend(side);
        graph.push("conv", Op::Conv(conv.clone()), &inputs);

        let input = noise(dims(*x), seed ^ 3);
        let reference = if by_channel { depthwise::reference } else { dense::reference };
        let added = residual.then(|| reference(&other, &input, case.y(), case.window(), None));
        let expected = reference(conv, &input, case.y(), case.window(), added.as_ref());
        for cpu in cpus() {
            let error = common::distance(&answer(&cpu, &graph, &input), &expected);
            prop_assert!(error <= TOLERANCE, "error {error:e} with {}", cpu.info());
        }
        Ok(())
    };
    TestRunner::new(config()).run(&convolution(windowed, by_channel), check).unwrap();
}

#[test]
fn pointwise_is_its_reference() {
    is_its_reference(false, false);
}

#[test]
fn dense_is_its_reference() {
    is_its_reference(true, false);
}

#[test]
fn depthwise_is_its_reference() {
    is_its_reference(true, true);
}

#[test]
fn means_and_gates_are_their_references() {
    let sizes = (1..6usize, 1..70usize, 1..20usize, 1..20usize, any::<u64>());
    let check = |(n, c, h, w, seed): (usize, usize, usize, usize, u64)| {
        let x = Shape::new(n, c, h, w);
        let input = noise(dims(x), seed);
        let mut graph = Graph::default();
        let picture = graph.push("input", Op::Input(c), &[]);
        let mean = graph.push("mean", Op::GlobalPool, &[picture]);
        let means = graph.clone();
        graph.push("scale", Op::Scale, &[picture, mean]);
        let expected = pool::reference(&input);
        for cpu in cpus() {
            let found = answer(&cpu, &means, &input);
            // A mean of noise is far smaller than what it is a mean of.
            prop_assert!(common::distance(&found, &expected) <= 1e-4);
            let scaled = answer(&cpu, &graph, &input);
            prop_assert!(common::distance(&scaled, &scale::reference(&input, &found)) <= TOLERANCE);
        }
        Ok(())
    };
    TestRunner::new(config()).run(&sizes, check).unwrap();
}

#[test]
fn max_pool_is_its_reference() {
    let sizes = (1..6usize, 1..40usize, 1..20usize, 1..20usize, 1..6usize, 1..4usize, any::<u64>());
    let check = |(n, c, h, w, kernel, stride, seed): (usize, usize, usize, usize, usize, usize, u64)| {
        let (x, pool) = (Shape::new(n, c, h, w), MaxPool { kernel, stride });
        let Some(window) = pool.window(h, w) else { return Ok(()) };
        // Below zero, so that nothing beyond the map could win.
        let values = noise(dims(x), seed);
        let input = Tensor::from_fn(dims(x), |i| values.data()[i] - 1.5);
        let mut graph = Graph::default();
        let picture = graph.push("input", Op::Input(c), &[]);
        graph.push("max", Op::MaxPool(pool), &[picture]);
        let y = Shape { h: window.height, w: window.width, ..x };
        for cpu in cpus() {
            prop_assert_eq!(&answer(&cpu, &graph, &input), &max_pool::reference(pool, &input, y, window));
        }
        Ok(())
    };
    TestRunner::new(config()).run(&sizes, check).unwrap();
}

#[test]
fn sessions_share_threads() {
    // Products that all threads share, with windows to copy.
    let cpu = Cpu::new(Some(3)).unwrap();
    let mut builder = Builder::new(64);
    builder.conv(3, 64, 1, Activation::Relu).conv(3, 64, 1, Activation::Relu);
    let graph = builder.finish();
    let input = noise([1, 64, 7, 7], 1);
    let expected = answer(&cpu, &graph, &input);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut executor = Executor::new(&cpu, &graph, input.shape().unwrap(), false).unwrap();
                for _ in 0..100 {
                    assert_eq!(executor.run(&input).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn what_cannot_be_run_is_refused() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let mut graph = Graph::default();
    let picture = graph.push("input", Op::Input(3), &[]);
    graph.push("pool", Op::GlobalPool, &[picture]);
    let shape = Shape::new(1, 3, 4, 4);
    let mut executor = Executor::new(&cpu, &graph, shape, false).unwrap();
    assert!(matches!(executor.run(&noise([1, 3, 4, 5], 0)), Err(Error::Input(_))));
    // A mebipixel square: more than any machine has room for.
    let absurd = Shape::new(1, 3, 1 << 20, 1 << 20);
    assert!(matches!(Executor::new(&cpu, &graph, absurd, false), Err(Error::Limit { .. })));
    graph.push("sum", Op::Add, &[picture, picture]);
    assert!(
        matches!(Executor::new(&cpu, &graph, shape, false), Err(Error::Layer { layer, .. }) if layer == "sum")
    );
}
