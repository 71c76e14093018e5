//! Int8 graphs: the CPU with any number of threads, and GPUs with layers alone or fused, match plain loops over
//! integers bit for bit.

mod common;

use std::sync::Arc;

use common::{
    cases::{Case, activation, config, convolution, noise, padding},
    int8::{calibrated, make_int8, reference},
};
use goldcrest::{
    Error, Shape, Tensor,
    cpu::{Cpu, Executor},
    gpu::{self, Gpu},
    graph::{Activation, Affine, ConcatAxis, Conv, Extent, Graph, MaxPool, NodeId, Op, Padding},
    kernels::{Machine, Rates, block},
    plan::{Card, Fuse, Options, Plan, Schedule, Step, Tuned},
    quantize,
    tensor::Element,
    zoo::synthetic,
};
use proptest::{prelude::*, test_runner::TestRunner};

/// Every adapter, those of GL opened once per test: with one GL context for all tests, each would wait while
/// another compiles its kernels, and wgpu treats a wait of some seconds as a deadlock.
fn gpus() -> &'static [Gpu] {
    thread_local!(static OPENED: &'static [Gpu] = common::gpus().leak());
    OPENED.with(|opened| *opened)
}

fn cpus() -> [Cpu; 3] {
    [1, 2, 3].map(|threads| Cpu::new(Some(threads)).unwrap())
}

/// Describes the first value with different bits.
fn difference(found: &Tensor, expected: &Tensor) -> Option<String> {
    // A vector has no rows and columns.
    assert!(expected.dims().starts_with(found.dims()) && found.data().len() == expected.data().len());
    let mut values = found.data().iter().zip(expected.data()).enumerate();
    values
        .find(|(_, (found, expected))| found.to_bits() != expected.to_bits())
        .map(|(at, (found, exact))| format!("{found} at {at} of {:?}, not {exact}", expected.dims()))
}

/// Compares every node's value with its reference, and the outputs without taps.
fn check_cpu(graph: &Graph, input: &Tensor) -> Result<(), TestCaseError> {
    let shape = input.shape().unwrap();
    for cpu in cpus() {
        for taps in [true, false] {
            let expected = reference(&cpu, graph, input, taps);
            let mut executor = Executor::new(&cpu, graph, shape, taps).unwrap();
            let outputs = executor.run(input).unwrap();
            for ((name, id), output) in graph.outputs().into_iter().zip(&outputs) {
                let differs = difference(output, &expected[id.index()]);
                prop_assert!(differs.is_none(), "{name} with {}: {}", cpu.info(), differs.unwrap());
            }
            for (name, value) in executor.taps().unwrap() {
                let (id, _) = graph.nodes().find(|(_, node)| node.output_name() == name).unwrap();
                let differs = difference(&value, &expected[id.index()]);
                prop_assert!(differs.is_none(), "{name} with {}: {}", cpu.info(), differs.unwrap());
            }
        }
    }
    Ok(())
}

/// Compares int8 graphs bit for bit on every adapter. With taps, kernels use int8 dot products, which have to
/// be correct even where they are not faster.
fn check_gpus(graph: &Graph, input: &Tensor, taps: bool) -> Result<(), TestCaseError> {
    check_plans(graph, input, &Options { taps, ..Options::default() }, taps, |_| true)
}

