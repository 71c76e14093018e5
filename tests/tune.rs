//! The tuner, and what it keeps.

mod common;

use std::{fs, sync::Arc, time::Duration};

use common::cases::noise;
use goldcrest::{
    Shape, Tensor,
    gpu::{Executor, Gpu},
    graph::{Activation, Conv, Graph, Op, Padding},
    measure,
    plan::{Fuse, Kernels, Machine, Options, Plan, Schedules, Tuned},
    session::{self, Kept, Precision},
    tensor::Element,
    wgpu,
    zoo::{Answer, Network},
};

const INPUT: Shape = Shape::new(1, 8, 12, 12);

/// One inverted residual.
fn network() -> Graph {
    clamped_by(Activation::Relu6)
}

fn clamped_by(activation: Activation) -> Graph {
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
    let expand = graph.push("expand", conv(24, 8, 1, 1, activation), &[x]);
    let depthwise = graph.push("depthwise", conv(24, 24, 3, 24, activation), &[expand]);
    let project = graph.push("project", conv(8, 24, 1, 1, Activation::Identity), &[depthwise]);
    graph.push("block", Op::Add, &[x, project]);
    graph
}

fn inputs() -> [Tensor; 2] {
    [9, 10].map(|seed| noise(<[usize; 4]>::from(INPUT), seed))
}

fn run(gpu: &Gpu, options: &Options) -> Tensor {
    let plan = Plan::new(&network(), INPUT, gpu.machine(Element::F32), options).unwrap();
    let mut executor = pollster::block_on(Executor::new(gpu, &plan, |_, _| {})).unwrap();
    executor.run(&noise(<[usize; 4]>::from(INPUT), 9)).unwrap().remove(0)
}

#[test]
fn tuning_measures_and_changes_nothing_but_the_time() {
    for gpu in common::gpus() {
        let mut heard = 0;
        let budget = Duration::from_millis(300);
        let tuning =
            measure::tune(&gpu, &network(), &network(), &inputs(), Element::F32, budget, |_| heard += 1)
                .unwrap();
        // One inverted residual of three layers.
        assert_eq!((tuning.blocks.contests, tuning.layers.contests), (1, 3));
        // In so little time one schedule of each kind: separate, front, back and whole.
        assert!(tuning.blocks.entered == 4 && tuning.layers.entered > 4, "{tuning:?}");
        for tally in [tuning.blocks, tuning.layers] {
            assert!(tally.rounds > 0 && heard > 0, "{tuning:?}");
        }
        assert!(tuning.after_ms <= tuning.before_ms && tuning.after_ms > 0.0, "{tuning:?}");
        let tuned = run(&gpu, &Options { tuned: tuning.winners, ..Options::default() });
        let plain = run(&gpu, &Options { fuse: Fuse::None, ..Options::default() });
        assert!(common::distance(&tuned, &plain) <= 1e-5, "{}", gpu.adapter());
    }
}

#[test]
fn the_worst_input_decides_how_exact_f16_is() {
    let budget = Duration::from_millis(50);
    for gpu in common::gpus().into_iter().filter(Gpu::has_f16) {
        let tune = |inputs: &[Tensor]| {
            let graph = clamped_by(Activation::Identity);
            measure::tune(&gpu, &graph, &graph, inputs, Element::F16, budget, |_| {})
        };
        let error = |inputs: &[Tensor]| tune(inputs).unwrap().error;
        let [a, b] = inputs();
        let worst = error(std::slice::from_ref(&a)).max(error(std::slice::from_ref(&b)));
        let both = error(&[a.clone(), b]);
        // Schedules that win may differ from time to time, and round in another order.
        assert!(both > 0.0 && (both / worst - 1.0).abs() < 0.5, "{both} of {worst} on {}", gpu.adapter());
        // One on which f16 overflows is as far as can be.
        let loud = Tensor::from_fn(a.dims(), |_| 6e4);
        assert_eq!(error(&[a, loud]), f64::MAX, "{}", gpu.adapter());
        assert!(tune(&[]).is_err());
    }
}

