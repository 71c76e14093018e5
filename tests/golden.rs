//! Networks compared with the libraries that their checkpoints come from.

mod common;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use common::{
    by_box, distance,
    fixture::{Fixture, subsample, tap_sample},
};
use goldcrest::{
    Device, Error, Options, Session, Shape, Tensor,
    gpu::{Executor, Gpu},
    graph::{Cost, passes::prune},
    kernels::{Rates, Tier},
    plan::{self, Fuse, Machine, Operand, Plan},
    session::Precision,
    tasks::preprocess,
    tensor::Element,
    zoo::{Family, Network, Outputs, Task},
};

/// ||out - reference|| / ||reference|| in f32, the reference computed in f64.
const TOLERANCE: f64 = 3e-5;

/// The same with maps and weights stored as f16. Their rounding, at most 2^-11 of a value, propagates through
/// some fifty layers.
const F16_TOLERANCE: f64 = 1e-2;

/// The same for a detector's boxes, and the pixels of transformers' segmenter. They lack a classifier's mean
/// over all pixels, which averages most of the error away. For these networks `tune` measures an error above
/// [`session::MAX_F16_ERROR`], and so f16 has to be requested.
const F16_TOLERANCE_PER_PIXEL: f64 = 2e-2;

/// Networks with every kind of block: with and without expansion, squeeze-excite, a depthwise layer at the
/// start, dilation and TensorFlow's padding. On devices that repeat another's shaders only these run in every
/// schedule, because the fused blocks of all networks would take SwiftShader more than half of this test's
/// time.
const EVERY_BLOCK: [&str; 5] = [
    "timm-mobilenetv1_100",
    "torchvision-mobilenet_v2",
    "torchvision-mobilenet_v3_large",
    "timm-mobilenetv4_conv_small",
    "transformers-mobilenet_v2_segmentation",
];

/// Looser, because a tap has at most 64 values, and only few of them may be far from zero.
const TAP_TOLERANCE: f64 = 1e-4;

fn session(device: impl Into<Device>, network: &Network, input: &Tensor, fuse: Fuse, taps: bool) -> Session {
    let &[n, _, h, w] = input.dims() else { panic!("not a batch of pictures") };
    let options = Options { batch: n, size: Some([h, w]), fuse, taps, ..Options::default() };
    Session::new(device, network, options).unwrap()
}

/// Compares the five best classes. Those whose scores differ by less than the bound may be in any order.
fn same_top_five(logits: &[f32], reference: &[f32]) -> bool {
    let order = |values: &[f32]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
        order
    };
    let norm = reference.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let bound = TOLERANCE * norm;
    let (ours, theirs) = (order(logits), order(reference));
    (0..5).all(|i| {
        ours[i] == theirs[i] || f64::from((reference[ours[i]] - reference[theirs[i]]).abs()) <= bound
    })
}

/// A case's input. Detectors resize every picture to their input size.
fn input(fixture: &Fixture, network: &Network, case: usize) -> Tensor {
    match network.task {
        Task::Detect(_) => preprocess(&fixture.picture(case), &network.preprocessing).unwrap(),
        _ => fixture.input(case),
    }
}

/// Pairs of our output and the library's, sampled at the same positions.
fn output_pairs(
    fixture: &Fixture,
    network: &Network,
    case: usize,
    outputs: &[Tensor],
) -> Vec<(Tensor, Tensor)> {
    let stored = |name: &str| fixture.expected(name, case);
    match network.task {
        Task::Classify | Task::Embed => vec![(outputs[0].clone(), stored("out"))],
        Task::Segment { .. } => vec![(subsample(&outputs[0], 4096), stored("out"))],
        Task::Detect(_) => [("cls_logits", network.classes), ("bbox_regression", 4)]
            .into_iter()
            .zip(outputs)
            .map(|((name, each), output)| (subsample(&by_box(output, each), 4096), stored(name)))
            .collect(),
    }
}

/// The largest relative error of the outputs.
fn largest_error(fixture: &Fixture, network: &Network, case: usize, outputs: &[Tensor]) -> f64 {
    let pairs = output_pairs(fixture, network, case, outputs);
    pairs.iter().map(|(ours, theirs)| distance(ours, theirs)).fold(0.0, f64::max)
}