/// Compares the plans that `takes` accepts. If a layer is computed in floating point, its rounding may change the
/// integers after it by a step.
fn check_plans(
    graph: &Graph,
    input: &Tensor,
    options: &Options,
    dots: bool,
    takes: impl Fn(&Plan) -> bool,
) -> Result<(), TestCaseError> {
    let cpu = Cpu::new(Some(1)).unwrap();
    let expected = reference(&cpu, graph, input, options.taps);
    for gpu in gpus() {
        let machine = gpu.machine(Element::F32);
        let rates = Rates { dot: if dots { 8.0 } else { machine.rates.dot }, ..machine.rates };
        let plan = Plan::new(graph, input.shape().unwrap(), Machine { rates, ..machine }, options).unwrap();
        prop_assume!(takes(&plan));
        let mut executor = pollster::block_on(gpu::Executor::new(gpu, &plan, |_, _| {})).unwrap();
        let outputs = executor.run(input).unwrap();
        let whole = |id: NodeId| graph.int8(id).is_some() || matches!(graph.node(id).op, Op::Input(_));
        let exact = graph.nodes().all(|(id, _)| whole(id));
        for ((name, id), output) in graph.outputs().into_iter().zip(&outputs) {
            let expected = &expected[id.index()];
            match difference(output, expected) {
                Some(differs) if exact => prop_assert!(false, "{name} on {}: {differs}", gpu.adapter()),
                Some(_) => {
                    let error = common::distance(output, expected);
                    prop_assert!(error < 0.02, "{name} on {} is off by {error}", gpu.adapter());
                }
                None => {}
            }
        }
        for (name, value) in executor.taps().unwrap() {
            let (id, _) = graph.nodes().find(|(_, node)| node.output_name() == name).unwrap();
            let differs = difference(&value, &expected[id.index()]);
            prop_assert!(differs.is_none(), "{name} on {}: {}", gpu.adapter(), differs.unwrap());
        }
    }
    Ok(())
}

/// Scales of every size, most of them typical of small networks, with any zero point.
fn quantisation() -> impl Strategy<Value = Affine> {
    let exponent = prop_oneof![8 => -9..-3i32, 1 => -40..40i32];
    (exponent, 1.0..2.0f32, any::<i8>())
        .prop_map(|(exponent, mantissa, zero)| Affine { scale: mantissa * 2f32.powi(exponent), zero })
}

/// A convolution. Another of the same form computes its residual, if it has one. Without a quantised output
/// it has no activation: else it would be computed in floating point.
fn graph_of(case: &Case, maps: [Affine; 3], mapped: bool) -> Graph {
    let Case { conv, x, residual, seed, .. } = case;
    let mut graph = Graph::default();
    let picture = graph.push("input", Op::Input(x.c), &[]);
    make_int8(&mut graph, picture, Some(maps[0]));
    let mut inputs = vec![picture];
    if *residual {
        let other = Conv { weight: noise(conv.weight.dims(), seed ^ 5).into(), ..conv.clone() };
        inputs.push(graph.push("side", Op::Conv(other), &[picture]));
        make_int8(&mut graph, inputs[1], Some(maps[1]));
    }
    let activation = if mapped { conv.activation } else { Activation::Identity };
    let last = graph.push("conv", Op::Conv(Conv { activation, ..conv.clone() }), &inputs);
    make_int8(&mut graph, last, mapped.then_some(maps[2]));
    graph
}

fn check_convolutions(windowed: bool, by_channel: bool) {
    let cases = (
        convolution(windowed, by_channel),
        [quantisation(), quantisation(), quantisation()],
        prop::bool::weighted(0.8),
    );
    let check = |(case, maps, mapped): (Case, [Affine; 3], bool)| {
        let conv = &case.conv;
        prop_assume!(case.y().pixels() * conv.weight.data().len() < 3_000_000);
        let (graph, input) =
            (graph_of(&case, maps, mapped), noise(<[usize; 4]>::from(case.x), case.seed ^ 3));
        check_cpu(&graph, &input)?;
        check_gpus(&graph, &input, case.seed % 2 == 0)
    };
    TestRunner::new(config()).run(&cases, check).unwrap();
}

#[test]
fn pointwise_matches_its_reference() {
    check_convolutions(false, false);
}

#[test]
fn dense_matches_its_reference() {
    check_convolutions(true, false);
}

#[test]
fn depthwise_matches_its_reference() {
    check_convolutions(true, true);
}

