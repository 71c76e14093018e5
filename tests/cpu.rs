//! The CPU's loops compared with the kernels' references on random shapes. `golden.rs` tests whole networks.

mod common;

use common::cases::{Case, check_argmax, config, convolution, noise};
use goldcrest::{
    Error, Shape, Tensor,
    cpu::{Cpu, Executor},
    graph::{Activation, Anchors, ConcatAxis, Conv, Extent, Graph, MaxPool, Op, Padding, Select},
    kernels::{argmax, boxes, dense, depthwise, max_pool, pool, resize, scale, select, softmax},
    zoo::synthetic::Builder,
};
use proptest::{prelude::*, test_runner::TestRunner};

/// The error of f32 sums in another order than the reference's f64.
const TOLERANCE: f64 = 2e-6;

fn dims(shape: Shape) -> [usize; 4] {
    shape.into()
}

/// One thread, and three, which rarely divide the work evenly.
fn cpus() -> [Cpu; 2] {
    [1, 3].map(|threads| Cpu::new(Some(threads)).unwrap())
}

fn run(cpu: &Cpu, graph: &Graph, input: &Tensor) -> Tensor {
    Executor::new(cpu, graph, input.shape().unwrap(), false).unwrap().run(input).unwrap().remove(0)
}

/// Compares a convolution with its reference. Another convolution of the same form computes its residual, if
/// it has one.
fn check_convolution(windowed: bool, by_channel: bool) {
    let check = |case: Case| {
        let Case { conv, x, residual, seed, .. } = &case;
        let other = noise(conv.weight.dims(), seed ^ 5);
        let other = Conv { weight: other.into(), ..conv.clone() };
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
            let error = common::distance(&run(&cpu, &graph, &input), &expected);
            prop_assert!(error <= TOLERANCE, "error {error:e} with {}", cpu.info());
        }
        Ok(())
    };
    TestRunner::new(config()).run(&convolution(windowed, by_channel), check).unwrap();
}

#[test]
fn pointwise_matches_its_reference() {
    check_convolution(false, false);
}

#[test]
fn dense_matches_its_reference() {
    check_convolution(true, false);
}

/// Dense 3x3 convolutions with many channels and pixels, for which Winograd's algorithm needs fewer products.
#[test]
fn winograd_matches_its_reference() {
    let sizes = (1..4usize, [2..5usize, 2..5usize], [13..31usize, 13..31usize], any::<bool>(), any::<u64>());
    let check =
        |(n, [inputs, outputs], [h, w], residual, seed): (usize, [usize; 2], [usize; 2], bool, u64)| {
            let x = Shape::new(n, 16 * inputs, h, w);
            let picked = Activation::ALL[seed as usize % Activation::ALL.len()];
            let conv = |seed: u64, activation| Conv {
                weight: noise([16 * outputs, x.c, 3, 3], seed).into(),
                bias: Some(noise([16 * outputs], seed ^ 1).into()),
                stride: 1,
                dilation: 1,
                padding: if seed & 2 == 0 { Padding::Symmetric } else { Padding::Same },
                groups: 1,
                activation,
                linear: false,
            };
            let (other, conv) = (conv(seed ^ 5, Activation::Identity), conv(seed, picked));
            let mut graph = Graph::default();
            let picture = graph.push("input", Op::Input(x.c), &[]);
            let side = residual.then(|| graph.push("side", Op::Conv(other.clone()), &[picture]));
            let inputs: Vec<_> = [Some(picture), side].into_iter().flatten().collect();
            graph.push("conv", Op::Conv(conv.clone()), &inputs);
            let input = noise(dims(x), seed ^ 3);
            let (window, y) = (conv.window(h, w).unwrap(), Shape { c: conv.outputs(), ..x });
            let added = residual.then(|| dense::reference(&other, &input, y, window, None));
            let expected = dense::reference(&conv, &input, y, window, added.as_ref());
            for cpu in cpus() {
                let mut executor = Executor::new(&cpu, &graph, x, false).unwrap();
                prop_assert_eq!(executor.steps().last().unwrap().kernel, "winograd");
                let error = common::distance(&executor.run(&input).unwrap()[0], &expected);
                prop_assert!(error <= TOLERANCE, "error {error:e} with {}", cpu.info());
            }
            Ok(())
        };
    TestRunner::new(config()).run(&sizes, check).unwrap();
}

#[test]
fn depthwise_matches_its_reference() {
    check_convolution(true, true);
}