fn check(device: &Device, fixture: &Fixture, network: &Network) {
    let cases = fixture.recipe.cases.len();
    // The last picture is the smallest.
    for case in if common::is_repeated(device) { cases - 1..cases } else { 0..cases } {
        let input = input(fixture, network, case);
        let compare = |outputs: &[Tensor], fuse: Fuse| {
            let context = format!("{} case {case}, {fuse:?}, on {}", fixture.name, device);
            let error = largest_error(fixture, network, case, outputs);
            println!("{context}: {error:.1e}");
            assert!(error <= TOLERANCE, "{context}: {error:e}");
            if network.task == Task::Classify {
                assert!(same_top_five(outputs[0].data(), fixture.expected("out", case).data()), "{context}");
            }
        };
        if let Some(taps) = fixture.recipe.taps.as_ref().filter(|taps| taps.case == case) {
            // Taps first, so that a failure names its layer.
            let mut session = session(device, network, &input, Fuse::None, true);
            let outputs = session.run_all(&input).unwrap();
            let shapes = taps.modules.iter().map(|m| (m.name.as_str(), &m.shape[..])).collect();
            check_taps(fixture, &shapes, &session.taps().unwrap());
            compare(&outputs, Fuse::None);
        }
        // Every schedule on the smallest picture, which has an odd size; the planner's choice on all.
        let all = [Fuse::Auto, Fuse::Pair, Fuse::Block];
        let all_schedules = case + 1 == fixture.recipe.cases.len()
            && matches!(device, Device::Gpu(_))
            && (!common::is_repeated(device) || EVERY_BLOCK.contains(&fixture.name.as_str()));
        for fuse in if all_schedules { &all[..] } else { &all[..1] } {
            compare(&session(device, network, &input, *fuse, false).run_all(&input).unwrap(), *fuse);
        }
    }
}

fn check_taps(fixture: &Fixture, shapes: &HashMap<&str, &[usize]>, taps: &[(String, Tensor)]) {
    let mut checked = 0;
    for (name, output) in taps {
        // If the library calls a function, no module has the output.
        let Some(shape) = shapes.get(name.as_str()) else { continue };
        // timm's V1 and V2 flatten inside their pool; our pooled maps stay 1 x 1.
        let dims = if name == "global_pool" { &output.dims()[..shape.len()] } else { output.dims() };
        assert_eq!(dims, *shape, "{}: {name}", fixture.name);
        let error = distance(&tap_sample(output), &fixture.tap(name));
        assert!(error <= TAP_TOLERANCE, "{}: layer {name} is off by {error:e}", fixture.name);
        checked += 1;
    }
    assert!(checked * 10 >= taps.len() * 8, "{}: {checked} of {} taps are modules", fixture.name, taps.len());
}

#[test]
fn networks_match_their_libraries() {
    let fixtures = Fixture::networks();
    assert!(fixtures.len() >= 24);
    assert!(EVERY_BLOCK.iter().all(|name| fixtures.iter().any(|fixture| fixture.name == *name)));
    let devices = common::devices();
    // The threads share the devices, and wgpu panics if one waits for GL's context for more than six seconds.
    let gl = Mutex::new(());
    common::for_each(fixtures, |fixture| {
        let network = fixture.open_network();
        for device in &devices {
            let is_gl = matches!(device, Device::Gpu(gpu) if gpu.adapter().backend == "gl");
            let _alone = is_gl.then(|| gl.lock().unwrap_or_else(PoisonError::into_inner));
            check(device, &fixture, &network);
        }
    });
}

/// The libraries' names of the vector that the classifier reads, in order of preference.
const EMBEDDINGS: [&str; 5] = ["flatten", "dropout", "global_pool", "avgpool", "classifier.0"];

#[test]
fn embeddings_match_their_libraries() {
    let devices = common::devices();
    let mut checked = 0;
    for fixture in Fixture::networks() {
        let Some(taps) = &fixture.recipe.taps else { continue };
        let network = fixture.open_network();
        if network.task != Task::Classify {
            continue;
        }
        let is_tap = |name: &&str| taps.modules.iter().any(|module| module.name == **name);
        let name = EMBEDDINGS.into_iter().find(is_tap).unwrap_or_else(|| panic!("{}", fixture.name));
        let input = fixture.input(taps.case);
        let &[n, _, h, w] = input.dims() else { panic!("not a batch of pictures") };
        let options =
            Options { batch: n, size: Some([h, w]), outputs: Outputs::Embedding, ..Options::default() };
        // Other tests run each network on all devices; here one device per network, in turn, suffices.
        let device = &devices[checked % devices.len()];
        let found = Session::new(device, &network, options).unwrap().run_all(&input).unwrap();
        let error = distance(&tap_sample(&found[0]), &fixture.tap(name));
        println!("{} {name} {:?} on {device}: {error:.1e}", fixture.name, found[0].dims());
        assert!(found.len() == 1 && error <= TOLERANCE, "{} {name} on {device}: {error:e}", fixture.name);
        checked += 1;
    }
    assert!(checked >= 14);
}