/// Channels and sizes that are multiples of the tile sizes, and others.
#[test]
fn odd_shapes_match_their_reference() {
    let channels = || prop::sample::select(&[1usize, 3, 7, 17, 24, 32, 40, 64, 65, 96][..]);
    let size = || prop::sample::select(&[1usize, 2, 5, 7, 13][..]);
    let window = (prop::sample::select(&[1usize, 3, 5, 7][..]), 1..3usize, 1..3usize, padding());
    let form =
        (prop::sample::select(&[1usize, 3][..]), [channels(), channels()], [size(), size()], any::<bool>());
    let rest = (
        activation(),
        any::<bool>(),
        any::<u64>(),
        [quantisation(), quantisation(), quantisation()],
        prop::bool::weighted(0.8),
    );
    let check = |(form, window, rest)| {
        let (n, [inputs, outputs], [h, w], by_channel): (usize, [usize; 2], [usize; 2], bool) = form;
        let (kernel, stride, dilation, padding): (usize, usize, usize, Padding) = window;
        let (activation, residual, seed, maps, mapped): (Activation, bool, u64, [Affine; 3], bool) = rest;
        let (outputs, groups) = if by_channel { (inputs, inputs) } else { (outputs, 1) };
        let conv = Conv {
            weight: noise([outputs, inputs / groups, kernel, kernel], seed ^ 1).into(),
            bias: Some(Arc::new(noise([outputs], seed ^ 2))),
            stride,
            dilation,
            padding,
            groups,
            activation,
            linear: false,
        };
        let case = Case { conv, x: Shape::new(n, inputs, h, w), residual, tile: 0, seed };
        prop_assume!(case.conv.window(h, w).is_some());
        prop_assume!(case.y().pixels() * case.conv.weight.data().len() < 3_000_000);
        check_cpu(&graph_of(&case, maps, mapped), &noise([n, inputs, h, w], seed ^ 3))
    };
    let mut config = config();
    config.cases *= 2;
    TestRunner::new(config).run(&(form, window, rest), check).unwrap();
}

/// Random blocks and tiles, fused as far as the block kernel can.
#[test]
fn fused_blocks_match_their_layers() {
    let sizes = (1..3usize, [1..40usize, 1..70usize, 1..40usize], [1..20usize, 1..20usize]);
    let window = (prop::sample::select(&[1usize, 3, 5][..]), 1..3usize, 1..3usize, padding());
    let layers = (any::<bool>(), any::<bool>(), any::<bool>(), [activation(), activation(), activation()]);
    let tile = any::<prop::sample::Index>();
    let maps = [quantisation(), quantisation(), quantisation(), quantisation()];
    let check = |(sizes, window, layers, tile, maps, seed)| {
        let (n, [inputs, expanded, outputs], [h, w]): (usize, [usize; 3], [usize; 2]) = sizes;
        let (kernel, stride, dilation, padding): (usize, usize, usize, Padding) = window;
        let (expands, projects, residual, activations): (bool, bool, bool, [Activation; 3]) = layers;
        let tile: prop::sample::Index = tile;
        let maps: [Affine; 4] = maps;
        let seed: u64 = seed;
        let expanded = if expands { expanded } else { inputs };
        let pointwise = |i: usize, outputs: usize, inputs: usize| Conv {
            weight: noise([outputs, inputs, 1, 1], seed ^ i as u64).into(),
            bias: Some(noise([outputs], seed ^ (10 + i as u64)).into()),
            stride: 1,
            dilation: 1,
            padding,
            groups: 1,
            activation: activations[i],
            linear: false,
        };
        let depthwise = Conv {
            weight: noise([expanded, 1, kernel, kernel], seed ^ 1).into(),
            stride,
            dilation,
            groups: expanded,
            ..pointwise(1, expanded, 1)
        };
        let window = depthwise.window(h, w);
        prop_assume!(window.is_some());
        let middle = window.map(|to| Shape::new(n, expanded, to.height, to.width)).unwrap();
        let mut graph = Graph::default();
        let picture = graph.push("picture", Op::Input(inputs), &[]);
        make_int8(&mut graph, picture, Some(maps[0]));
        let mut last = picture;
        let mut push = |name: &str, conv: Conv, inputs: &[NodeId], map: Affine| {
            let id = graph.push(name, Op::Conv(conv), inputs);
            make_int8(&mut graph, id, Some(map));
            id
        };
        if expands {
            last = push("expand", pointwise(0, expanded, inputs), &[last], maps[1]);
        }
        // A residual of any shape.
        let side = residual.then(|| {
            let other = Conv { groups: 1, ..pointwise(2, outputs, inputs) };
            let side = push("side", other, &[picture], maps[3]);
            let by_channel = noise([outputs, 1, kernel, kernel], seed ^ 7);
            let by_channel =
                Conv { weight: by_channel.into(), groups: outputs, bias: None, ..depthwise.clone() };
            push("shrunk", by_channel, &[side], maps[1])
        });
        last = push("depthwise", depthwise, &[last], maps[2]);
        let reads: Vec<NodeId> = [last].into_iter().chain(side).collect();
        push("project", pointwise(2, outputs, expanded), &reads, maps[3]);
        // Only the front is split.
        let front = expands && !projects;
        let mut tiles = block::tiles(middle);
        tiles.retain(|tile| tile.staged && (front || tile.splits == 1));
        let tile = tiles[tile.index(tiles.len())];
        let schedule = match (front, expands) {
            (true, _) => Schedule::Front(tile),
            (_, true) if seed.is_multiple_of(3) => Schedule::Back(tile),
            _ => Schedule::Whole(tile),
        };
        let name = if expands { "expand" } else { "depthwise" };
        let tuned = Tuned { schedules: [(name.into(), schedule)].into(), ..Tuned::default() };
        let options = Options { tuned, ..Options::default() };
        let takes = |plan: &Plan| plan.choices.iter().any(|choice| choice.schedule == schedule);
        check_plans(&graph, &noise([n, inputs, h, w], seed ^ 3), &options, seed.is_multiple_of(2), takes)
    };
    TestRunner::new(config()).run(&(sizes, window, layers, tile, maps, any::<u64>()), check).unwrap();
}

