//! The tuner, and its stored results.

mod common;

use std::{fs, sync::Arc, time::Duration};

use common::{cases::noise, int8::calibrated};
use goldcrest::{
    Shape, Tensor,
    cpu::Cpu,
    gpu::{Executor, Gpu},
    graph::{Activation, Affine, Conv, Graph, Op, Padding},
    measure,
    plan::{Fuse, Kernels, Machine, Options, Plan, Schedules, Tuned},
    session::{self, Precision, TuningRecord},
    tensor::Element,
    wgpu,
    zoo::{Network, Outputs},
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

fn run(gpu: &Gpu, graph: &Graph, options: &Options) -> Tensor {
    let plan = Plan::new(graph, INPUT, gpu.machine(Element::F32), options).unwrap();
    let mut executor = pollster::block_on(Executor::new(gpu, &plan, |_, _| {})).unwrap();
    executor.run(&noise(<[usize; 4]>::from(INPUT), 9)).unwrap().remove(0)
}

#[test]
fn tuning_changes_only_the_time() {
    for gpu in common::own_gpus() {
        let mut calls = 0;
        let budget = Duration::from_millis(300);
        let tuning =
            measure::tune(&gpu, &network(), &network(), &inputs(), Element::F32, budget, |_| calls += 1)
                .unwrap();
        // One inverted residual of three layers.
        assert_eq!((tuning.blocks.sets, tuning.layers.sets), (1, 3));
        // This budget suffices for one schedule of each kind: separate, front, back and whole.
        assert!(tuning.blocks.candidates == 4 && tuning.layers.candidates > 4, "{tuning:?}");
        for tally in [tuning.blocks, tuning.layers] {
            assert!(tally.rounds > 0 && calls > 0, "{tuning:?}");
        }
        assert!(tuning.after_ms <= tuning.before_ms && tuning.after_ms > 0.0, "{tuning:?}");
        let tuned = run(&gpu, &network(), &Options { tuned: tuning.winners, ..Options::default() });
        let plain = run(&gpu, &network(), &Options { fuse: Fuse::None, ..Options::default() });
        assert!(common::distance(&tuned, &plain) <= 1e-5, "{}", gpu.adapter());
    }
}

#[test]
fn tuning_int8_changes_no_bit() {
    let inputs = inputs();
    let mut graph = calibrated(&Cpu::new(Some(1)).unwrap(), &network(), &inputs[0]);
    let (last, _) = graph.nodes().last().unwrap();
    graph.node_mut(last).quantisation = Some(Affine::over(-9.0, 9.0));
    for gpu in common::own_gpus() {
        let budget = Duration::from_millis(300);
        let tuning = measure::tune(&gpu, &graph, &graph, &inputs, Element::F32, budget, |_| {}).unwrap();
        assert_eq!((tuning.blocks.sets, tuning.blocks.candidates), (1, 4), "{tuning:?}");
        let tuned = run(&gpu, &graph, &Options { tuned: tuning.winners, ..Options::default() });
        let plain = run(&gpu, &graph, &Options { fuse: Fuse::None, ..Options::default() });
        assert_eq!(tuned, plain, "{}", gpu.adapter());
    }
}

#[test]
fn f16_error_is_that_of_the_worst_input() {
    let budget = Duration::from_millis(50);
    for gpu in common::own_gpus().into_iter().filter(Gpu::has_f16) {
        let tune = |inputs: &[Tensor]| {
            let graph = clamped_by(Activation::Identity);
            measure::tune(&gpu, &graph, &graph, inputs, Element::F16, budget, |_| {})
        };
        let error = |inputs: &[Tensor]| tune(inputs).unwrap().error;
        let [a, b] = inputs();
        let worst = error(std::slice::from_ref(&a)).max(error(std::slice::from_ref(&b)));
        let both = error(&[a.clone(), b]);
        // The winning schedules may vary between runs, and round in another order.
        assert!(both > 0.0 && (both / worst - 1.0).abs() < 0.5, "{both} of {worst} on {}", gpu.adapter());
        // An input on which f16 overflows has the largest error.
        let loud = Tensor::from_fn(a.dims(), |_| 6e4);
        assert_eq!(error(&[a, loud]), f64::MAX, "{}", gpu.adapter());
        assert!(tune(&[]).is_err());
    }
}

#[test]
fn winners_are_loaded_only_for_the_same_network() {
    let graph = network();
    for gpu in common::own_gpus() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let machine = gpu.machine(Element::F32);
        let blocks = Plan::block_candidates(&graph, INPUT, machine, &Tuned::default(), 3).unwrap();
        let layers = Plan::layer_candidates(&graph, INPUT, machine, 3).unwrap();
        let (last, kernel) = (*blocks[0].candidates.last().unwrap(), *layers[0].candidates.last().unwrap());
        let winners = Tuned {
            schedules: Schedules::from([(blocks[0].layer.clone(), last)]),
            kernels: Kernels::from([(layers[0].layer.clone(), kernel)]),
            gated: Kernels::new(),
        };
        let load = |input, element| session::load_tuning(&gpu, &graph, input, element);

        assert_eq!(load(INPUT, Element::F32), None);
        let record = TuningRecord { winners: winners.clone(), ms: 1.5, error: 0.0, weights: 0 };
        assert!(session::store_tuning(&gpu, &graph, INPUT, Element::F32, record.clone()));
        assert_eq!(load(INPUT, Element::F32), Some(record.clone()));
        assert_eq!(load(Shape { n: 2, ..INPUT }, Element::F32), None);
        assert_eq!(load(INPUT, Element::F16), None);
        let mut int8 = graph.clone();
        let (id, _) = graph.nodes().nth(1).unwrap();
        int8.node_mut(id).quantisation = Some(Affine::over(0.0, 6.0));
        assert_eq!(session::load_tuning(&gpu, &int8, INPUT, Element::F32), None);

        // The winners determine the plan.
        let options = Options { tuned: winners.clone(), ..Options::default() };
        let plan = Plan::new(&graph, INPUT, gpu.machine(Element::F32), &options).unwrap();
        assert!(plan.choices[0].measured && plan.choices[0].schedule == last);

        let options =
            Options { tuned: Tuned { schedules: Schedules::new(), ..winners }, fuse: Fuse::None, ..options };
        let plan = Plan::new(&graph, INPUT, machine, &options).unwrap();
        assert_eq!(plan.steps[0].launch.shader.name, kernel.name());
        assert!(plan.steps[0].why.contains("measured"), "{}", plan.steps[0].why);

        // A damaged file is ignored.
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(load(INPUT, Element::F32), None);

        let uncached = gpu.cache_in(None);
        assert!(!session::store_tuning(&uncached, &graph, INPUT, Element::F32, record));
    }
}

