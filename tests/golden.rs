//! Networks against the libraries that their checkpoints come from.

mod common;

use std::collections::HashMap;

use common::{
    by_box, distance,
    fixture::{Fixture, sample, scattered},
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
    zoo::{Answer, Family, Network, Task},
};

/// ||out - reference|| / ||reference|| in f32, the reference computed in f64.
const TOLERANCE: f64 = 3e-5;

/// The same with maps and weights stored as f16. Their rounding, at most 2^-11 of a value, is
/// carried through some fifty layers.
const F16_TOLERANCE: f64 = 1e-2;

/// A detector's boxes, and the pixels of transformers' segmenter, each have the whole error of their place in
/// the map, where a classifier's mean takes most of it away. `tune` sees that it is more than
/// [`session::F16_BOUND`], so that f16 is for those who ask for it.
const F16_TOLERANCE_OF_PLACES: f64 = 2e-2;

/// A tap has 64 values at most, of which few may be far from zero.
const TAP_TOLERANCE: f64 = 1e-4;

fn session(device: impl Into<Device>, network: &Network, input: &Tensor, fuse: Fuse, taps: bool) -> Session {
    let &[n, _, h, w] = input.dims() else { panic!("not a batch of pictures") };
    let options = Options { batch: n, size: Some([h, w]), fuse, taps, ..Options::default() };
    Session::new(device, network, options).unwrap()
}

/// The five best, except that neighbours nearer than the bound may change places.
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

/// A case's input. A detector scales its pictures itself.
fn input(fixture: &Fixture, network: &Network, case: usize) -> Tensor {
    match network.task {
        Task::Detect(_) => preprocess(&fixture.picture(case), &network.preprocessing).unwrap(),
        _ => fixture.input(case),
    }
}

/// What the library answers, and of our answer the same values.
fn both(fixture: &Fixture, network: &Network, case: usize, answers: &[Tensor]) -> Vec<(Tensor, Tensor)> {
    let stored = |name: &str| fixture.answer(name, case);
    match network.task {
        Task::Classify | Task::Embed => vec![(answers[0].clone(), stored("out"))],
        Task::Segment { .. } => vec![(scattered(&answers[0], 4096), stored("out"))],
        Task::Detect(_) => [("cls_logits", network.classes), ("bbox_regression", 4)]
            .into_iter()
            .zip(answers)
            .map(|((name, each), answer)| (scattered(&by_box(answer, each), 4096), stored(name)))
            .collect(),
    }
}

/// The worst of the answer's distances.
fn off(fixture: &Fixture, network: &Network, case: usize, answers: &[Tensor]) -> f64 {
    let pairs = both(fixture, network, case, answers);
    pairs.iter().map(|(ours, theirs)| distance(ours, theirs)).fold(0.0, f64::max)
}

fn check(device: &Device, fixture: &Fixture, network: &Network) {
    for case in 0..fixture.recipe.cases.len() {
        let input = input(fixture, network, case);
        let judge = |answers: &[Tensor], fuse: Fuse| {
            let what = format!("{} case {case}, {fuse:?}, on {}", fixture.name, device);
            let error = off(fixture, network, case, answers);
            println!("{what}: {error:.1e}");
            assert!(error <= TOLERANCE, "{what}: {error:e}");
            if network.task == Task::Classify {
                assert!(same_top_five(answers[0].data(), fixture.answer("out", case).data()), "{what}");
            }
        };
        if let Some(taps) = fixture.recipe.taps.as_ref().filter(|taps| taps.case == case) {
            // First, so that a failure names its layer.
            let mut session = session(device, network, &input, Fuse::None, true);
            let answers = session.run_all(&input).unwrap();
            let shapes = taps.modules.iter().map(|m| (m.name.as_str(), &m.shape[..])).collect();
            check_taps(fixture, &shapes, &session.taps().unwrap());
            judge(&answers, Fuse::None);
        }
        // Every schedule on the smallest picture, whose sides are odd; the planner's choice on all.
        let all = [Fuse::Auto, Fuse::Pair, Fuse::Block];
        let every = case + 1 == fixture.recipe.cases.len() && matches!(device, Device::Gpu(_));
        for fuse in if every { &all[..] } else { &all[..1] } {
            judge(&session(device, network, &input, *fuse, false).run_all(&input).unwrap(), *fuse);
        }
    }
}