/// Two blocks, one with squeeze-excite, the other joined with another map: all in int8, and with each layer in turn
/// in floating point.
#[test]
fn blocks_may_be_partly_in_floating_point() {
    let input = noise([2, 8, 9, 11], 4);
    let conv = |outputs: usize, inputs: usize, kernel: usize, activation: Activation| {
        let groups = if kernel > 1 { outputs } else { 1 };
        Op::Conv(Conv {
            weight: noise([outputs, inputs / groups, kernel, kernel], 7 + outputs as u64).into(),
            bias: Some(noise([outputs], 5).into()),
            stride: 1,
            dilation: 1,
            padding: Padding::Symmetric,
            groups,
            activation,
            linear: false,
        })
    };
    let graph = |float: Option<usize>| {
        let mut graph = Graph::default();
        let picture = graph.push("picture", Op::Input(8), &[]);
        let expand = graph.push("expand", conv(20, 8, 1, Activation::HardSwish), &[picture]);
        let depthwise = graph.push("depthwise", conv(20, 20, 5, Activation::HardSwish), &[expand]);
        let pool = graph.push("pool", Op::GlobalPool, &[depthwise]);
        let squeeze = graph.push("squeeze", conv(6, 20, 1, Activation::Relu), &[pool]);
        let widen = graph.push("widen", conv(20, 6, 1, Activation::HardSigmoid), &[squeeze]);
        let scale = graph.push("scale", Op::Scale, &[depthwise, widen]);
        let project = graph.push("project", conv(8, 20, 1, Activation::Identity), &[scale, picture]);
        // `narrow` has so many inputs that its sums are not exact in f32. Those of `wide` are.
        let wide = graph.push("wide", conv(2400, 8, 1, Activation::Relu6), &[project]);
        let filter = graph.push("filter", conv(2400, 2400, 3, Activation::Relu6), &[wide]);
        let narrow = graph.push("narrow", conv(8, 2400, 1, Activation::Identity), &[filter, project]);
        let side = graph.push("side", conv(8, 8, 1, Activation::Identity), &[project]);
        let joined = graph.push("joined", Op::Concat(ConcatAxis::Channels), &[side, narrow]);
        let nodes =
            [picture, expand, depthwise, pool, squeeze, widen, scale, project, wide, filter, narrow, joined];
        for (at, id) in nodes.into_iter().chain([side]).enumerate() {
            // The joined maps are alike, so that kernels store them in their place.
            let most = if at > 9 { 60.0 } else { 3.0 + at as f32 };
            if float != Some(at) {
                make_int8(&mut graph, id, Some(Affine::over(-most, most)));
            }
        }
        for (name, id) in [("project", project), ("joined", joined)] {
            graph.add_output(name, id);
        }
        graph
    };
    for float in (0..13).map(Some).chain([None]) {
        let graph = graph(float);
        let all = [(Fuse::Block, false), (Fuse::Block, true), (Fuse::Auto, true)];
        for (fuse, dots) in if float.is_some() { all[..1].to_vec() } else { all.to_vec() } {
            let options = Options { fuse, ..Options::default() };
            let fused = |plan: &Plan| plan.steps.iter().any(|step| step.launch.shader.name == "block_int8");
            check_plans(&graph, &input, &options, dots, |plan| {
                assert!(float.is_some() || fuse == Fuse::Auto || fused(plan));
                true
            })
            .unwrap();
        }
    }
}

