//! Networks with seeded weights: the published counts, and answers that are none the worse for
//! weights that nobody trained.

mod common;

use goldcrest::{
    Error, Options, Session, Shape, Tensor,
    graph::{Cost, Graph},
    zoo::synthetic::{self, Squeeze, Tail, V3Options},
};

/// Parameters and multiply-adds of one 224x224 picture.
fn counts(graph: &Graph) -> (u64, u64) {
    let shapes = graph.shapes(Shape::new(1, 3, 224, 224)).unwrap();
    let total: Cost = graph.costs(&shapes).into_iter().sum();
    (total.parameters, total.macs)
}

/// Parameters and multiply-adds, from the checkpoints' own libraries; those of V1 with full
/// convolutions to a thousand.
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
fn counts_are_the_published_ones() {
    for (name, parameters, macs) in PUBLISHED {
        let found = counts(&synthetic::network(name).unwrap().graph);
        let rounded = if name == "mobilenet_v1_full" { (found.1 + 500) / 1000 * 1000 } else { found.1 };
        assert_eq!((found.0, rounded), (parameters, macs), "{name}");
    }
}

#[test]
fn options_of_v3_change_what_they_say() {
    let published = V3Options::default();
    let of = |options: V3Options| counts(&synthetic::v3_large(&options));
    let (parameters, macs) = of(published);
    let without = of(V3Options { squeeze_excite: Squeeze::None, ..published });
    assert!(without.0 < parameters && without.1 < macs);
    let quarter = V3Options { squeeze_excite: Squeeze::Ratio(0.25), ..published };
    assert_eq!(of(quarter), (parameters, macs));
    assert_eq!(of(V3Options { hard_swish: false, ..published }), (parameters, macs));
    assert!(of(V3Options { stem: 32, ..published }).1 > macs);
    // The paper says that its tail saves 30 M multiply-adds.
    let saved = of(V3Options { tail: Tail::Plain, ..published }).1 - macs;
    assert!((25_000_000..40_000_000).contains(&saved), "{saved}");
}

#[test]
fn values_neither_vanish_nor_explode() {
    let picture = Tensor::wave(Shape::new(1, 3, 64, 64), 0.37);
    for gpu in common::gpus() {
        for name in synthetic::NAMES {
            let network = synthetic::network(name).unwrap();
            let options = Options { size: Some([64, 64]), ..Options::default() };
            let logits = Session::new(&gpu, &network, options).unwrap().run(&picture).unwrap();
            let count = logits.data().len() as f32;
            let mean = logits.data().iter().sum::<f32>() / count;
            let variance = logits.data().iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count;
            println!("{name} on {}: logits {mean:.3} +- {:.3}", gpu.adapter(), variance.sqrt());
            assert!((0.01..1000.0).contains(&variance), "{name} on {}: {variance}", gpu.adapter());
        }
    }
}

#[test]
fn unknown_names_and_widths_are_refused_with_those_that_are_known() {
    for name in ["", "mobilenet", "mobilenet_v9", "mobilenet_v2@", "mobilenet_v2@0", "mobilenet_v2@-1"]
        .into_iter()
        .chain(["mobilenet_v2@5", "mobilenet_v2@nan", "mobilenet_v1_full@0.5", "mobilenet_v2@1@1"])
    {
        let error = synthetic::network(name).unwrap_err();
        assert!(matches!(error, Error::UnknownNetwork(_)), "{name}: {error}");
        let message = error.to_string();
        assert!(synthetic::NAMES.iter().all(|known| message.contains(known)), "{message}");
    }
}