fn check_taps(fixture: &Fixture, shapes: &HashMap<&str, &[usize]>, taps: &[(String, Tensor)]) {
    let mut checked = 0;
    for (name, output) in taps {
        // Where a library calls a function, no module has the output.
        let Some(shape) = shapes.get(name.as_str()) else { continue };
        // timm's V1 and V2 flatten inside their pool; a pooled map of ours keeps its row and column.
        let same = if name == "global_pool" { &output.dims()[..shape.len()] } else { output.dims() };
        assert_eq!(same, *shape, "{}: {name}", fixture.name);
        let error = distance(&sample(output), &fixture.tap(name));
        assert!(error <= TAP_TOLERANCE, "{}: layer {name} is off by {error:e}", fixture.name);
        checked += 1;
    }
    assert!(checked * 10 >= taps.len() * 8, "{}: {checked} of {} taps are modules", fixture.name, taps.len());
}

#[test]
fn networks_are_their_libraries() {
    let fixtures = Fixture::networks();
    assert!(fixtures.len() >= 24);
    let devices = common::devices();
    for fixture in fixtures {
        let network = fixture.open_network();
        for device in &devices {
            check(device, &fixture, &network);
        }
    }
}

/// What the libraries call the vector before the classifier; of several the first is it.
const EMBEDDINGS: [&str; 5] = ["flatten", "dropout", "global_pool", "avgpool", "classifier.0"];

#[test]
fn embeddings_are_their_libraries() {
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
            Options { batch: n, size: Some([h, w]), answer: Answer::Embedding, ..Options::default() };
        // The network itself is held against them on all devices, its vector on each in turn.
        let device = &devices[checked % devices.len()];
        let found = Session::new(device, &network, options).unwrap().run_all(&input).unwrap();
        let error = distance(&sample(&found[0]), &fixture.tap(name));
        println!("{} {name} {:?} on {device}: {error:.1e}", fixture.name, found[0].dims());
        assert!(found.len() == 1 && error <= TOLERANCE, "{} {name} on {device}: {error:e}", fixture.name);
        checked += 1;
    }
    assert!(checked >= 14);
}

#[test]
fn networks_in_f16_stay_near_their_libraries() {
    let gpus: Vec<Gpu> = common::gpus().into_iter().filter(Gpu::has_f16).collect();
    // Where adapters are demanded one of them has f16; elsewhere there may be none.
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
                let answers = Session::new(gpu, &network, options).unwrap().run_all(&input).unwrap();
                off(&fixture, &network, last, &answers)
            });
            // And f16 sums wherever there is a kernel for them, which only tuning would choose.
            let machine = Machine { half_rate: 1e6, ..baseline(gpu, Element::F16) };
            let (answers, plan) = planned(gpu, &network, &input, machine);
            // Where launches or matrix units decide, a plan may have none.
            *with_sums |= plan.steps.iter().any(|step| step.launch.arithmetic == Element::F16);
            let sums = off(&fixture, &network, last, &answers);
            println!(
                "{} in f16 on {}: {errors:.4?} fused none, auto, block; {sums:.4} with f16 sums",
                fixture.name,
                gpu.adapter()
            );
            let worst = errors.into_iter().fold(0.0, f64::max);
            let places = matches!(network.task, Task::Detect(_)) || network.family == Family::DEEPLAB_V3_PLUS;
            let tolerance = if places { F16_TOLERANCE_OF_PLACES } else { F16_TOLERANCE };
            assert!(worst <= tolerance, "{} in f16: {errors:.4?}", fixture.name);
            assert!(sums <= tolerance, "{} with f16 sums: {sums:.4}", fixture.name);
        }
    }
    for (gpu, with_sums) in gpus.iter().zip(with_sums) {
        assert!(with_sums, "{}: no plan has f16 sums", gpu.adapter());
    }
}

/// What `network` answers as planned for `machine`, and the plan.
fn planned(gpu: &Gpu, network: &Network, input: &Tensor, machine: Machine) -> (Vec<Tensor>, Plan) {
    let options = plan::Options::default();
    let plan = Plan::new(&network.graph, input.shape().unwrap(), machine, &options).unwrap();
    let mut executor = pollster::block_on(Executor::new(gpu, &plan, |_, _| {})).unwrap();
    let answers = executor.run(input).unwrap().into_iter().zip(&plan.outputs);
    let answers =
        answers.map(|(answer, output)| Tensor::new(output.dims.clone(), answer.into_data()).unwrap());
    (answers.collect(), plan)
}