/// A graph of the picture and a resized map of it, each with its own quantisation.
fn two_maps(channels: usize, [rows, columns]: [usize; 2], maps: [Affine; 2]) -> (Graph, [NodeId; 2]) {
    let mut graph = Graph::default();
    let picture = graph.push("input", Op::Input(channels), &[]);
    let other = graph.push("other", Op::Resize(Extent::Exact([rows, columns])), &[picture]);
    graph.node_mut(picture).quantisation = Some(maps[0]);
    graph.node_mut(other).quantisation = Some(maps[1]);
    (graph, [picture, other])
}

#[test]
fn layers_without_weights_match_their_reference() {
    let sizes = [1..4usize, 1..70usize, 1..14usize, 1..14usize];
    let maps = [quantisation(), quantisation(), quantisation(), quantisation()];
    let cases = (sizes, any::<u64>(), maps, [1..6usize, 1..4usize], any::<bool>());
    type Parameters = ([usize; 4], u64, [Affine; 4], [usize; 2], bool);
    let check = |([n, c, h, w], seed, maps, [kernel, stride], alike): Parameters| {
        let input = noise([n, c, h, w], seed);
        // With the first input's quantisation, the output needs no rescaling of that input.
        let to = if alike { maps[0] } else { maps[2] };
        let (mut gated, [picture, gate]) = two_maps(c, [1, 1], [maps[0], maps[1]]);
        let scale = gated.push("scale", Op::Scale, &[picture, gate]);
        let mean = gated.push("mean", Op::GlobalPool, &[scale]);
        let again = gated.push("again", Op::Scale, &[picture, mean]);
        for (id, map) in [(scale, to), (mean, maps[3]), (again, maps[0])] {
            gated.node_mut(id).quantisation = Some(map);
        }
        check_cpu(&gated, &input)?;
        let (mut joined, [picture, other]) = two_maps(c, [h, w], [maps[0], maps[1]]);
        let channels = joined.push("channels", Op::Concat(ConcatAxis::Channels), &[picture, other, picture]);
        joined.node_mut(channels).quantisation = Some(to);
        check_cpu(&joined, &input)?;
        let (mut joined, [picture, other]) = two_maps(c, [3, 2], [maps[0], maps[1]]);
        let pixels = joined.push("pixels", Op::Concat(ConcatAxis::Pixels), &[other, picture]);
        joined.node_mut(pixels).quantisation = Some(to);
        check_cpu(&joined, &input)?;
        let pool = MaxPool { kernel, stride };
        if pool.window(h, w).is_some() {
            let (mut largest, [picture, _]) = two_maps(c, [1, 1], [maps[0], maps[1]]);
            let max = largest.push("max", Op::MaxPool(pool), &[picture]);
            largest.node_mut(max).quantisation = Some(to);
            check_cpu(&largest, &input)?;
        }
        Ok(())
    };
    TestRunner::new(config()).run(&cases, check).unwrap();
}