#[test]
fn networks_in_f16_stay_near_their_libraries() {
    let gpus: Vec<Gpu> = common::gpus().into_iter().filter(Gpu::has_f16).collect();
    // One of the adapters that CI requires has f16; elsewhere there may be none.
    assert!(!gpus.is_empty() || std::env::var("GOLDCREST_TEST_ADAPTERS").is_err(), "no adapter has f16");
    let mut with_sums = vec![false; gpus.len()];
    for fixture in Fixture::networks() {
        let network = fixture.open_network();
        let last = fixture.recipe.cases.len() - 1;
        let input = input(&fixture, &network, last);
        let &[n, _, h, w] = input.dims() else { panic!("not a batch of pictures") };
        for (gpu, with_sums) in gpus.iter().zip(&mut with_sums) {
            let errors = [Fuse::None, Fuse::Auto, Fuse::Block].map(|fuse| {
                let precision = Precision::F16;
                let options = Options { batch: n, size: Some([h, w]), fuse, precision, ..Options::default() };
                let outputs = Session::new(gpu, &network, options).unwrap().run_all(&input).unwrap();
                largest_error(&fixture, &network, last, &outputs)
            });
            // Also f16 sums in every kernel that has them, which otherwise only tuning would choose.
            let machine = Machine { half_rate: 1e6, ..gpu.machine(Element::F16).baseline() };
            let (outputs, plan) = run_planned(gpu, &network, &input, machine);
            // A plan may have none if launches or matrix units determine its time.
            *with_sums |= plan.steps.iter().any(|step| step.launch.arithmetic == Element::F16);
            let sums = largest_error(&fixture, &network, last, &outputs);
            println!(
                "{} in f16 on {}: {errors:.4?} fused none, auto, block; {sums:.4} with f16 sums",
                fixture.name,
                gpu.adapter()
            );
            let worst = errors.into_iter().fold(0.0, f64::max);
            let per_pixel =
                matches!(network.task, Task::Detect(_)) || network.family == Family::DEEPLAB_V3_PLUS;
            let tolerance = if per_pixel { F16_TOLERANCE_PER_PIXEL } else { F16_TOLERANCE };
            assert!(worst <= tolerance, "{} in f16: {errors:.4?}", fixture.name);
            assert!(sums <= tolerance, "{} with f16 sums: {sums:.4}", fixture.name);
        }
    }
    for (gpu, with_sums) in gpus.iter().zip(with_sums) {
        assert!(with_sums, "{}: no plan has f16 sums", gpu.adapter());
    }
}

/// Runs `network` as planned for `machine`; returns the outputs and the plan.
fn run_planned(gpu: &Gpu, network: &Network, input: &Tensor, machine: Machine) -> (Vec<Tensor>, Plan) {
    let options = plan::Options::default();
    let plan = Plan::new(&network.graph, input.shape().unwrap(), machine, &options).unwrap();
    let mut executor = pollster::block_on(Executor::new(gpu, &plan, |_, _| {})).unwrap();
    let outputs = executor.run(input).unwrap().into_iter().zip(&plan.outputs);
    let outputs =
        outputs.map(|(values, output)| Tensor::new(output.dims.clone(), values.into_data()).unwrap());
    (outputs.collect(), plan)
}