/// The device as it would be if it had nothing beyond the baseline.
fn baseline(gpu: &Gpu, element: Element) -> Machine {
    Machine { subgroup: None, matrices: None, ..gpu.machine(element) }
}

#[test]
fn every_tier_of_kernels_is_the_library() {
    for name in ["torchvision-mobilenet_v2", "torchvision-mobilenet_v3_small"] {
        let fixture = Fixture::network(name);
        let network = fixture.open_network();
        let last = fixture.recipe.cases.len() - 1;
        let input = fixture.input(last);
        for gpu in common::gpus() {
            for element in gpu.elements() {
                let baseline = baseline(&gpu, element);
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
                    let (answers, plan) = planned(&gpu, &network, &input, machine);
                    assert!(
                        plan.steps.iter().any(|step| step.launch.shader.tier == tier),
                        "{tier:?} {element}"
                    );
                    let error = off(&fixture, &network, last, &answers);
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
    let [whole, half] = [Element::F32, Element::F16].map(|element| {
        let machine = Machine { element, ..Machine::default() };
        let options = plan::Options { fuse: Fuse::None, ..plan::Options::default() };
        Plan::new(&network.graph, Shape::new(1, 3, 224, 224), machine, &options).unwrap()
    });
    assert_eq!(half.slot_bytes() * 2, whole.slot_bytes());
    let biases = |plan: &Plan| -> u64 {
        // The third thing that a convolution reads.
        let bias = |step: &plan::Step| match step.reads.get(2) {
            Some(Operand::Weights(at)) => plan.weights[*at].bytes(),
            _ => 0,
        };
        plan.steps.iter().map(bias).sum()
    };
    assert!(biases(&whole) > 0);
    assert_eq!(biases(&half), biases(&whole));
    assert_eq!((half.weight_bytes() - biases(&half)) * 2, whole.weight_bytes() - biases(&whole));
}

#[test]
fn counts_are_the_published_ones() {
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
fn a_batch_is_its_pictures() {
    let fixture = Fixture::network("timm-mobilenetv3_small_050");
    let network = fixture.open_network();
    let one = fixture.input(2);
    // The second picture is the first one mirrored in its channels.
    let plane = one.data().len() / 3;
    let other = Tensor::from_fn(one.dims(), |i| one.data()[(2 - i / plane) * plane + i % plane]);
    let both: Vec<f32> = [one.data(), other.data(), one.data()].concat();
    let &[_, c, h, w] = one.dims() else { panic!("not a picture") };
    let batch = Tensor::new([3, c, h, w], both).unwrap();
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
        assert!(distance(&singles[0], &singles[1]) > 1e-2, "the two pictures give one answer");
    }
}

#[test]
fn labels_and_boxes_of_a_batch_are_its_pictures() {
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
        let options = Options { size: Some(size), answer: network.answer(), ..Options::default() };
        for gpu in common::gpus() {
            let mut session = Session::new(&gpu, &network, options).unwrap();
            let apart = singles.each_ref().map(|one| session.run_all(one).unwrap());
            let options = Options { batch: 3, ..options };
            let together = Session::new(&gpu, &network, options).unwrap().run_all(&batch).unwrap();
            for (part, whole) in together.iter().enumerate() {
                for (own, one) in whole.data().chunks_exact(whole.data().len() / 3).zip(&apart) {
                    let own = Tensor::new(one[part].dims(), own.to_vec()).unwrap();
                    let error = distance(&own, &one[part]);
                    assert!(error <= 1e-5, "{name}, part {part} on {}: {error:e}", gpu.adapter());
                }
            }
        }
    }
}

#[test]
fn several_in_flight_keep_their_answers() {
    let fixture = Fixture::network("timm-mobilenetv3_small_050");
    let network = fixture.open_network();
    let first = fixture.input(2);
    let inputs: Vec<Tensor> =
        (0..3).map(|k| Tensor::from_fn(first.dims(), |i| first.data()[i] * (1.0 - 0.4 * k as f32))).collect();
    for gpu in common::gpus() {
        let mut session = session(&gpu, &network, &first, Fuse::Auto, false);
        let expected: Vec<Tensor> = inputs.iter().map(|input| session.run(input).unwrap()).collect();
        assert!(distance(&expected[0], &expected[2]) > 1e-2, "all inputs give one answer");
        // Twice, so that staging buffers are used again; collected in another order.
        for _ in 0..2 {
            let mut flying: Vec<_> = inputs.iter().map(|input| session.submit(input).unwrap()).collect();
            for (at, expected) in [(1, &expected[1]), (1, &expected[2]), (0, &expected[0])] {
                assert_eq!(&session.collect(flying.remove(at)).unwrap()[0], expected, "{}", gpu.adapter());
            }
        }
        // One of another session is refused, and neither of them is the worse for it.
        let mut other = self::session(&gpu, &network, &first, Fuse::Auto, false);
        let pending = other.submit(&inputs[0]).unwrap();
        assert!(matches!(session.collect(pending), Err(Error::Input(_))));
        assert_eq!(other.run(&inputs[2]).unwrap(), expected[2]);
        // One that nobody collects takes nothing with it.
        drop(session.submit(&inputs[2]).unwrap());
        assert_eq!(session.run(&inputs[1]).unwrap(), expected[1]);
    }
}

#[test]
fn a_batch_beyond_the_limits_is_run_in_shares() {
    let fixture = Fixture::network("timm-mobilenetv3_small_050");
    let network = fixture.open_network();
    for gpu in common::gpus() {
        // As many pictures as make the first map larger than a binding may be.
        let side = 256;
        let map = Shape::new(1, 16, side / 2, side / 2).device_bytes(Element::F32);
        let batch = usize::try_from(gpu.machine(Element::F32).max_binding / map).unwrap() + 1;
        if batch > 256 {
            continue; // a device that is too large for this test
        }
        let picture = |seed: usize, i: usize| ((i + 31 * seed) as f32 * 0.37).sin();
        let len = 3 * side * side;
        let input = Tensor::from_fn([batch, 3, side, side], |i| picture(i / len, i % len));
        // An answer of several parts.
        let of =
            |batch| Options { batch, size: Some([side; 2]), answer: Answer::Features, ..Options::default() };
        let together = Session::new(&gpu, &network, of(batch)).unwrap();
        assert!(together.plan().unwrap().input.shape.n < batch && together.input_shape().n == batch);
        let answers = { together }.run_all(&input).unwrap();
        for seed in [0, batch - 1] {
            let one = Tensor::from_fn([1, 3, side, side], |i| picture(seed, i));
            let alone = Session::new(&gpu, &network, of(1)).unwrap().run_all(&one).unwrap();
            assert_eq!((answers.len(), alone.len()), (network.features.len(), network.features.len()));
            for (whole, alone) in answers.iter().zip(&alone) {
                assert_eq!((whole.dims()[0], &whole.dims()[1..]), (batch, &alone.dims()[1..]));
                let own = whole.data()[seed * alone.data().len()..][..alone.data().len()].to_vec();
                let own = Tensor::new(alone.dims(), own).unwrap();
                assert!(distance(&own, alone) <= 1e-5, "picture {seed} on {}", gpu.adapter());
            }
        }
    }
}

#[test]
fn a_plan_never_reads_what_it_writes_and_stays_small() {
    // Dispatches and bytes of slots, a kernel a layer and a kernel a block. V2's features.2
    // alone reads and writes 5,619,712 bytes in separate kernels. Large squeeze-excite layers are two kernels.
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
            let graph = prune(&network.answering(network.answer()).unwrap());
            let plan = Plan::new(&graph, input, Machine::default(), &options).unwrap();
            for step in &plan.steps {
                let own = step.writes.iter().any(|slot| step.reads.contains(&Operand::Slot(*slot)));
                assert!(!own, "{name}: {}", step.name());
            }
            println!("{name} {fuse:?}: slots {:?}, peak {} bytes", plan.slots, plan.peak_bytes());
            // What steps compute is what the layers do, and more only where tiles overlap.
            let shapes = graph.shapes(input).unwrap();
            let layers: Cost = graph.costs(&shapes).into_iter().sum();
            let steps: u64 = plan.steps.iter().map(|step| step.work.macs).sum();
            match fuse {
                Fuse::None => assert_eq!(steps, layers.macs, "{name}"),
                _ => assert!(steps >= layers.macs && steps < 3 * layers.macs, "{name}: {steps}"),
            }
            // Fused or not, the picture, the weights and the answer move.
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