#[test]
fn gpus_compute_layers_without_weights_in_integers() {
    let sizes = [1..4usize, 1..40usize, 3..14usize, 3..14usize];
    let maps = [quantisation(), quantisation(), quantisation(), quantisation()];
    let cases = (sizes, any::<u64>(), maps, [1..6usize, 1..4usize], any::<bool>());
    type Parameters = ([usize; 4], u64, [Affine; 4], [usize; 2], bool);
    let check = |([n, c, h, w], seed, maps, [kernel, stride], alike): Parameters| {
        let pool = MaxPool { kernel, stride };
        prop_assume!(pool.window(h, w).is_some());
        let mut graph = Graph::default();
        let picture = graph.push("picture", Op::Input(4 * c), &[]);
        let mean = graph.push("mean", Op::GlobalPool, &[picture]);
        let scale = graph.push("scale", Op::Scale, &[picture, mean]);
        let largest = graph.push("largest", Op::MaxPool(pool), &[picture]);
        let channels = graph.push("channels", Op::Concat(ConcatAxis::Channels), &[scale, picture, scale]);
        let pixels = graph.push("pixels", Op::Concat(ConcatAxis::Pixels), &[largest, picture, scale]);
        let joined = if alike { maps[2] } else { maps[3] };
        for (id, map) in [
            (picture, maps[0]),
            (mean, maps[1]),
            (scale, maps[2]),
            (largest, maps[3]),
            (channels, joined),
            (pixels, joined),
        ] {
            graph.node_mut(id).quantisation = Some(map);
        }
        graph.add_output("channels", channels);
        graph.add_output("pixels", pixels);
        check_gpus(&graph, &noise([n, 4 * c, h, w], seed), seed % 2 == 0)
    };
    TestRunner::new(config()).run(&cases, check).unwrap();
}

/// Every combination of int8 and floating-point layers.
#[test]
fn int8_and_floating_point_layers_mix() {
    let input = noise([2, 6, 9, 8], 4);
    let conv = |kernel: usize, outputs: usize, inputs: usize, activation: Activation| {
        Op::Conv(Conv {
            weight: noise([outputs, inputs, kernel, kernel], 7 + outputs as u64).into(),
            bias: Some(noise([outputs], 5).into()),
            stride: 1,
            dilation: 1,
            padding: Padding::Symmetric,
            groups: 1,
            activation,
            linear: false,
        })
    };
    for choice in 0..1 << 7 {
        let is = |bit: usize| choice >> bit & 1 == 1;
        let mut graph = Graph::default();
        let picture = graph.push("picture", Op::Input(6), &[]);
        let first = graph.push("first", conv(3, 12, 6, Activation::Relu6), &[picture]);
        let second = graph.push("second", conv(1, 12, 12, Activation::Identity), &[first]);
        let scaled = graph.push("scaled", Op::Resize(Extent::Exact([9, 8])), &[second]);
        let joined = graph.push("joined", Op::Concat(ConcatAxis::Channels), &[first, scaled]);
        let mean = graph.push("mean", Op::GlobalPool, &[joined]);
        let gate = graph.push("gate", conv(1, 24, 24, Activation::HardSigmoid), &[mean]);
        let gated = graph.push("gated", Op::Scale, &[joined, gate]);
        let scores = graph.push("scores", Op::Softmax(8), &[gated]);
        let most = graph.push("most", Op::Argmax(Extent::Exact([4, 4])), &[joined]);
        // Some maps are read by both kinds of layers.
        let nodes = [picture, first, second, scaled, joined, mean, gate, gated];
        for (bit, id) in nodes.into_iter().enumerate() {
            let map = Affine::over(-2.0 - bit as f32, 3.0);
            let mapped = is(bit % 7);
            let steps = is((bit + 3) % 7);
            if steps {
                make_int8(&mut graph, id, mapped.then_some(map));
            } else {
                graph.node_mut(id).quantisation = mapped.then_some(map);
            }
        }
        for (name, id) in [("scores", scores), ("most", most), ("joined", joined)] {
            graph.add_output(name, id);
        }
        check_cpu(&graph, &input).unwrap();
    }
}

/// The largest sums, biases and factors, and the smallest scales.
#[test]
fn extreme_values_match_their_reference() {
    let scales = [f32::MIN_POSITIVE, 1e-20, 1e-6, 0.02, 1.0, 1e6, 1e20];
    let input = Tensor::from_fn([1, 8, 3, 3], |i| [-1.0, 1.0, 1e30, -1e30, 0.0][i % 5]);
    for (at, x) in scales.into_iter().enumerate() {
        for y in scales {
            for activation in Activation::ALL {
                let conv = Conv {
                    weight: noise([20, 8, 1, 1], at as u64).into(),
                    bias: Some(Arc::new(Tensor::from_fn([20], |i| (i as f32 - 10.0) * 10f32.powi(i as i32)))),
                    stride: 1,
                    dilation: 1,
                    padding: Padding::Symmetric,
                    groups: 1,
                    activation,
                    linear: false,
                };
                let case = Case { conv, x: Shape::new(1, 8, 3, 3), residual: true, tile: 0, seed: 1 };
                let maps = [x, scales[(at + 3) % scales.len()], y].map(|scale| Affine { scale, zero: 5 });
                let graph = graph_of(&case, maps, true);
                check_cpu(&graph, &input).unwrap();
                if activation.needs_table() || activation == Activation::Relu6 {
                    check_gpus(&graph, &input, at % 2 == 0).unwrap();
                }
            }
        }
    }
}