#[test]
fn means_and_gates_match_their_references() {
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
            let found = run(&cpu, &means, &input);
            // The mean of noise is far smaller than its values, and so its relative error is larger.
            prop_assert!(common::distance(&found, &expected) <= 1e-4);
            let scaled = run(&cpu, &graph, &input);
            prop_assert!(common::distance(&scaled, &scale::reference(&input, &found)) <= TOLERANCE);
        }
        Ok(())
    };
    TestRunner::new(config()).run(&sizes, check).unwrap();
}

#[test]
fn max_pool_matches_its_reference() {
    let sizes = (1..6usize, 1..40usize, 1..20usize, 1..20usize, 1..6usize, 1..4usize, any::<u64>());
    let check = |(n, c, h, w, kernel, stride, seed): (usize, usize, usize, usize, usize, usize, u64)| {
        let (x, pool) = (Shape::new(n, c, h, w), MaxPool { kernel, stride });
        let Some(window) = pool.window(h, w) else { return Ok(()) };
        // Negative values, so that zeros beyond the map would win.
        let values = noise(dims(x), seed);
        let input = Tensor::from_fn(dims(x), |i| values.data()[i] - 1.5);
        let mut graph = Graph::default();
        let picture = graph.push("input", Op::Input(c), &[]);
        graph.push("max", Op::MaxPool(pool), &[picture]);
        let y = Shape { h: window.height, w: window.width, ..x };
        for cpu in cpus() {
            prop_assert_eq!(&run(&cpu, &graph, &input), &max_pool::reference(pool, &input, y, window));
        }
        Ok(())
    };
    TestRunner::new(config()).run(&sizes, check).unwrap();
}

/// A graph of one operation on the picture.
fn graph_of(op: Op, channels: usize) -> Graph {
    let mut graph = Graph::default();
    let picture = graph.push("input", Op::Input(channels), &[]);
    graph.push("op", op, &[picture]);
    graph
}

#[test]
fn resize_and_argmax_match_their_references() {
    let sizes = (1..6usize, 1..40usize, [1..20usize, 1..20usize], [1..30usize, 1..30usize], any::<u64>());
    let check = |(n, c, [h, w], to, seed): (usize, usize, [usize; 2], [usize; 2], u64)| {
        let x = Shape::new(n, c, h, w);
        let y = Shape { h: to[0], w: to[1], ..x };
        let noise = noise(dims(x), seed);
        let exact = Extent::Exact(to);
        // Few distinct values, and sizes for which interpolation is exact.
        let even = Shape { h: h.next_power_of_two(), w: w.next_power_of_two(), ..x };
        let few =
            Tensor::from_fn(dims(even), |i| (i as u64 ^ seed).wrapping_mul(0x9e37_79b9) as u8 as f32 % 5.0);
        let doubled = Shape { c: 1, h: 2 * even.h, w: 2 * even.w, ..even };
        for cpu in cpus() {
            let scaled = run(&cpu, &graph_of(Op::Resize(exact), c), &noise);
            prop_assert!(common::distance(&scaled, &resize::reference(&noise, y)) <= TOLERANCE);
            let same = run(&cpu, &graph_of(Op::Resize(Extent::Exact([h, w])), c), &noise);
            prop_assert_eq!(&same, &noise);
            let largest = run(&cpu, &graph_of(Op::Argmax(exact), c), &noise);
            check_argmax(&largest, &noise, Shape { c: 1, ..y })?;
            let first = graph_of(Op::Argmax(Extent::Exact([doubled.h, doubled.w])), c);
            prop_assert_eq!(run(&cpu, &first, &few), argmax::reference(&few, doubled));
        }
        Ok(())
    };
    TestRunner::new(config()).run(&sizes, check).unwrap();
}

#[test]
fn only_the_size_of_second_inputs_matters() {
    let x = Shape::new(2, 5, 7, 9);
    let input = noise(dims(x), 1);
    for cpu in cpus() {
        for op in [Op::Resize(Extent::Like), Op::Argmax(Extent::Like)] {
            let mut graph = Graph::default();
            let picture = graph.push("input", Op::Input(x.c), &[]);
            let mean = graph.push("mean", Op::GlobalPool, &[picture]);
            let small = graph.push("small", Op::Resize(Extent::Exact([3, 4])), &[picture]);
            // `small` is overwritten before its size is needed.
            let again = graph.push("again", Op::Resize(Extent::Exact([2, 3])), &[small]);
            let like = graph.push("like", op.clone(), &[again, small]);
            graph.push("last", op.clone(), &[like, mean]);
            let again = resize::reference(
                &resize::reference(&input, Shape { h: 3, w: 4, ..x }),
                Shape { h: 2, w: 3, ..x },
            );
            let (like, one) = (Shape { h: 3, w: 4, ..x }, Shape { h: 1, w: 1, ..x });
            let found = run(&cpu, &graph, &input);
            if let Op::Resize(_) = op {
                let expected = resize::reference(&resize::reference(&again, like), one);
                assert!(common::distance(&found, &expected) <= TOLERANCE);
            } else {
                // A label map has one channel, so that its own labels are 0.
                assert_eq!(found.dims(), [2, 1, 1, 1]);
                assert_eq!(found.data(), [0.0; 2]);
            }
        }
    }
}

