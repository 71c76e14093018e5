//! Networks with seeded weights: they have the published counts, and values that neither vanish nor explode.

mod common;

use std::collections::BTreeSet;

use goldcrest::{
    Error, Options, Session, Shape, Tensor,
    cpu::Cpu,
    graph::{Activation, Cost, Graph, Op},
    plan::{self, Machine, Plan},
    zoo::{
        Task,
        synthetic::{self, Squeeze, Tail, V3Options},
    },
};

/// Parameters and multiply-adds of one 224x224 picture.
fn counts(graph: &Graph) -> (u64, u64) {
    let shapes = graph.shapes(Shape::new(1, 3, 224, 224)).unwrap();
    let total: Cost = graph.costs(&shapes).into_iter().sum();
    (total.parameters, total.macs)
}

/// Parameters and multiply-adds, from the checkpoints' libraries; the multiply-adds of V1 with full
/// convolutions are rounded to a thousand.
const PUBLISHED: [(&str, u64, u64); 13] = [
    ("mobilenet_v1", 4_231_976, 568_740_352),
    ("mobilenet_v1@0.25", 470_072, 41_030_272),
    ("mobilenet_v1@0.75", 2_585_560, 325_400_448),
    ("mobilenet_v1_full", 29_294_088, 4_867_293_000),
    ("mobilenet_v2", 3_504_872, 300_774_272),
    ("mobilenet_v2@0.35", 1_677_128, 59_285_808),
    ("mobilenet_v2@0.5", 1_968_680, 97_131_840),
    ("mobilenet_v2@0.75", 2_636_424, 209_069_792),
    ("mobilenet_v2@1.4", 6_108_776, 582_195_824),
    ("mobilenet_v3_large", 5_483_032, 216_589_760),
    ("mobilenet_v3_small", 2_542_856, 56_510_400),
    ("resnet18", 11_689_512, 1_814_073_344),
    ("resnet50", 25_557_032, 4_089_184_256),
];

#[test]
fn counts_match_the_published_ones() {
    for (name, parameters, macs) in PUBLISHED {
        let found = counts(&synthetic::network(name).unwrap().graph);
        let rounded = if name == "mobilenet_v1_full" { (found.1 + 500) / 1000 * 1000 } else { found.1 };
        assert_eq!((found.0, rounded), (parameters, macs), "{name}");
    }
}

/// A network with its library's counts: a line of the file that `scripts/make_published.py` writes.
struct Published {
    name: &'static str,
    parameters: u64,
    macs: u64,
    size: usize,
    classes: usize,
}

fn published() -> Vec<Published> {
    let lines = include_str!("fixtures/published.tsv").lines().skip(1);
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let number = |i: usize| fields[i].parse().unwrap();
            Published {
                name: fields[0],
                parameters: number(1),
                macs: number(2),
                size: number(3) as usize,
                classes: number(4) as usize,
            }
        })
        .collect()
}

#[test]
fn every_known_name_is_published() {
    let names = synthetic::names();
    let published: BTreeSet<String> = published().iter().map(|line| line.name.to_owned()).collect();
    let known: BTreeSet<String> = names[synthetic::NAMES.len()..].iter().cloned().collect();
    assert_eq!(names[..synthetic::NAMES.len()], synthetic::NAMES);
    assert_eq!(known, published);
    assert_eq!(names.len(), known.len() + synthetic::NAMES.len(), "a name occurs twice");
}