#[test]
fn networks_match_their_references() {
    let cpu = Cpu::new(Some(2)).unwrap();
    for name in
        ["mobilenet_v1@0.25", "mobilenet_v2@0.35", "mobilenet_v3_small", "timm/mobilenetv4_conv_small_050"]
    {
        let network = synthetic::network(name).unwrap();
        let input = noise([2, 3, 64, 64], 9);
        let graph = calibrated(&cpu, &network.graph, &input);
        check_cpu(&graph, &input).unwrap();
        check_gpus(&graph, &input, name.contains("v3") || name.contains("v4")).unwrap();
        let fused = Options { fuse: Fuse::Block, ..Options::default() };
        let blocks = |plan: &Plan| plan.steps.iter().any(|step| step.launch.shader.name == "block_int8");
        check_plans(&graph, &input, &fused, name.contains("v4"), blocks).unwrap();
        // The outputs stay near those in floating point.
        let run = |graph: &Graph| {
            let mut executor = Executor::new(&cpu, graph, input.shape().unwrap(), false).unwrap();
            (executor.run(&input).unwrap().remove(0), executor.weight_bytes(), executor.peak_bytes())
        };
        let ((exact, weights, peak), (found, int8_weights, int8_peak)) = (run(&network.graph), run(&graph));
        let error = common::distance(&found, &exact);
        assert!(error < 0.35, "{name} is off by {error}");
        assert!(
            int8_weights * 2 < weights && int8_peak * 2 < peak,
            "{name} has {int8_weights} of {weights}, {int8_peak} of {peak} bytes"
        );
    }
}

/// A block that splits its projection multiplies int8 weights by their scales too. Software drivers have too few
/// units for such a schedule, so the plan is for a large GPU.
#[test]
fn split_projections_of_blocks_have_their_scales() {
    let network = quantize::weights_only(&synthetic::network("mobilenet_v3_small").unwrap()).unwrap().graph;
    let input = noise([1, 3, 224, 224], 9);
    let shape = input.shape().unwrap();
    let cpu = Cpu::new(Some(2)).unwrap();
    let expected = Executor::new(&cpu, &network, shape, false).unwrap().run(&input).unwrap().remove(0);
    for gpu in gpus().iter().filter(|gpu| !common::is_repeated(&(*gpu).into())) {
        let machine = Machine { rates: Card::Ada.machine().rates, ..gpu.machine(Element::F32) };
        let plan = Plan::new(&network, shape, machine, &Options::default()).unwrap();
        let is_split = |step: &Step| {
            step.launch.shader.name.starts_with("block") && step.launch.constants.contains(&("SPLIT", 1))
        };
        assert!(plan.steps.iter().any(is_split), "{}", gpu.adapter());
        let mut executor = pollster::block_on(gpu::Executor::new(gpu, &plan, |_, _| {})).unwrap();
        let error = common::distance(&executor.run(&input).unwrap().remove(0), &expected);
        assert!(error < 1e-5, "{error} on {}", gpu.adapter());
    }
}