#[test]
fn maps_are_concatenated_in_order() {
    let sizes = (1..6usize, 1..9usize, [1..9usize, 1..9usize], [1..9usize, 1..9usize], any::<u64>());
    let check = |(n, c, [h, w], [rows, columns], seed): (usize, usize, [usize; 2], [usize; 2], u64)| {
        let x = Shape::new(n, c, h, w);
        let input = noise(dims(x), seed);
        let mut graph = Graph::default();
        let picture = graph.push("input", Op::Input(c), &[]);
        let other = graph.push("other", Op::Resize(Extent::Exact([rows, columns])), &[picture]);
        let mut channels = graph.clone();
        channels.push("channels", Op::Concat(ConcatAxis::Channels), &[picture, picture]);
        graph.push("pixels", Op::Concat(ConcatAxis::Pixels), &[picture, other, picture]);
        let scaled = resize::reference(&input, Shape { h: rows, w: columns, ..x });
        let plane = |tensor: &Tensor, map: usize| {
            let plane = tensor.dims()[2] * tensor.dims()[3];
            tensor.data()[map * plane..][..plane].to_vec()
        };
        let twice: Vec<f32> =
            input.data().chunks(c * h * w).flat_map(|picture| [picture, picture].concat()).collect();
        let concatenated: Vec<f32> = (0..n * c)
            .flat_map(|map| [plane(&input, map), plane(&scaled, map), plane(&input, map)].concat())
            .collect();
        for cpu in cpus() {
            let found = run(&cpu, &channels, &input);
            prop_assert_eq!(found, Tensor::new([n, 2 * c, h, w], twice.clone()).unwrap());
            let found = run(&cpu, &graph, &input);
            let pixels = 2 * h * w + rows * columns;
            let expected = Tensor::new([n, c, 1, pixels], concatenated.clone()).unwrap();
            prop_assert!(common::distance(&found, &expected) <= TOLERANCE);
        }
        Ok(())
    };
    TestRunner::new(config()).run(&sizes, check).unwrap();
}

#[test]
fn softmax_matches_its_reference() {
    let sizes = (1..6usize, 1..7usize, 1..30usize, 1..9usize, 1..9usize, any::<u64>());
    let check = |(n, each, classes, h, w, seed): (usize, usize, usize, usize, usize, u64)| {
        let noise = noise([n, each * classes, h, w], seed);
        // The exponentials of these values overflow.
        let input = Tensor::from_fn(noise.dims(), |i| noise.data()[i] * 5.0 + 500.0);
        let expected = softmax::reference(&input, classes);
        for cpu in cpus() {
            let found = run(&cpu, &graph_of(Op::Softmax(classes), each * classes), &input);
            prop_assert!(common::distance(&found, &expected) <= TOLERANCE);
        }
        Ok(())
    };
    TestRunner::new(config()).run(&sizes, check).unwrap();
}

#[test]
fn boxes_match_their_reference() {
    let sizes = (1..6usize, [2..9usize, 2..9usize], 0..3usize, any::<u64>());
    let check = |(n, [h, w], ratios, seed): (usize, [usize; 2], usize, u64)| {
        let ratios = [2.0, 3.0][..ratios].to_vec();
        let anchors = Anchors { scales: vec![0.01, 0.02, 0.3], ratios };
        let channels = 4 * anchors.each();
        let mut graph = Graph::default();
        let picture = graph.push("input", Op::Input(channels), &[]);
        let level = graph.push("level", Op::Resize(Extent::Exact([2, 1])), &[picture]);
        let joined = graph.push("joined", Op::Concat(ConcatAxis::Pixels), &[picture, level]);
        graph.push("boxes", Op::Boxes(anchors.clone().into()), &[joined, picture, level]);
        let noise = noise([n, channels, h, w], seed);
        let input = Tensor::from_fn(noise.dims(), |i| noise.data()[i] * 25.0);
        let mut offsets = Graph::default();
        let picture = offsets.push("input", Op::Input(channels), &[]);
        let level = offsets.push("level", Op::Resize(Extent::Exact([2, 1])), &[picture]);
        offsets.push("joined", Op::Concat(ConcatAxis::Pixels), &[picture, level]);
        let numbers = anchors.over(&[[h, w], [2, 1]], [h, w]);
        for cpu in cpus() {
            let expected = boxes::reference(&run(&cpu, &offsets, &input), &numbers, [h, w]);
            let found = run(&cpu, &graph, &input);
            prop_assert!(common::distance(&found, &expected) <= TOLERANCE);
        }
        Ok(())
    };
    TestRunner::new(config()).run(&sizes, check).unwrap();
}

