//! Network search: evolution, the latencies of blocks, and the built-in supernet.

use goldcrest::{
    cpu::Cpu,
    demo,
    search::{Failed, Found, Latency, Samples, Settings, Trial, evolve},
    session::{Device, Precision},
    zoo::{Space, Subnet, Supernet},
};
use serde::Deserialize;

fn settings(within_ms: f64) -> Settings {
    Settings { within_ms, population: 24, generations: 20, seed: 7 }
}

/// A latency that grows with every choice.
fn cost(subnet: &Subnet) -> f64 {
    let blocks = subnet.stages.iter().flat_map(|stage| &stage.blocks);
    let cost: usize = blocks.map(|block| block.kernel * block.expansion).sum();
    cost as f64 * subnet.width * (subnet.size as f64 / 224.0).powi(2)
}

/// An accuracy that grows with 5x5 kernels and the size of pictures.
fn accuracy(subnet: &Subnet) -> f64 {
    let blocks: Vec<_> = subnet.stages.iter().flat_map(|stage| &stage.blocks).collect();
    let fives = blocks.iter().filter(|block| block.kernel == 5).count() as f64;
    fives / blocks.len() as f64 + subnet.size as f64 / 224.0
}

fn found(supernet: &Supernet, settings: Settings) -> Vec<Found> {
    evolve(supernet, settings, cost, |subnet, ms| {
        assert!(ms <= settings.within_ms && supernet.contains(subnet).is_ok(), "{subnet}");
        Ok::<_, goldcrest::Error>(accuracy(subnet))
    })
    .unwrap()
}

#[test]
fn evolution_finds_accurate_subnets_within_the_limit() {
    let supernet = demo::supernet().unwrap();
    // The largest subnet costs 1680.
    let limit = 120.0;
    let all = found(&supernet, settings(limit));
    assert!(all.windows(2).all(|pair| pair[0].search_accuracy >= pair[1].search_accuracy));
    let best = &all[0];
    let first: Vec<&Found> = all.iter().filter(|found| found.search_accuracy > 1.75).collect();
    assert!(best.search_accuracy > 1.85 && !first.is_empty(), "{best:?}");
    // The same number of random subnets, in one generation, is worse.
    let random = Settings { population: 24 * 20, generations: 1, ..settings(limit) };
    let random = &found(&supernet, random)[0];
    assert!(random.search_accuracy < best.search_accuracy, "{random:?} {best:?}");
    // No duplicates, and reproducible results.
    let mut texts: Vec<String> = all.iter().map(|found| found.subnet.to_string()).collect();
    assert_eq!(found(&supernet, settings(limit)), all);
    let count = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), count);
    assert_ne!(found(&supernet, Settings { seed: 8, ..settings(limit) })[0], all[0]);
}

#[test]
fn limit_below_the_fastest_subnet_is_an_error() {
    let supernet = demo::supernet().unwrap();
    let fastest = cost(&supernet.smallest());
    match evolve(&supernet, settings(fastest / 2.0), cost, |subnet, _| Ok::<_, ()>(accuracy(subnet))) {
        Err(Failed::Slow { fastest_ms }) => assert_eq!(fastest_ms, fastest),
        other => panic!("{other:?}"),
    }
    // A space with one network gives that one.
    let one = Space {
        kernels: vec![3],
        expansions: vec![3],
        depths: vec![2],
        widths: vec![0.5],
        squeeze: vec![false],
        sizes: vec![96],
    };
    let only = supernet.restrict(one.clone()).unwrap();
    let all = found(&only, settings(f64::INFINITY));
    assert_eq!(all.iter().map(|found| &found.subnet).collect::<Vec<_>>(), [&only.smallest()]);
    let more = Space { sizes: vec![48], ..one };
    assert!(only.restrict(more).is_err_and(|error| error.to_string().contains("size")));
}