#[test]
fn winners_are_found_again_for_the_same_network_alone() {
    let graph = network();
    for gpu in common::gpus() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let machine = gpu.machine(Element::F32);
        let blocks = Plan::contests(&graph, INPUT, machine, &Tuned::default(), 3).unwrap();
        let layers = Plan::layer_contests(&graph, INPUT, machine, 3).unwrap();
        let (last, kernel) = (*blocks[0].entered.last().unwrap(), *layers[0].entered.last().unwrap());
        let winners = Tuned {
            schedules: Schedules::from([(blocks[0].layer.clone(), last)]),
            kernels: Kernels::from([(layers[0].layer.clone(), kernel)]),
            gated: Kernels::new(),
        };
        let recall = |input, element| session::recall(&gpu, &graph, input, element);

        assert_eq!(recall(INPUT, Element::F32), None);
        let kept = Kept { winners: winners.clone(), ms: 1.5, error: 0.0, weights: 0 };
        assert!(session::keep(&gpu, &graph, INPUT, Element::F32, kept.clone()));
        assert_eq!(recall(INPUT, Element::F32), Some(kept.clone()));
        assert_eq!(recall(Shape { n: 2, ..INPUT }, Element::F32), None);
        assert_eq!(recall(INPUT, Element::F16), None);

        // They decide the plan.
        let options = Options { tuned: winners.clone(), ..Options::default() };
        let plan = Plan::new(&graph, INPUT, gpu.machine(Element::F32), &options).unwrap();
        assert!(plan.choices[0].measured && plan.choices[0].schedule == last);

        let options =
            Options { tuned: Tuned { schedules: Schedules::new(), ..winners }, fuse: Fuse::None, ..options };
        let plan = Plan::new(&graph, INPUT, machine, &options).unwrap();
        assert_eq!(plan.steps[0].launch.shader.name, kernel.name());
        assert!(plan.steps[0].why.contains("measured"), "{}", plan.steps[0].why);

        // A damaged file is not believed.
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(recall(INPUT, Element::F32), None);

        let nowhere = gpu.cache_in(None);
        assert!(!session::keep(&nowhere, &graph, INPUT, Element::F32, kept));
    }
}

#[test]
fn precision_is_what_was_measured_to_be_quicker() {
    let network = Network::open("assets/seeded").unwrap();
    let options = session::Options { size: Some([32, 32]), ..session::Options::default() };
    let input = options.input_shape(&network);
    for gpu in common::gpus().into_iter().filter(Gpu::has_f16) {
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let own = session::weights(&network.graph);
        let keep_of = |element, ms, error, weights| {
            let kept = Kept { winners: Tuned::default(), ms, error, weights };
            assert!(session::keep(&gpu, &network.graph, input, element, kept));
        };
        let keep_off = |element, ms, error| keep_of(element, ms, error, own);
        let keep = |element, ms| keep_off(element, ms, 0.0);
        let planned = |precision| {
            let options = session::Options { precision, ..options };
            session::plan(&gpu, &network.graph, input, options).unwrap().element
        };
        assert_eq!(planned(Precision::Auto), Element::F32);
        keep(Element::F16, 1.0);
        assert_eq!(planned(Precision::Auto), Element::F32, "f32 was not measured");
        keep(Element::F32, 2.0);
        assert_eq!(planned(Precision::Auto), Element::F16);
        assert_eq!(planned(Precision::F32), Element::F32);
        keep_off(Element::F16, 1.0, 2.0 * session::F16_BOUND);
        assert_eq!(planned(Precision::Auto), Element::F32, "f16 is too far off");
        assert_eq!(planned(Precision::F16), Element::F16);
        keep_of(Element::F16, 1.0, 0.0, !own);
        assert_eq!(planned(Precision::Auto), Element::F32, "the error is another checkpoint's");
        keep(Element::F16, 1.0);
        keep(Element::F32, 0.5);
        assert_eq!(planned(Precision::Auto), Element::F32);
    }
}