#[test]
fn pixel_with_a_non_finite_score_has_no_class() {
    let scores = Tensor::from_fn([1, 3, 1, 6], |at| match at {
        1 => f32::NAN,
        16 => f32::INFINITY,
        _ => at as f32,
    });
    for cpu in cpus() {
        let labels = run(&cpu, &graph_of(Op::Argmax(Extent::Exact([1, 6])), 3), &scores);
        // A neighbour's weight is 0 here, but 0 times a non-finite value is NaN.
        assert_eq!(labels.data(), [255.0, 255.0, 2.0, 255.0, 255.0, 2.0]);
    }
}

#[test]
fn select_matches_its_reference() {
    let sizes = (1..6usize, 1..400usize, 2..5usize, any::<u64>());
    let select = (0..20usize, 1..90usize)
        .prop_map(|(sixteenths, most)| Select { threshold: sixteenths as f32 / 16.0, most });
    let check = |((n, anchors, classes, seed), select): ((usize, usize, usize, u64), Select)| {
        let noise = noise([n, anchors, 1, classes], seed);
        // Few distinct values, some of them not finite.
        let scores = Tensor::from_fn(noise.dims(), |i| match (noise.data()[i] * 16.0).round() {
            -16.0 => f32::NAN,
            -15.0 => f32::INFINITY,
            sixteenths => sixteenths / 16.0,
        });
        let expected = select::reference(&scores, select);
        for cpu in cpus() {
            let kept = run(&cpu, &graph_of(Op::Select(select), anchors), &scores);
            // NaN as -1, so that results can be compared.
            let comparable =
                |kept: &Tensor| kept.data().iter().map(|v| if v.is_nan() { -1.0 } else { *v }).collect();
            let (ours, exact): (Vec<f32>, Vec<f32>) = (comparable(&kept), comparable(&expected));
            prop_assert_eq!(ours, exact);
        }
        Ok(())
    };
    TestRunner::new(config()).run(&(sizes, select), check).unwrap();
}

#[test]
fn sessions_share_threads() {
    // Products that are split over all threads, with windows to copy.
    let cpu = Cpu::new(Some(3)).unwrap();
    let mut builder = Builder::new(64);
    builder.conv(3, 64, 1, Activation::Relu).conv(3, 64, 1, Activation::Relu);
    let graph = builder.finish();
    let input = noise([1, 64, 7, 7], 1);
    let expected = run(&cpu, &graph, &input);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut executor = Executor::new(&cpu, &graph, input.shape().unwrap(), false).unwrap();
                for _ in 0..100 {
                    assert_eq!(executor.run(&input).unwrap(), std::slice::from_ref(&expected));
                }
            });
        }
    });
}

#[test]
fn invalid_inputs_sizes_and_layers_are_errors() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let mut graph = Graph::default();
    let picture = graph.push("input", Op::Input(3), &[]);
    graph.push("pool", Op::GlobalPool, &[picture]);
    let shape = Shape::new(1, 3, 4, 4);
    let mut executor = Executor::new(&cpu, &graph, shape, false).unwrap();
    assert!(matches!(executor.run(&noise([1, 3, 4, 5], 0)), Err(Error::Input(_))));
    // 2^20 x 2^20 pixels: more memory than any machine has.
    let huge = Shape::new(1, 3, 1 << 20, 1 << 20);
    assert!(matches!(Executor::new(&cpu, &graph, huge, false), Err(Error::Limit { .. })));
    graph.push("sum", Op::Add, &[picture, picture]);
    assert!(
        matches!(Executor::new(&cpu, &graph, shape, false), Err(Error::Layer { layer, .. }) if layer == "sum")
    );
}