#[test]
fn library_networks_have_their_libraries_counts_and_can_be_planned() {
    let mut failures = Vec::new();
    for line in published() {
        let name = line.name;
        let network = synthetic::network(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let shape = network.input_shape(1);
        let shapes = network.graph.shapes(shape).unwrap_or_else(|e| panic!("{name}: {e}"));
        let total: Cost = network.graph.costs(&shapes).into_iter().sum();
        let found = (total.parameters, total.macs, network.input, network.classes);
        let wanted = (line.parameters, line.macs, [line.size; 2], line.classes);
        if found != wanted {
            failures.push(format!("{name}: {found:?}, not {wanted:?}"));
        }
        assert_eq!(network.arch, format!("synthetic/{name}"));
        let detects = matches!(network.task, Task::Detect(_));
        let segments = matches!(network.task, Task::Segment { .. });
        assert_eq!((detects, segments), (line.classes == 91, line.classes == 21), "{name}");
        let graph = network.graph_for(network.default_outputs()).unwrap();
        let plan = Plan::new(&graph, shape, Machine::default(), &plan::Options::default());
        if let Err(e) = plan {
            failures.push(format!("{name}: {e}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn v3_options_change_the_network() {
    let published = V3Options::default();
    let counts_of = |options: V3Options| counts(&synthetic::v3_large(&options));
    let (parameters, macs) = counts_of(published);
    let without = counts_of(V3Options { squeeze_excite: Squeeze::None, ..published });
    assert!(without.0 < parameters && without.1 < macs);
    let quarter = V3Options { squeeze_excite: Squeeze::Ratio(0.25), ..published };
    assert_eq!(counts_of(quarter), (parameters, macs));
    assert_eq!(counts_of(V3Options { hard_swish: false, ..published }), (parameters, macs));
    assert!(counts_of(V3Options { stem: 32, ..published }).1 > macs);
    for activation in [Activation::Relu6, Activation::Swish] {
        let graph = synthetic::v3_small(&V3Options { activation: Some(activation), ..published });
        let found = graph.nodes().filter_map(|(_, node)| match node.op {
            Op::Activation(found) if !node.name().contains("squeeze_excite") => Some(found),
            _ => None,
        });
        let found: Vec<Activation> = found.collect();
        assert!(found.len() > 20 && found.iter().all(|found| *found == activation), "{found:?}");
    }
    let weights = |draw| {
        let graph = synthetic::v3_small(&V3Options { draw, ..published });
        let weight = |op: &Op| if let Op::Conv(conv) = op { Some(conv.weight.clone()) } else { None };
        graph.nodes().find_map(|(_, node)| weight(&node.op)).unwrap()
    };
    assert!(weights(0) != weights(1) && weights(1) != weights(2) && weights(1) == weights(1));
    // The paper says that its tail saves 30 M multiply-adds.
    let saved = counts_of(V3Options { tail: Tail::Plain, ..published }).1 - macs;
    assert!((25_000_000..40_000_000).contains(&saved), "{saved}");
}

fn mean_and_variance(values: &Tensor) -> (f32, f32) {
    let count = values.data().len() as f32;
    let mean = values.data().iter().sum::<f32>() / count;
    (mean, values.data().iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count)
}

#[test]
fn values_neither_vanish_nor_explode() {
    let picture = Tensor::wave(Shape::new(1, 3, 64, 64), 0.37);
    for gpu in common::gpus() {
        for name in synthetic::NAMES {
            let network = synthetic::network(name).unwrap();
            let options = Options { size: Some([64, 64]), ..Options::default() };
            let logits = Session::new(&gpu, &network, options).unwrap().run(&picture).unwrap();
            let (mean, variance) = mean_and_variance(&logits);
            println!("{name} on {}: logits {mean:.3} +- {:.3}", gpu.adapter(), variance.sqrt());
            assert!((0.01..1000.0).contains(&variance), "{name} on {}: {variance}", gpu.adapter());
        }
    }
}

/// The same for library networks: a classifier with other blocks, a detector and a segmenter.
#[test]
fn values_of_library_networks_neither_vanish_nor_explode() {
    let picture = Tensor::wave(Shape::new(1, 3, 64, 64), 0.37);
    let names = [
        "timm/mobilenetv4_conv_small_050",
        "torchvision/ssdlite_mobilenet_v3_small",
        "transformers/mobilenet_v2/segmentation",
    ];
    let cpu = Cpu::new(Some(1)).unwrap();
    for name in names {
        let network = synthetic::network(name).unwrap();
        let options = Options { size: Some([64, 64]), ..Options::default() };
        let outputs = Session::new(&cpu, &network, options).unwrap().run_all(&picture);
        for output in outputs.unwrap() {
            let (_, variance) = mean_and_variance(&output);
            assert!((0.01..10.0).contains(&variance), "{name}: {variance}");
        }
    }
}

#[test]
fn unknown_names_and_widths_are_errors_that_list_known_ones() {
    for name in ["", "mobilenet", "mobilenet_v9", "mobilenet_v2@", "mobilenet_v2@0", "mobilenet_v2@-1"]
        .into_iter()
        .chain(["mobilenet_v2@5", "mobilenet_v2@nan", "mobilenet_v1_full@0.5", "mobilenet_v2@1@1"])
        .chain(["timm/mobilenetv2_100@0.5", "torchvision/", "transformers/mobilenet_v2/"])
    {
        let error = synthetic::network(name).unwrap_err();
        assert!(matches!(error, Error::UnknownNetwork(_)), "{name}: {error}");
        let message = error.to_string();
        assert!(synthetic::NAMES.iter().all(|known| message.contains(known)), "{message}");
    }
    for (name, nearest) in [
        ("timm/mobilenetv3_larg", "timm/mobilenetv3_large_100"),
        ("tim/mobilenetv2_100", "timm/mobilenetv2_100"),
        ("lraspp", "torchvision/lraspp_mobilenet_v3_large"),
    ] {
        let error = synthetic::network(name).unwrap_err().to_string();
        assert!(error.contains(nearest), "{error}");
    }
}
