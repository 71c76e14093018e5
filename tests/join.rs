//! Joined maps: steps that leave their part in the whole, copies of those that cannot, and what
//! lies around them, against the parts by themselves.

mod common;

use std::{collections::BTreeMap, sync::Arc};

use common::cases::noise;
use goldcrest::{
    Shape, Tensor,
    gpu::{Executor, Gpu},
    graph::{Activation, Conv, Extent, Graph, Joint, NodeId, Op, Padding},
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

/// A part of every kind: pointwise, over all channels, a block, one with a residual, a resized
/// one, a depthwise one, and one that is wanted elsewhere too.
fn graph(joint: Joint) -> (Graph, Vec<NodeId>, NodeId) {
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
    let whole = g.push("whole", Op::Concat(joint), &parts);
    g.answer("whole", whole);
    let scaled = g.push("scaled", Op::GlobalPool, &[shared]);
    g.answer("scaled", scaled);
    (g, parts, whole)
}

fn planned(graph: &Graph, machine: Machine, fuse: Fuse, kernels: BTreeMap<String, Kernel>) -> Plan {
    let tuned = Tuned { kernels, ..Tuned::default() };
    Plan::new(graph, INPUT, machine, &plan::Options { fuse, tuned, ..plan::Options::default() }).unwrap()
}

fn run(gpu: &Gpu, plan: &Plan, input: &Tensor) -> Vec<Tensor> {
    pollster::block_on(Executor::new(gpu, plan, |_, _| {})).unwrap().run(input).unwrap()
}

/// The parts in one, in plain loops.
fn joined(parts: &[Tensor], joint: Joint) -> Tensor {
    let shapes: Vec<Shape> = parts.iter().map(|part| part.shape().unwrap()).collect();
    let n = shapes[0].n;
    let picture = |part: &Tensor, at: usize| {
        part.data()[at * part.data().len() / n..][..part.data().len() / n].to_vec()
    };
    match joint {
        Joint::Channels => {
            let channels = shapes.iter().map(|s| s.c).sum();
            let data = (0..n).flat_map(|at| parts.iter().flat_map(move |part| picture(part, at)));
            Tensor::new([n, channels, shapes[0].h, shapes[0].w], data.collect()).unwrap()
        }
        Joint::Pixels => {
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

/// The kernels that a layer of the graph may have on this machine, a kind of shader each.
fn kernels_of(graph: &Graph, machine: Machine) -> Vec<BTreeMap<String, Kernel>> {
    let contests = Plan::layer_contests(graph, INPUT, machine, 1).unwrap();
    let most = contests.iter().map(|contest| contest.entered.len()).max().unwrap();
    let nth = |i: usize| contests.iter().map(move |c| (c.layer.clone(), c.entered[i % c.entered.len()]));
    (0..most).map(|i| nth(i).collect()).collect()
}

#[test]
fn parts_lie_where_they_belong() {
    for gpu in common::gpus() {
        for element in gpu.elements() {
            let input = noise(<[usize; 4]>::from(INPUT), 5);
            let machine = Machine { half_rate: 1.0, ..gpu.machine(element) };
            for joint in [Joint::Channels, Joint::Pixels] {
                let (graph, parts, whole) = graph(joint);
                // The parts by themselves, in f32.
                let apart = parts.iter().map(|id| (graph.node(*id).name().to_owned(), *id)).collect();
                let apart = graph.answering(apart);
                let expected = run(
                    &gpu,
                    &planned(&apart, gpu.machine(Element::F32), Fuse::None, BTreeMap::new()),
                    &input,
                );
                let expected = joined(&expected, joint);
                for fuse in [Fuse::None, Fuse::Auto, Fuse::Block] {
                    for kernels in kernels_of(&graph, machine) {
                        let plan = planned(&graph, machine, fuse, kernels);
                        let answers = run(&gpu, &plan, &input);
                        let error = common::distance(&answers[0], &expected);
                        let bound = if element == Element::F32 { 1e-6 } else { 3e-3 };
                        let steps: Vec<&str> = plan.steps.iter().map(|s| s.launch.shader.name).collect();
                        assert!(
                            error <= bound,
                            "{joint:?} {fuse:?} {element} on {}: {error:e} {steps:?}",
                            gpu.adapter()
                        );
                        // Copied are the one that is wanted elsewhere, and the depthwise one.
                        let copies = plan.steps.iter().filter(|s| s.why.starts_with("a copy"));
                        let copies: Vec<&str> = copies.map(|step| step.why.as_str()).collect();
                        let expected =
                            ["a copy: alone cannot be written in place", "a copy: shared has other readers"];
                        assert_eq!(copies, expected, "{fuse:?}");
                        assert_eq!(plan.outputs[0].value.shape, graph.shapes(INPUT).unwrap()[whole.index()]);
                        for step in &plan.steps {
                            let own = step.writes.iter().any(|w| step.reads.contains(&Operand::Slot(*w)));
                            assert!(!own, "{}", step.name());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_joined_may_be_joined_again() {
    // Besides, the picture itself is a part, and a part comes twice.
    let mut g = Graph::default();
    let x = g.push("input", Op::Input(INPUT.c), &[]);
    let a = g.push("a", conv("a", 12, 12, 1, false), &[x]);
    let b = g.push("b", conv("b", 12, 8, 1, false), &[x]);
    let inner = g.push("inner", Op::Concat(Joint::Channels), &[a, b]);
    let twice = g.push("twice", conv("twice", 12, 12, 1, false), &[x]);
    g.push("outer", Op::Concat(Joint::Channels), &[x, inner, twice, twice]);
    let input = noise(<[usize; 4]>::from(INPUT), 5);
    let apart = g.answering([a, b, twice].map(|id| (g.node(id).name().to_owned(), id)).to_vec());
    for gpu in common::gpus() {
        let machine = gpu.machine(Element::F32);
        let mut parts = run(&gpu, &planned(&apart, machine, Fuse::None, BTreeMap::new()), &input);
        let last = parts[2].clone();
        parts.insert(0, input.clone());
        parts.push(last);
        let answers = run(&gpu, &planned(&g, machine, Fuse::Auto, BTreeMap::new()), &input);
        assert_eq!(answers[0], joined(&parts, Joint::Channels), "{}", gpu.adapter());
    }
}

#[test]
fn with_taps_every_part_is_its_own() {
    let (graph, parts, whole) = graph(Joint::Channels);
    let input = noise(<[usize; 4]>::from(INPUT), 5);
    for gpu in common::gpus() {
        let options = plan::Options { taps: true, ..plan::Options::default() };
        let plan = Plan::new(&graph, INPUT, gpu.machine(Element::F32), &options).unwrap();
        let mut executor = pollster::block_on(Executor::new(&gpu, &plan, |_, _| {})).unwrap();
        let answers = executor.run(&input).unwrap();
        let taps: BTreeMap<String, Tensor> = executor.taps().unwrap().into_iter().collect();
        let parts: Vec<Tensor> = parts.iter().map(|id| taps[graph.node(*id).name()].clone()).collect();
        assert_eq!(joined(&parts, Joint::Channels), answers[0]);
        assert_eq!(taps[graph.node(whole).name()], answers[0]);
    }
}

#[test]
fn what_cannot_be_joined_is_refused() {
    let refusal = |g: &Graph| {
        let options = plan::Options::default();
        let machine = Machine { max_binding: u64::MAX, max_buffer: u64::MAX, ..Machine::default() };
        Plan::new(g, INPUT, machine, &options).expect_err("should be refused").to_string()
    };
    let mut g = Graph::default();
    let x = g.push("input", Op::Input(INPUT.c), &[]);
    let odd = g.push("odd", conv("odd", 12, 10, 1, false), &[x]);
    let even = g.push("even", conv("even", 12, 12, 1, false), &[x]);
    g.push("both", Op::Concat(Joint::Channels), &[odd, even]);
    assert!(refusal(&g).contains("layer both: 10 channels before a part"), "{}", refusal(&g));

    let mut g = Graph::default();
    let x = g.push("input", Op::Input(INPUT.c), &[]);
    let small = g.push("small", Op::GlobalPool, &[x]);
    g.push("both", Op::Concat(Joint::Channels), &[x, small]);
    assert!(refusal(&g).contains("layer both: cannot join"), "{}", refusal(&g));

    // Class numbers are bytes: no kernel takes them for a map.
    let mut g = Graph::default();
    let x = g.push("input", Op::Input(INPUT.c), &[]);
    let labels = g.push("labels", Op::Argmax(Extent::Exact([7, 5])), &[x]);
    g.push("mean", Op::GlobalPool, &[labels]);
    assert!(refusal(&g).contains("layer mean: cannot read the output of labels"), "{}", refusal(&g));

    // Beyond what a shader can count.
    for size in [[1, 1 << 30], [1 << 40, 1 << 40]] {
        let mut g = Graph::default();
        let x = g.push("input", Op::Input(INPUT.c), &[]);
        g.push("labels", Op::Argmax(Extent::Exact(size)), &[x]);
        assert!(refusal(&g).contains("layer labels: "), "{}", refusal(&g));
        assert!(refusal(&g).contains("count"), "{}", refusal(&g));
    }
}

#[test]
fn every_kernel_that_makes_a_convolution_can_place_it() {
    // All but the depthwise kernel, whose channels no network joins.
    let layer = |kernel: Kernel| kernel.name();
    let (graph, ..) = graph(Joint::Channels);
    for gpu in common::gpus() {
        let machine = gpu.machine(Element::F32);
        for kernels in kernels_of(&graph, machine) {
            let plan = planned(&graph, machine, Fuse::None, kernels.clone());
            for step in &plan.steps {
                if let Some(kernel) = kernels.get(step.name()).filter(|kernel| layer(**kernel) != "depthwise")
                {
                    assert!(step.launch.can_be_placed(), "{kernel}");
                }
            }
        }
        let subgroups = gpu.has(Tier::Subgroups, Element::F32);
        let tried = kernels_of(&graph, machine).into_iter().flatten().map(|(_, kernel)| layer(kernel));
        let tried: Vec<&str> = tried.collect();
        assert!(tried.contains(&pointwise::SHADER.name) && tried.contains(&"pointwise_split"));
        assert_eq!(tried.contains(&"pointwise_subgroup"), subgroups);
    }
}