#[test]
fn a_device_without_f16_is_not_given_what_another_measured() {
    let network = Network::open("assets/seeded").unwrap();
    let options = session::Options { size: Some([32, 32]), ..session::Options::default() };
    let input = options.input_shape(&network);
    for adapter in pollster::block_on(goldcrest::gpu::adapters()) {
        let folder = tempfile::tempdir().unwrap();
        let own = |features| {
            let descriptor = wgpu::DeviceDescriptor { required_features: features, ..Default::default() };
            let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
            Gpu::from_device(&adapter, device, queue).cache_in(Some(folder.path().into()))
        };
        let with = own(adapter.features() & wgpu::Features::SHADER_F16);
        for (element, ms) in [(Element::F32, 2.0), (Element::F16, 1.0)] {
            let kept =
                Kept { winners: Tuned::default(), ms, error: 0.0, weights: session::weights(&network.graph) };
            assert!(session::keep(&with, &network.graph, input, element, kept));
        }
        let without = own(wgpu::Features::empty());
        assert_eq!(session::plan(&without, &network.graph, input, options).unwrap().element, Element::F32);
    }
}

#[test]
fn what_is_wanted_of_a_network_does_not_change_what_was_tuned() {
    let network = Network::open("assets/seeded").unwrap();
    let input = network.input_shape(1);
    let features = network.answering(Answer::Features).unwrap();
    for gpu in common::gpus() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let kept = Kept { winners: Tuned::default(), ms: 1.0, error: 0.0, weights: 0 };
        assert!(session::keep(&gpu, &network.graph, input, Element::F32, kept.clone()));
        assert_eq!(session::recall(&gpu, &features, input, Element::F32), Some(kept));
        let larger = Shape { h: input.h + 32, ..input };
        assert_eq!(session::recall(&gpu, &features, larger, Element::F32), None);
    }
}

#[test]
fn f16_sums_are_no_choice_for_a_bias_beyond_them() {
    let entered = |bias: f32| {
        let conv = Conv {
            weight: Arc::new(noise([8, 8, 1, 1], 7)),
            bias: Some(Arc::new(Tensor::from_fn([8], |_| bias))),
            stride: 1,
            dilation: 1,
            padding: Padding::Symmetric,
            groups: 1,
            activation: Activation::Relu6,
            linear: false,
        };
        let mut graph = Graph::default();
        let x = graph.push("input", Op::Input(8), &[]);
        graph.push("layer", Op::Conv(conv), &[x]);
        let machine = Machine { element: Element::F16, ..Machine::default() };
        let contests = Plan::layer_contests(&graph, INPUT, machine, 2).unwrap();
        contests[0].entered.iter().any(|kernel| kernel.arithmetic() == Element::F16)
    };
    assert!(entered(1.0) && !entered(1e5));
}

#[test]
fn a_session_is_replaced_by_a_quicker_one_between_two_inferences() {
    for gpu in common::gpus() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let network = Arc::new(Network::open("assets/seeded").unwrap());
        let options = session::Options { size: Some([32, 32]), ..session::Options::default() };
        let shared = (gpu.clone(), network.clone());
        let build = move || session::Session::new(&shared.0, &shared.1, options);
        let mut improving = measure::Improving::new(&gpu, network.clone(), build.clone()).unwrap();
        let input = noise([1, 3, 32, 32], 9);
        let before = improving.now().run(&input).unwrap();
        // In flight it stays, however long that is.
        let pending = improving.now().submit(&input).unwrap();
        assert!(!improving.now().is_idle());
        let start = std::time::Instant::now();
        while recalled(&gpu, &network).is_none() && start.elapsed() < Duration::from_secs(120) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let kept = recalled(&gpu, &network).expect("what was measured is kept");
        assert!(kept.ms > 0.0);
        let after = improving.now().collect(pending).unwrap().remove(0);
        assert!(common::distance(&after, &before) <= 1e-6);
        while improving.is_looking() && start.elapsed() < Duration::from_secs(120) {
            let after = improving.now().run(&input).unwrap();
            assert!(common::distance(&after, &before) <= 1e-5, "{}", gpu.adapter());
        }
        assert!(!improving.is_looking(), "{}", gpu.adapter());
        // Whoever comes next finds it done.
        assert!(!measure::Improving::new(&gpu, network, build).unwrap().is_looking());
    }
}

/// What tuning kept of the seeded network at this size.
fn recalled(gpu: &Gpu, network: &Network) -> Option<Kept> {
    let graph = network.answering(network.answer()).unwrap();
    session::recall(gpu, &graph, Shape::new(1, 3, 32, 32), Element::F32)
}
