//! The tuner, and what it keeps.

mod common;

use std::{fs, sync::Arc, time::Duration};

use common::cases::noise;
use goldcrest::{
    Shape, Tensor,
    gpu::{Executor, Gpu},
    graph::{Activation, Conv, Graph, Op, Padding},
    measure,
    plan::{Fuse, Options, Plan, Schedules},
    tensor::Element,
};

const INPUT: Shape = Shape::new(1, 8, 12, 12);

/// One inverted residual.
fn network() -> Graph {
    let conv = |outputs: usize, inputs: usize, kernel, groups, activation| {
        Op::Conv(Conv {
            weight: Arc::new(noise([outputs, inputs / groups, kernel, kernel], 7)),
            bias: Some(Arc::new(noise([outputs], 8))),
            stride: 1,
            dilation: 1,
            padding: Padding::Symmetric,
            groups,
            activation,
            linear: false,
        })
    };
    let mut graph = Graph::default();
    let x = graph.push("input", Op::Input(INPUT.c), &[]);
    let expand = graph.push("expand", conv(24, 8, 1, 1, Activation::Relu6), &[x]);
    let depthwise = graph.push("depthwise", conv(24, 24, 3, 24, Activation::Relu6), &[expand]);
    let project = graph.push("project", conv(8, 24, 1, 1, Activation::Identity), &[depthwise]);
    graph.push("block", Op::Add, &[x, project]);
    graph
}

fn run(gpu: &Gpu, options: &Options) -> Tensor {
    let plan = Plan::new(&network(), INPUT, gpu.machine(Element::F32), options).unwrap();
    let mut executor = pollster::block_on(Executor::new(gpu, &plan, |_, _| {})).unwrap();
    executor.run(&noise(<[usize; 4]>::from(INPUT), 9)).unwrap()
}

#[test]
fn tuning_measures_and_changes_nothing_but_the_time() {
    for gpu in common::gpus() {
        let mut heard = 0;
        let budget = Duration::from_millis(300);
        let tuning = measure::tune(&gpu, &network(), INPUT, Element::F32, budget, |_| heard += 1).unwrap();
        assert_eq!(tuning.blocks, 1);
        assert!(tuning.candidates > 4 && tuning.rounds > 0 && heard > 0, "{tuning:?}");
        assert!(tuning.after_ms <= tuning.before_ms && tuning.after_ms > 0.0, "{tuning:?}");
        let tuned = run(&gpu, &Options { schedules: tuning.schedules, ..Options::default() });
        let plain = run(&gpu, &Options { fuse: Fuse::None, ..Options::default() });
        assert!(common::distance(&tuned, &plain) <= 1e-5, "{}", gpu.adapter());
    }
}

#[test]
fn winners_are_found_again_for_the_same_network_alone() {
    let graph = network();
    for gpu in common::gpus() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let contests = Plan::contests(&graph, INPUT, gpu.machine(Element::F32), 3).unwrap();
        let last = *contests[0].schedules.last().unwrap();
        let winners = Schedules::from([(contests[0].block.clone(), last)]);
        let recall = |input, element| measure::recall(&gpu, &graph, input, element);

        assert_eq!(recall(INPUT, Element::F32), None);
        assert!(measure::keep(&gpu, &graph, INPUT, Element::F32, &winners));
        assert_eq!(recall(INPUT, Element::F32), Some(winners.clone()));
        assert_eq!(recall(Shape { n: 2, ..INPUT }, Element::F32), None);
        assert_eq!(recall(INPUT, Element::F16), None);

        // They decide the plan.
        let options = Options { schedules: winners, ..Options::default() };
        let plan = Plan::new(&graph, INPUT, gpu.machine(Element::F32), &options).unwrap();
        assert!(plan.choices[0].measured && plan.choices[0].schedule == last);

        // A damaged file is not believed.
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(recall(INPUT, Element::F32), None);

        let nowhere = gpu.cache_in(None);
        assert!(!measure::keep(&nowhere, &graph, INPUT, Element::F32, &Schedules::new()));
    }
}