#[test]
fn latencies_of_blocks_predict_those_of_subnets() {
    let whole = demo::supernet().unwrap();
    let space = Space { sizes: vec![96], widths: vec![0.5, 1.0], ..whole.space().clone() };
    let supernet = whole.restrict(space).unwrap();
    let device = Device::Cpu(Cpu::new(Some(1)).unwrap());
    let mut reported = Vec::new();
    let latency =
        Latency::measure(&supernet, &device, Precision::F32, |done, of| reported.push((done, of))).unwrap();
    // Nine choices of a block, with squeeze-excite and without, at two widths; one call if a cache had them.
    assert!(reported.len() == 1 || reported[0] == (0, 108), "{reported:?}");
    let all = evolve(
        &supernet,
        settings(f64::INFINITY),
        |subnet| latency.predict(subnet),
        |_, ms| {
            assert!(ms.is_finite() && ms > 0.0);
            Ok::<_, ()>(-ms)
        },
    );
    assert!(all.is_ok());
    let [small, large] = [supernet.smallest(), supernet.largest()].map(|subnet| latency.predict(&subnet));
    assert!(2.0 * small < large, "{small} {large}");
    let checked = latency.check(&supernet, &device, Precision::F32, 5, 3, |_, _| {}).unwrap();
    let mut errors: Vec<f64> = checked.iter().map(|checked| checked.error()).collect();
    errors.sort_by(f64::total_cmp);
    println!("predictions are off by {errors:.3?}");
    // The bound is wide, because tests run in parallel on the same machine.
    assert!(errors[2] < 0.6, "{errors:?}");
    // There is no prediction for sizes that were not measured.
    assert_eq!(latency.predict(&Subnet { size: 224, ..supernet.smallest() }), f64::INFINITY);
}

#[derive(Deserialize)]
struct Quality {
    subnets: Vec<Scored>,
}

#[derive(Deserialize)]
struct Scored {
    kernels: Vec<Vec<usize>>,
    expansions: Vec<Vec<usize>>,
    depths: Vec<usize>,
    squeeze: Vec<bool>,
    width: f64,
    size: usize,
    top1: f64,
}

impl Scored {
    /// Parses its text, for a supernet whose stages 2, 4 and 5 can have squeeze-excite.
    fn subnet(&self) -> Subnet {
        let stage = |i: usize| {
            let blocks =
                (0..self.depths[i]).map(|j| format!("k{}e{}", self.kernels[i][j], self.expansions[i][j]));
            let squeeze = if self.squeeze[i] && [1, 3, 4].contains(&i) { "+se" } else { "" };
            format!("{}{squeeze}", blocks.collect::<Vec<_>>().join("+"))
        };
        let stages: Vec<String> = (0..5).map(stage).collect();
        format!("r{},w{},{}", self.size, self.width, stages.join(",")).parse().unwrap()
    }
}

/// Torch's accuracy is on the same scenes, with statistics from the same number of other scenes.
#[test]
fn built_in_supernet_matches_torchs_accuracy() {
    let quality: Quality =
        serde_json::from_slice(&std::fs::read("assets/supernet/quality.json").unwrap()).unwrap();
    let supernet = demo::supernet().unwrap();
    let samples = Samples::scenes(16, 1000).unwrap();
    let mut trial = Trial::new(&supernet, Cpu::new(None).unwrap(), samples).unwrap();
    let chosen = [0, 4, quality.subnets.len() - 1].map(|at| &quality.subnets[at]);
    for scored in chosen {
        let subnet = scored.subnet();
        let (_, _, top1) = trial.finish(&subnet).unwrap();
        println!("{subnet}: {top1}, torch {}", scored.top1);
        assert!((top1 - scored.top1).abs() <= 0.03, "{subnet}: {top1}, torch {}", scored.top1);
    }
    let largest = quality.subnets.iter().map(|scored| scored.top1).fold(0.0, f64::max);
    assert!(largest > 0.85, "the largest accuracy is {largest}");
}