#[test]
fn every_kernel_tier_matches_the_library() {
    for name in ["torchvision-mobilenet_v2", "torchvision-mobilenet_v3_small"] {
        let fixture = Fixture::network(name);
        let network = fixture.open_network();
        let last = fixture.recipe.cases.len() - 1;
        let input = fixture.input(last);
        for gpu in common::gpus() {
            for element in gpu.elements() {
                let baseline = gpu.machine(element).baseline();
                let mut tiers = vec![(Tier::Baseline, baseline)];
                if gpu.has(Tier::Subgroups, element) {
                    let subgroup = gpu.subgroup();
                    tiers.push((
                        Tier::Subgroups,
                        Machine { rates: Rates { broadcast: 0.0, ..baseline.rates }, subgroup, ..baseline },
                    ));
                }
                if gpu.has(Tier::Matrices, element) {
                    let matrices = gpu.matrix_units(element);
                    tiers.push((Tier::Matrices, Machine { matrix_rate: 1e6, matrices, ..baseline }));
                }
                for (tier, machine) in tiers {
                    let (outputs, plan) = run_planned(&gpu, &network, &input, machine);
                    assert!(
                        plan.steps.iter().any(|step| step.launch.shader.tier == tier),
                        "{tier:?} {element}"
                    );
                    let error = largest_error(&fixture, &network, last, &outputs);
                    println!("{name}, {tier:?} in {element} on {}: {error:.1e}", gpu.adapter());
                    let bound = if element == Element::F16 { F16_TOLERANCE } else { TOLERANCE };
                    assert!(error <= bound, "{name}, {tier:?} in {element} on {}: {error:e}", gpu.adapter());
                }
            }
        }
    }
}

#[test]
fn f16_halves_maps_and_weights_and_keeps_biases() {
    let network = Fixture::network("torchvision-mobilenet_v2").open_network();
    let [full, half] = [Element::F32, Element::F16].map(|element| {
        let machine = Machine { element, ..Machine::default() };
        let options = plan::Options { fuse: Fuse::None, ..plan::Options::default() };
        Plan::new(&network.graph, Shape::new(1, 3, 224, 224), machine, &options).unwrap()
    });
    assert_eq!(half.slot_bytes() * 2, full.slot_bytes());
    let biases = |plan: &Plan| -> u64 {
        // A convolution's third input is its bias.
        let bias = |step: &plan::Step| match step.reads.get(2) {
            Some(Operand::Weights(at)) => plan.weights[*at].bytes(),
            _ => 0,
        };
        plan.steps.iter().map(bias).sum()
    };
    assert!(biases(&full) > 0);
    assert_eq!(biases(&half), biases(&full));
    assert_eq!((half.weight_bytes() - biases(&half)) * 2, full.weight_bytes() - biases(&full));
}

#[test]
fn counts_match_the_published_ones() {
    let fixtures: Vec<Fixture> =
        [Fixture::all("networks"), Fixture::all("counts")].into_iter().flatten().collect();
    assert!(fixtures.len() >= 24);
    for fixture in fixtures {
        let network = fixture.open_network();
        let [h, w] = fixture.recipe.input;
        let shapes = network.graph.shapes(Shape::new(1, 3, h, w)).unwrap();
        let total: Cost = network.graph.costs(&shapes).into_iter().sum();
        assert_eq!(total.parameters, fixture.recipe.parameters, "{}", fixture.name);
        assert_eq!(total.macs, fixture.recipe.macs, "{}", fixture.name);
    }
}

#[test]
fn batch_matches_its_pictures() {
    let fixture = Fixture::network("timm-mobilenetv3_small_050");
    let network = fixture.open_network();
    let one = fixture.input(2);
    // The second picture is the first one with its channels reversed.
    let plane = one.data().len() / 3;
    let other = Tensor::from_fn(one.dims(), |i| one.data()[(2 - i / plane) * plane + i % plane]);
    let values: Vec<f32> = [one.data(), other.data(), one.data()].concat();
    let &[_, c, h, w] = one.dims() else { panic!("not a picture") };
    let batch = Tensor::new([3, c, h, w], values).unwrap();
    for (gpu, fuse) in
        common::gpus().into_iter().flat_map(|gpu| [(gpu.clone(), Fuse::None), (gpu, Fuse::Block)])
    {
        let mut single = session(&gpu, &network, &one, fuse, false);
        let singles = [single.run(&one).unwrap(), single.run(&other).unwrap()];
        let together = session(&gpu, &network, &batch, fuse, false).run(&batch).unwrap();
        for (i, row) in together.data().chunks_exact(network.classes).enumerate() {
            let row = Tensor::new([1, network.classes], row.to_vec()).unwrap();
            assert!(distance(&row, &singles[i % 2]) <= 1e-6, "picture {i} on {}", gpu.adapter());
        }
        assert!(distance(&singles[0], &singles[1]) > 1e-2, "both pictures give the same output");
    }
}

