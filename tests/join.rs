//! Concatenation: steps that write their part in place, copies of the parts of steps that cannot, and the
//! layers around them, compared with the parts computed separately.

mod common;

use std::{collections::BTreeMap, sync::Arc};

use common::cases::noise;
use goldcrest::{
    Shape, Tensor,
    gpu::{Executor, Gpu},
    graph::{Activation, ConcatAxis, Conv, Extent, Graph, NodeId, Op, Padding},
    kernels::{Tier, pointwise},
    plan::{self, Fuse, Kernel, Machine, Operand, Plan, Tuned},
    tensor::Element,
};

/// An odd batch of odd maps.
const INPUT: Shape = Shape::new(3, 12, 7, 5);

fn conv(name: &str, inputs: usize, outputs: usize, kernel: usize, depthwise: bool) -> Op {
    let seed = name.bytes().map(u64::from).sum();
    let inside = if depthwise { 1 } else { inputs };
    Op::Conv(Conv {
        weight: Arc::new(noise([outputs, inside, kernel, kernel], seed)),
        bias: Some(Arc::new(noise([outputs], seed + 1))),
        stride: 1,
        dilation: if kernel > 1 { 2 } else { 1 },
        padding: Padding::Same,
        groups: if depthwise { inputs } else { 1 },
        activation: Activation::Relu6,
        linear: false,
    })
}

/// A concatenation with every kind of part: pointwise, dense, a block, one with a residual, a resized one, a
/// depthwise one, and one with other readers.
fn graph(axis: ConcatAxis) -> (Graph, Vec<NodeId>, NodeId) {
    let mut g = Graph::default();
    let x = g.push("input", Op::Input(INPUT.c), &[]);
    let mut parts = vec![
        g.push("pointwise", conv("pointwise", 12, 12, 1, false), &[x]),
        g.push("dense", conv("dense", 12, 12, 3, false), &[x]),
    ];
    let expand = g.push("expand", conv("expand", 12, 40, 1, false), &[x]);
    let depthwise = g.push("depthwise", conv("depthwise", 40, 40, 3, true), &[expand]);
    parts.push(g.push("project", conv("project", 40, 12, 1, false), &[depthwise]));
    parts.push(g.push("residual", conv("residual", 12, 12, 1, false), &[x, x]));
    let pooled = g.push("pooled", Op::GlobalPool, &[x]);
    parts.push(g.push("resized", Op::Resize(Extent::Like), &[pooled, x]));
    parts.push(g.push("alone", conv("alone", 12, 12, 5, true), &[x]));
    let shared = g.push("shared", conv("shared", 12, 12, 1, false), &[x]);
    parts.push(shared);
    let whole = g.push("whole", Op::Concat(axis), &parts);
    g.add_output("whole", whole);
    let scaled = g.push("scaled", Op::GlobalPool, &[shared]);
    g.add_output("scaled", scaled);
    (g, parts, whole)
}

fn planned(graph: &Graph, machine: Machine, fuse: Fuse, kernels: BTreeMap<String, Kernel>) -> Plan {
    let tuned = Tuned { kernels, ..Tuned::default() };
    Plan::new(graph, INPUT, machine, &plan::Options { fuse, tuned, ..plan::Options::default() }).unwrap()
}

fn run(gpu: &Gpu, plan: &Plan, input: &Tensor) -> Vec<Tensor> {
    pollster::block_on(Executor::new(gpu, plan, |_, _| {})).unwrap().run(input).unwrap()
}

/// Concatenates the parts in plain loops.
fn joined(parts: &[Tensor], axis: ConcatAxis) -> Tensor {
    let shapes: Vec<Shape> = parts.iter().map(|part| part.shape().unwrap()).collect();
    let n = shapes[0].n;
    let picture = |part: &Tensor, at: usize| {
        part.data()[at * part.data().len() / n..][..part.data().len() / n].to_vec()
    };
    match axis {
        ConcatAxis::Channels => {
            let channels = shapes.iter().map(|s| s.c).sum();
            let data = (0..n).flat_map(|at| parts.iter().flat_map(move |part| picture(part, at)));
            Tensor::new([n, channels, shapes[0].h, shapes[0].w], data.collect()).unwrap()
        }
        ConcatAxis::Pixels => {
            let (c, pixels) = (shapes[0].c, shapes.iter().map(|s| s.h * s.w).sum());
            let rows = (0..n).flat_map(|at| (0..c).map(move |channel| (at, channel)));
            let data = rows.flat_map(|(at, channel)| {
                parts.iter().zip(&shapes).flat_map(move |(part, shape)| {
                    let plane = shape.h * shape.w;
                    part.data()[(at * c + channel) * plane..][..plane].to_vec()
                })
            });
            Tensor::new([n, c, 1, pixels], data.collect()).unwrap()
        }
    }
}