/// With weight-only quantisation, weights stay int8 on adapters with every schedule, and the outputs match.
#[test]
fn weight_only_quantisation_keeps_bytes_on_adapters() {
    let fuses = [Fuse::None, Fuse::Auto, Fuse::Block];
    for (name, fuses) in [("mobilenet_v2@0.35", &fuses[1..2]), ("mobilenet_v3_small", &fuses)] {
        let network = quantize::weights_only(&synthetic::network(name).unwrap()).unwrap().graph;
        let input = noise([2, 3, 64, 64], 9);
        let shape = input.shape().unwrap();
        let cpu = Cpu::new(Some(2)).unwrap();
        let expected = Executor::new(&cpu, &network, shape, false).unwrap().run(&input).unwrap().remove(0);
        let mut float = network.clone();
        for (id, _) in network.nodes() {
            float.node_mut(id).weight_scales = None;
        }
        for gpu in gpus() {
            for &fuse in fuses {
                let options = Options { fuse, ..Options::default() };
                let plan =
                    |graph: &Graph| Plan::new(graph, shape, gpu.machine(Element::F32), &options).unwrap();
                let (plan, float_plan) = (plan(&network), plan(&float));
                let mut executor = pollster::block_on(gpu::Executor::new(gpu, &plan, |_, _| {})).unwrap();
                let output = executor.run(&input).unwrap().remove(0);
                let error = common::distance(&output, &expected);
                assert!(error < 1e-5, "{name} {fuse:?} on {}: {error}", gpu.adapter());
                let (bytes, float_bytes) = (plan.weight_bytes(), float_plan.weight_bytes());
                assert!(
                    10 * bytes < 4 * float_bytes,
                    "{name} {fuse:?} takes {bytes} bytes instead of {float_bytes}"
                );
            }
        }
    }
}

#[test]
fn steps_have_kernel_names_and_byte_counts() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let mut graph = Graph::default();
    let picture = graph.push("picture", Op::Input(4), &[]);
    let conv = |groups: usize| Conv {
        weight: noise([4, 4 / groups, 3, 3], 1).into(),
        bias: None,
        stride: 1,
        dilation: 1,
        padding: Padding::Symmetric,
        groups,
        activation: Activation::Relu,
        linear: false,
    };
    let dense = graph.push("dense", Op::Conv(conv(1)), &[picture]);
    let by_channel = graph.push("by_channel", Op::Conv(conv(4)), &[dense]);
    graph.push("scaled", Op::Resize(Extent::Exact([2, 2])), &[by_channel]);
    for id in [dense, by_channel] {
        make_int8(&mut graph, id, Some(Affine::over(0.0, 4.0)));
    }
    graph.node_mut(picture).quantisation = Some(Affine::over(-1.0, 1.0));
    let shape = Shape::new(1, 4, 5, 5);
    let executor = Executor::new(&cpu, &graph, shape, false).unwrap();
    let steps: Vec<(&str, u64)> =
        executor.steps().iter().map(|step| (step.kernel, step.work.bytes)).collect();
    // Bytes of inputs, weights and outputs: four per value in floating point.
    let expected = [
        ("dense int8", 100 + 144 + 100),
        ("depthwise int8", 100 + 36 + 100),
        ("dequantise", 5 * 100),
        ("resize", 100 + 4 * 16),
    ];
    assert_eq!(steps, expected);
    graph.node_mut(dense).weight_scales = Some([1.0; 3].into());
    let refused = Executor::new(&cpu, &graph, shape, false);
    assert!(matches!(refused, Err(Error::Layer { layer, .. }) if layer == "dense"));
}

#[test]
fn non_finite_inputs_are_errors() {
    let mut graph = Graph::default();
    let picture = graph.push("picture", Op::Input(3), &[]);
    graph.push("mean", Op::GlobalPool, &[picture]);
    graph.node_mut(picture).quantisation = Some(Affine::over(-2.0, 2.0));
    let cpu = Cpu::new(Some(1)).unwrap();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let input = Tensor::from_fn([1, 3, 5, 5], |i| if i == 31 { value } else { 0.1 });
        let mut executor = Executor::new(&cpu, &graph, input.shape().unwrap(), false).unwrap();
        let refused = |error: Error| {
            assert!(matches!(error, Error::Input(_)) && error.to_string().contains("at index 31"), "{error}");
        };
        refused(executor.run(&input).unwrap_err());
        for gpu in gpus() {
            let machine = gpu.machine(Element::F32);
            let plan = Plan::new(&graph, input.shape().unwrap(), machine, &Options::default()).unwrap();
            let mut executor = pollster::block_on(gpu::Executor::new(gpu, &plan, |_, _| {})).unwrap();
            refused(executor.run(&input).unwrap_err());
        }
    }
}