#[test]
fn labels_and_boxes_of_a_batch_match_its_pictures() {
    for (name, size) in [
        ("torchvision-lraspp_mobilenet_v3_large", [97, 131]),
        ("torchvision-ssdlite320_mobilenet_v3_large", [193, 161]),
    ] {
        let network = Fixture::network(name).open_network();
        let [h, w] = size;
        let picture = |k: usize| Tensor::from_fn([1, 3, h, w], |i| ((i + 7 * k) as f32 * 0.013).sin());
        let singles = [0, 1, 2].map(picture);
        let batch = singles.iter().flat_map(|one| one.data().iter().copied()).collect::<Vec<_>>();
        let batch = Tensor::new([3, 3, h, w], batch).unwrap();
        let options = Options { size: Some(size), outputs: network.default_outputs(), ..Options::default() };
        for gpu in common::gpus() {
            let mut session = Session::new(&gpu, &network, options).unwrap();
            let separate = singles.each_ref().map(|one| session.run_all(one).unwrap());
            let options = Options { batch: 3, ..options };
            let together = Session::new(&gpu, &network, options).unwrap().run_all(&batch).unwrap();
            for (part, whole) in together.iter().enumerate() {
                for (own, one) in whole.data().chunks_exact(whole.data().len() / 3).zip(&separate) {
                    let own = Tensor::new(one[part].dims(), own.to_vec()).unwrap();
                    let error = distance(&own, &one[part]);
                    assert!(error <= 1e-5, "{name}, part {part} on {}: {error:e}", gpu.adapter());
                }
            }
        }
    }
}

#[test]
fn inferences_in_flight_keep_their_outputs() {
    let fixture = Fixture::network("timm-mobilenetv3_small_050");
    let network = fixture.open_network();
    let first = fixture.input(2);
    let inputs: Vec<Tensor> =
        (0..3).map(|k| Tensor::from_fn(first.dims(), |i| first.data()[i] * (1.0 - 0.4 * k as f32))).collect();
    for gpu in common::gpus() {
        let mut session = session(&gpu, &network, &first, Fuse::Auto, false);
        let expected: Vec<Tensor> = inputs.iter().map(|input| session.run(input).unwrap()).collect();
        assert!(distance(&expected[0], &expected[2]) > 1e-2, "all inputs give the same output");
        // Twice, so that staging buffers are reused; collected in another order.
        for _ in 0..2 {
            let mut in_flight: Vec<_> = inputs.iter().map(|input| session.submit(input).unwrap()).collect();
            for (at, expected) in [(1, &expected[1]), (1, &expected[2]), (0, &expected[0])] {
                assert_eq!(&session.collect(in_flight.remove(at)).unwrap()[0], expected, "{}", gpu.adapter());
            }
        }
        // An inference of another session is refused, and both sessions still work.
        let mut other = self::session(&gpu, &network, &first, Fuse::Auto, false);
        let pending = other.submit(&inputs[0]).unwrap();
        assert!(matches!(session.collect(pending), Err(Error::Input(_))));
        assert_eq!(other.run(&inputs[2]).unwrap(), expected[2]);
        // An inference that is never collected does not affect the next.
        drop(session.submit(&inputs[2]).unwrap());
        assert_eq!(session.run(&inputs[1]).unwrap(), expected[1]);
    }
}