#[test]
fn auto_precision_is_the_faster_one() {
    let network = Network::open("assets/seeded").unwrap();
    let options = session::Options { size: Some([32, 32]), ..session::Options::default() };
    let input = options.input_shape(&network);
    for gpu in common::own_gpus().into_iter().filter(Gpu::has_f16) {
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let weights = session::weights_checksum(&network.graph);
        let store_record = |element, ms, error, weights| {
            let record = TuningRecord { winners: Tuned::default(), ms, error, weights };
            assert!(session::store_tuning(&gpu, &network.graph, input, element, record));
        };
        let store_with_error = |element, ms, error| store_record(element, ms, error, weights);
        let store = |element, ms| store_with_error(element, ms, 0.0);
        let planned = |precision| {
            let options = session::Options { precision, ..options };
            session::plan(&gpu, &network.graph, input, options).unwrap().element
        };
        assert_eq!(planned(Precision::Auto), Element::F32);
        store(Element::F16, 1.0);
        assert_eq!(planned(Precision::Auto), Element::F32, "f32 was not measured");
        store(Element::F32, 2.0);
        assert_eq!(planned(Precision::Auto), Element::F16);
        assert_eq!(planned(Precision::F32), Element::F32);
        store_with_error(Element::F16, 1.0, 2.0 * session::MAX_F16_ERROR);
        assert_eq!(planned(Precision::Auto), Element::F32, "the error of f16 is too large");
        assert_eq!(planned(Precision::F16), Element::F16);
        store_record(Element::F16, 1.0, 0.0, !weights);
        assert_eq!(planned(Precision::Auto), Element::F32, "the error is another checkpoint's");
        store(Element::F16, 1.0);
        store(Element::F32, 0.5);
        assert_eq!(planned(Precision::Auto), Element::F32);
    }
}

