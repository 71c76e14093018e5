//! GPU time of single layers and blocks of MobileNet V2 and V3, with every candidate kernel and
//! schedule of the planner: `cargo bench --bench kernels`.
//!
//! `GOLDCREST_ADAPTER` selects an adapter. Times are from timestamps where the adapter has them, and
//! otherwise wall-clock times from a tensor in memory to a tensor in memory.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use goldcrest::{
    Shape, Tensor,
    gpu::{Executor, Gpu},
    graph::{Activation, Conv, Graph, Op, Padding},
    plan::{Fuse, Kernels, Options, Plan, Tuned},
};

fn convolution(outputs: usize, inputs: usize, kernel: usize, stride: usize, activation: Activation) -> Op {
    // Filters with a single input are depthwise: one group per output.
    let groups = if inputs == 1 { outputs } else { 1 };
    Op::Conv(Conv {
        weight: Arc::new(values(&[outputs, inputs, kernel, kernel])),
        bias: Some(Arc::new(values(&[outputs]))),
        stride,
        dilation: 1,
        padding: Padding::Symmetric,
        groups,
        activation,
        linear: false,
    })
}

fn values(dims: &[usize]) -> Tensor {
    Tensor::from_fn(dims, |i| (i as f32 * 0.37).sin() * 0.1)
}

/// Times `plan` as the benchmark `name`.
fn time(group: &mut BenchmarkGroup<'_, WallTime>, name: String, gpu: &Gpu, plan: &Plan) {
    let mut executor = pollster::block_on(Executor::new(gpu, plan, |_, _| {})).expect("compiles");
    let input = values(&<[usize; 4]>::from(plan.input.shape));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|runs| {
            let once = |_| {
                if gpu.has_timestamps() {
                    let steps = executor.profile(&input).expect("runs");
                    return Duration::from_secs_f64(steps.iter().sum::<f64>() / 1e9);
                }
                let start = Instant::now();
                executor.run(&input).expect("runs");
                start.elapsed()
            };
            (0..runs).map(once).sum()
        });
    });
}

/// Times one layer, with the best tile of every kernel.
fn layer(criterion: &mut Criterion, gpu: &Gpu, name: &str, op: Op, input: Shape) {
    let mut graph = Graph::default();
    let x = graph.push("input", Op::Input(input.c), &[]);
    graph.push("layer", op, &[x]);
    let mut group = criterion.benchmark_group(format!("{name} {input}"));
    for element in gpu.elements() {
        let machine = gpu.machine(element);
        let sets = Plan::layer_candidates(&graph, input, machine, 1).expect("a layer");
        for kernel in sets.into_iter().flat_map(|set| set.candidates) {
            let kernels = Kernels::from([("layer".to_string(), kernel)]);
            let options = Options { tuned: Tuned { kernels, ..Tuned::default() }, ..Options::default() };
            let plan = Plan::new(&graph, input, machine, &options).expect("plans");
            time(&mut group, format!("{kernel}, {element}"), gpu, &plan);
        }
    }
}

/// Times one inverted residual, with the best tile of every schedule.
fn block(criterion: &mut Criterion, gpu: &Gpu, expanded: usize, input: Shape) {
    let mut graph = Graph::default();
    let x = graph.push("input", Op::Input(input.c), &[]);
    let expand = graph.push("expand", convolution(expanded, input.c, 1, 1, Activation::Relu6), &[x]);
    let depthwise = graph.push("depthwise", convolution(expanded, 1, 3, 1, Activation::Relu6), &[expand]);
    let project = convolution(input.c, expanded, 1, 1, Activation::Identity);
    let project = graph.push("project", project, &[depthwise]);
    graph.push("block", Op::Add, &[x, project]);
    let mut group = criterion.benchmark_group(format!("block of {expanded} {input}"));
    for element in gpu.elements() {
        let machine = gpu.machine(element);
        let sets = Plan::block_candidates(&graph, input, machine, &Tuned::default(), 1).expect("a block");
        for set in sets {
            for schedule in set.candidates {
                let schedules = BTreeMap::from([(set.layer.clone(), schedule)]);
                let tuned = Tuned { schedules, ..Tuned::default() };
                let options = Options { tuned, fuse: Fuse::Auto, ..Options::default() };
                let plan = Plan::new(&graph, input, machine, &options).expect("plans");
                time(&mut group, format!("{schedule}, {element}"), gpu, &plan);
            }
        }
    }
}

fn kernels(criterion: &mut Criterion) {
    let gpu = Gpu::open(std::env::var("GOLDCREST_ADAPTER").ok().as_deref()).expect("an adapter");
    let stem = convolution(32, 3, 3, 2, Activation::Relu6);
    layer(criterion, &gpu, "stem", stem, Shape::new(1, 3, 224, 224));
    for (channels, side, kernel, stride) in
        [(32, 112, 3, 1), (96, 112, 3, 2), (576, 14, 3, 1), (960, 7, 5, 1)]
    {
        let op = convolution(channels, 1, kernel, stride, Activation::Relu6);
        let name = format!("depthwise {kernel}x{kernel} stride {stride}");
        layer(criterion, &gpu, &name, op, Shape::new(1, channels, side, side));
    }
    for (inputs, outputs, side) in
        [(16, 96, 112), (144, 24, 56), (96, 576, 14), (960, 320, 7), (1280, 1000, 1)]
    {
        let op = convolution(outputs, inputs, 1, 1, Activation::Relu6);
        layer(criterion, &gpu, &format!("pointwise to {outputs}"), op, Shape::new(1, inputs, side, side));
    }
    for (channels, expanded, side) in [(24, 144, 56), (64, 384, 14), (160, 960, 7)] {
        block(criterion, &gpu, expanded, Shape::new(1, channels, side, side));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = kernels
}
criterion_main!(benches);