#[test]
fn batch_beyond_the_limits_is_split() {
    let fixture = Fixture::network("timm-mobilenetv3_small_050");
    let network = fixture.open_network();
    for gpu in common::gpus() {
        // Enough pictures to exceed the binding limit with the first map.
        let side = 256;
        let map = Shape::new(1, 16, side / 2, side / 2).device_bytes(Element::F32);
        let batch = usize::try_from(gpu.machine(Element::F32).max_binding / map).unwrap() + 1;
        if batch > 256 {
            continue; // the device's limit is too large for this test
        }
        let picture = |seed: usize, i: usize| ((i + 31 * seed) as f32 * 0.37).sin();
        let len = 3 * side * side;
        let input = Tensor::from_fn([batch, 3, side, side], |i| picture(i / len, i % len));
        // Several outputs.
        let options = |batch| Options {
            batch,
            size: Some([side; 2]),
            outputs: Outputs::Features,
            ..Options::default()
        };
        let together = Session::new(&gpu, &network, options(batch)).unwrap();
        assert!(together.plan().unwrap().input.shape.n < batch && together.input_shape().n == batch);
        let outputs = { together }.run_all(&input).unwrap();
        for seed in [0, batch - 1] {
            let one = Tensor::from_fn([1, 3, side, side], |i| picture(seed, i));
            let alone = Session::new(&gpu, &network, options(1)).unwrap().run_all(&one).unwrap();
            assert_eq!((outputs.len(), alone.len()), (network.features.len(), network.features.len()));
            for (whole, alone) in outputs.iter().zip(&alone) {
                assert_eq!((whole.dims()[0], &whole.dims()[1..]), (batch, &alone.dims()[1..]));
                let own = whole.data()[seed * alone.data().len()..][..alone.data().len()].to_vec();
                let own = Tensor::new(alone.dims(), own).unwrap();
                assert!(distance(&own, alone) <= 1e-5, "picture {seed} on {}", gpu.adapter());
            }
        }
    }
}

#[test]
fn steps_never_read_their_output_slots_and_plans_stay_small() {
    // Dispatches and slot bytes, with one kernel per layer and one per block. V2's features.2 alone reads and
    // writes 5,619,712 bytes in separate kernels. Large squeeze-excite layers take two kernels.
    let expected = [
        ("timm-mobilenetv1_100", [(29, 4_816_896), (16, 4_816_960)]),
        ("torchvision-mobilenet_v2", [(54, 7_727_104), (20, 2_458_624)]),
        ("torchvision-mobilenet_v3_large", [(81, 5_219_264), (40, 1_735_872)]),
        ("torchvision-mobilenet_v3_small", [(73, 1_982_528), (35, 1_646_144)]),
        ("timm-mobilenetv4_conv_small", [(48, 2_558_976), (23, 2_483_776)]),
        ("timm-mobilenetv4_conv_medium", [(79, 5_734_400), (47, 5_570_624)]),
        ("timm-mobilenetv4_conv_large", [(104, 11_943_936), (57, 11_501_632)]),
        ("torchvision-lraspp_mobilenet_v3_large", [(86, 28_798_560), (45, 10_030_560)]),
        ("torchvision-deeplabv3_mobilenet_v3_large", [(89, 28_122_560), (48, 11_296_960)]),
        ("torchvision-ssdlite320_mobilenet_v3_large", [(117, 10_766_368), (57, 3_649_632)]),
    ];
    let found = expected.map(|(name, _)| {
        let network = Fixture::network(name).open_network();
        let plans = [Fuse::None, Fuse::Block].map(|fuse| {
            let options = plan::Options { fuse, ..plan::Options::default() };
            let input = network.input_shape(1);
            let graph = prune(&network.graph_for(network.default_outputs()).unwrap());
            let plan = Plan::new(&graph, input, Machine::default(), &options).unwrap();
            for step in &plan.steps {
                let aliased = step.writes.iter().any(|slot| step.reads.contains(&Operand::Slot(*slot)));
                assert!(!aliased, "{name}: {}", step.name());
            }
            println!("{name} {fuse:?}: slots {:?}, peak {} bytes", plan.slots, plan.peak_bytes());
            // Steps do the layers' work, and more only where tiles overlap.
            let shapes = graph.shapes(input).unwrap();
            let layers: Cost = graph.costs(&shapes).into_iter().sum();
            let steps: u64 = plan.steps.iter().map(|step| step.work.macs).sum();
            match fuse {
                Fuse::None => assert_eq!(steps, layers.macs, "{name}"),
                _ => assert!(steps >= layers.macs && steps < 3 * layers.macs, "{name}: {steps}"),
            }
            // Fused or not, the picture, the weights and the output are transferred.
            let least = plan.weight_bytes() * 9 / 10;
            assert!(plan.steps.iter().map(|step| step.work.bytes).sum::<u64>() > least, "{name}");
            for rated in plan.choices.iter().flat_map(|choice| &choice.candidates) {
                assert!(rated.steps > 0 && rated.workgroups > 0 && rated.work.bytes > 0, "{name}: {rated:?}");
                assert!(rated.workgroup_memory <= Machine::default().workgroup_memory, "{name}: {rated:?}");
            }
            (plan.steps.len(), plan.slot_bytes())
        });
        (name, plans)
    });
    assert_eq!(found, expected);
}