/// Kernel choices for the layers of the graph: each layer gets all its candidates, one per kind of shader.
fn kernels_of(graph: &Graph, machine: Machine) -> Vec<BTreeMap<String, Kernel>> {
    let sets = Plan::layer_candidates(graph, INPUT, machine, 1).unwrap();
    let most = sets.iter().map(|set| set.candidates.len()).max().unwrap();
    let nth = |i: usize| sets.iter().map(move |c| (c.layer.clone(), c.candidates[i % c.candidates.len()]));
    (0..most).map(|i| nth(i).collect()).collect()
}

#[test]
fn concatenated_parts_match_separate_ones() {
    for gpu in common::gpus() {
        for element in gpu.elements() {
            let input = noise(<[usize; 4]>::from(INPUT), 5);
            let machine = Machine { half_rate: 1.0, ..gpu.machine(element) };
            for axis in [ConcatAxis::Channels, ConcatAxis::Pixels] {
                let (graph, parts, whole) = graph(axis);
                // The parts computed separately, in f32.
                let separate = parts.iter().map(|id| (graph.node(*id).name().to_owned(), *id)).collect();
                let separate = graph.with_outputs(separate);
                let expected = run(
                    &gpu,
                    &planned(&separate, gpu.machine(Element::F32), Fuse::None, BTreeMap::new()),
                    &input,
                );
                let expected = joined(&expected, axis);
                for fuse in [Fuse::None, Fuse::Auto, Fuse::Block] {
                    for kernels in kernels_of(&graph, machine) {
                        let plan = planned(&graph, machine, fuse, kernels);
                        let outputs = run(&gpu, &plan, &input);
                        let error = common::distance(&outputs[0], &expected);
                        let bound = if element == Element::F32 { 1e-6 } else { 3e-3 };
                        let steps: Vec<&str> = plan.steps.iter().map(|s| s.launch.shader.name).collect();
                        assert!(
                            error <= bound,
                            "{axis:?} {fuse:?} {element} on {}: {error:e} {steps:?}",
                            gpu.adapter()
                        );
                        // Only the part with other readers and the depthwise one are copied.
                        let copies = plan.steps.iter().filter(|s| s.why.starts_with("a copy"));
                        let copies: Vec<&str> = copies.map(|step| step.why.as_str()).collect();
                        let expected =
                            ["a copy: alone cannot be written in place", "a copy: shared has other readers"];
                        assert_eq!(copies, expected, "{fuse:?}");
                        assert_eq!(plan.outputs[0].value.shape, graph.shapes(INPUT).unwrap()[whole.index()]);
                        for step in &plan.steps {
                            let aliased = step.writes.iter().any(|w| step.reads.contains(&Operand::Slot(*w)));
                            assert!(!aliased, "{}", step.name());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn concatenations_can_be_nested() {
    // The picture itself is a part, and one part occurs twice.
    let mut g = Graph::default();
    let x = g.push("input", Op::Input(INPUT.c), &[]);
    let a = g.push("a", conv("a", 12, 12, 1, false), &[x]);
    let b = g.push("b", conv("b", 12, 8, 1, false), &[x]);
    let inner = g.push("inner", Op::Concat(ConcatAxis::Channels), &[a, b]);
    let twice = g.push("twice", conv("twice", 12, 12, 1, false), &[x]);
    g.push("outer", Op::Concat(ConcatAxis::Channels), &[x, inner, twice, twice]);
    let input = noise(<[usize; 4]>::from(INPUT), 5);
    let separate = g.with_outputs([a, b, twice].map(|id| (g.node(id).name().to_owned(), id)).to_vec());
    for gpu in common::gpus() {
        let machine = gpu.machine(Element::F32);
        let mut parts = run(&gpu, &planned(&separate, machine, Fuse::None, BTreeMap::new()), &input);
        let last = parts[2].clone();
        parts.insert(0, input.clone());
        parts.push(last);
        let outputs = run(&gpu, &planned(&g, machine, Fuse::Auto, BTreeMap::new()), &input);
        assert_eq!(outputs[0], joined(&parts, ConcatAxis::Channels), "{}", gpu.adapter());
    }
}

#[test]
fn taps_contain_every_part_and_the_whole() {
    let (graph, parts, whole) = graph(ConcatAxis::Channels);
    let input = noise(<[usize; 4]>::from(INPUT), 5);
    for gpu in common::gpus() {
        let options = plan::Options { taps: true, ..plan::Options::default() };
        let plan = Plan::new(&graph, INPUT, gpu.machine(Element::F32), &options).unwrap();
        let mut executor = pollster::block_on(Executor::new(&gpu, &plan, |_, _| {})).unwrap();
        let outputs = executor.run(&input).unwrap();
        let taps: BTreeMap<String, Tensor> = executor.taps().unwrap().into_iter().collect();
        let parts: Vec<Tensor> = parts.iter().map(|id| taps[graph.node(*id).name()].clone()).collect();
        assert_eq!(joined(&parts, ConcatAxis::Channels), outputs[0]);
        assert_eq!(taps[graph.node(whole).name()], outputs[0]);
    }
}

#[test]
fn invalid_concatenations_and_label_maps_are_errors() {
    let error_of = |g: &Graph| {
        let options = plan::Options::default();
        let machine = Machine { max_binding: u64::MAX, max_buffer: u64::MAX, ..Machine::default() };
        Plan::new(g, INPUT, machine, &options).expect_err("should be refused").to_string()
    };
    let mut g = Graph::default();
    let x = g.push("input", Op::Input(INPUT.c), &[]);
    let odd = g.push("odd", conv("odd", 12, 10, 1, false), &[x]);
    let even = g.push("even", conv("even", 12, 12, 1, false), &[x]);
    g.push("both", Op::Concat(ConcatAxis::Channels), &[odd, even]);
    assert!(error_of(&g).contains("layer both: 10 channels before a part"), "{}", error_of(&g));

    let mut g = Graph::default();
    let x = g.push("input", Op::Input(INPUT.c), &[]);
    let small = g.push("small", Op::GlobalPool, &[x]);
    g.push("both", Op::Concat(ConcatAxis::Channels), &[x, small]);
    assert!(error_of(&g).contains("layer both: cannot concatenate"), "{}", error_of(&g));

    // Labels are bytes, which no kernel reads as a feature map.
    let mut g = Graph::default();
    let x = g.push("input", Op::Input(INPUT.c), &[]);
    let labels = g.push("labels", Op::Argmax(Extent::Exact([7, 5])), &[x]);
    g.push("mean", Op::GlobalPool, &[labels]);
    assert!(error_of(&g).contains("layer mean: cannot read the output of labels"), "{}", error_of(&g));

    // Too large for a shader's 32-bit indices.
    for (size, word) in [([1, 1 << 30], "overflows 32-bit"), ([1 << 40, 1 << 40], "in bytes of")] {
        let mut g = Graph::default();
        let x = g.push("input", Op::Input(INPUT.c), &[]);
        g.push("labels", Op::Argmax(Extent::Exact(size)), &[x]);
        assert!(error_of(&g).contains("layer labels: "), "{}", error_of(&g));
        assert!(error_of(&g).contains(word), "{}", error_of(&g));
    }
}

#[test]
fn every_convolution_kernel_can_write_in_place() {
    // All except the depthwise kernel, whose output no network concatenates.
    let shader = |kernel: Kernel| kernel.name();
    let (graph, ..) = graph(ConcatAxis::Channels);
    for gpu in common::gpus() {
        let machine = gpu.machine(Element::F32);
        for kernels in kernels_of(&graph, machine) {
            let plan = planned(&graph, machine, Fuse::None, kernels.clone());
            for step in &plan.steps {
                if let Some(kernel) =
                    kernels.get(step.name()).filter(|kernel| shader(**kernel) != "depthwise")
                {
                    assert!(step.launch.can_be_placed(), "{kernel}");
                }
            }
        }
        let subgroups = gpu.has(Tier::Subgroups, Element::F32);
        let tried = kernels_of(&graph, machine).into_iter().flatten().map(|(_, kernel)| shader(kernel));
        let tried: Vec<&str> = tried.collect();
        assert!(tried.contains(&pointwise::SHADER.name) && tried.contains(&"pointwise_split"));
        assert_eq!(tried.contains(&"pointwise_subgroup"), subgroups);
    }
}