#[test]
fn device_without_f16_ignores_records_of_f16() {
    let network = Network::open("assets/seeded").unwrap();
    let options = session::Options { size: Some([32, 32]), ..session::Options::default() };
    let input = options.input_shape(&network);
    for adapter in pollster::block_on(goldcrest::gpu::adapters()) {
        let folder = tempfile::tempdir().unwrap();
        let open = |features| {
            let descriptor = wgpu::DeviceDescriptor { required_features: features, ..Default::default() };
            let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
            Gpu::from_device(&adapter, device, queue).cache_in(Some(folder.path().into()))
        };
        let with = open(adapter.features() & wgpu::Features::SHADER_F16);
        for (element, ms) in [(Element::F32, 2.0), (Element::F16, 1.0)] {
            let record = TuningRecord {
                winners: Tuned::default(),
                ms,
                error: 0.0,
                weights: session::weights_checksum(&network.graph),
            };
            assert!(session::store_tuning(&with, &network.graph, input, element, record));
        }
        let without = open(wgpu::Features::empty());
        assert_eq!(session::plan(&without, &network.graph, input, options).unwrap().element, Element::F32);
    }
}

#[test]
fn requested_outputs_do_not_change_the_tuning_record() {
    let network = Network::open("assets/seeded").unwrap();
    let input = network.input_shape(1);
    let features = network.graph_for(Outputs::Features).unwrap();
    for gpu in common::own_gpus() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let record = TuningRecord { winners: Tuned::default(), ms: 1.0, error: 0.0, weights: 0 };
        assert!(session::store_tuning(&gpu, &network.graph, input, Element::F32, record.clone()));
        assert_eq!(session::load_tuning(&gpu, &features, input, Element::F32), Some(record));
        let larger = Shape { h: input.h + 32, ..input };
        assert_eq!(session::load_tuning(&gpu, &features, larger, Element::F32), None);
    }
}

#[test]
fn f16_sums_are_no_candidate_if_the_bias_overflows() {
    let has_f16_sums = |bias: f32| {
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
        let sets = Plan::layer_candidates(&graph, INPUT, machine, 2).unwrap();
        sets[0].candidates.iter().any(|kernel| kernel.arithmetic() == Element::F16)
    };
    assert!(has_f16_sums(1.0) && !has_f16_sums(1e5));
}

#[test]
fn session_is_replaced_by_a_faster_one_between_inferences() {
    for gpu in common::own_gpus() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = gpu.cache_in(Some(folder.path().into()));
        let network = Arc::new(Network::open("assets/seeded").unwrap());
        let options = session::Options { size: Some([32, 32]), ..session::Options::default() };
        let shared = (gpu.clone(), network.clone());
        let build = move || session::Session::new(&shared.0, &shared.1, options);
        let mut tuning = measure::BackgroundTuning::new(&gpu, network.clone(), build.clone()).unwrap();
        let input = noise([1, 3, 32, 32], 9);
        let before = tuning.session().run(&input).unwrap();
        // It is not replaced while an inference is in flight.
        let pending = tuning.session().submit(&input).unwrap();
        assert!(!tuning.session().is_idle());
        let start = std::time::Instant::now();
        while stored_record(&gpu, &network).is_none() && start.elapsed() < Duration::from_secs(120) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let record = stored_record(&gpu, &network).expect("the tuning record is stored");
        assert!(record.ms > 0.0);
        let after = tuning.session().collect(pending).unwrap().remove(0);
        assert!(common::distance(&after, &before) <= 1e-6);
        while tuning.is_tuning() && start.elapsed() < Duration::from_secs(120) {
            let after = tuning.session().run(&input).unwrap();
            assert!(common::distance(&after, &before) <= 1e-5, "{}", gpu.adapter());
        }
        assert!(!tuning.is_tuning(), "{}", gpu.adapter());
        // The next session needs no tuning.
        assert!(!measure::BackgroundTuning::new(&gpu, network, build).unwrap().is_tuning());
    }
}

/// The stored tuning record of the seeded network at this size.
fn stored_record(gpu: &Gpu, network: &Network) -> Option<TuningRecord> {
    let graph = network.graph_for(network.default_outputs()).unwrap();
    session::load_tuning(gpu, &graph, Shape::new(1, 3, 32, 32), Element::F32)
}
