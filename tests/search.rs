//! The search for a network of one's own: evolution by itself, times of blocks, and the supernet that was trained for it.

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

/// A time that grows with all that there is to choose.
fn cost(subnet: &Subnet) -> f64 {
    let cells = subnet.stages.iter().flat_map(|stage| &stage.cells);
    let blocks: usize = cells.map(|cell| cell.kernel * cell.expansion).sum();
    blocks as f64 * subnet.width * (subnet.size as f64 / 224.0).powi(2)
}

/// What likes windows of 5 and large pictures.
fn liked(subnet: &Subnet) -> f64 {
    let cells: Vec<_> = subnet.stages.iter().flat_map(|stage| &stage.cells).collect();
    let fives = cells.iter().filter(|cell| cell.kernel == 5).count() as f64;
    fives / cells.len() as f64 + subnet.size as f64 / 224.0
}

fn found(supernet: &Supernet, settings: Settings) -> Vec<Found> {
    evolve(supernet, settings, cost, |subnet, ms| {
        assert!(ms <= settings.within_ms && supernet.contains(subnet).is_ok(), "{subnet}");
        Ok::<_, goldcrest::Error>(liked(subnet))
    })
    .unwrap()
}

#[test]
fn evolution_finds_what_is_liked_within_the_limit() {
    let supernet = demo::supernet().unwrap();
    // Not the largest pictures with all that there is: those cost 1680.
    let limit = 120.0;
    let all = found(&supernet, settings(limit));
    assert!(all.windows(2).all(|pair| pair[0].accuracy >= pair[1].accuracy));
    let best = &all[0];
    let first: Vec<&Found> = all.iter().filter(|found| found.accuracy > 1.75).collect();
    assert!(best.accuracy > 1.85 && !first.is_empty(), "{best:?}");
    // As many at random, all in one generation, do worse.
    let random = Settings { population: 24 * 20, generations: 1, ..settings(limit) };
    let random = &found(&supernet, random)[0];
    assert!(random.accuracy < best.accuracy, "{random:?} {best:?}");
    // None twice, and the same again.
    let mut texts: Vec<String> = all.iter().map(|found| found.subnet.to_string()).collect();
    assert_eq!(found(&supernet, settings(limit)), all);
    let count = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), count);
    assert_ne!(found(&supernet, Settings { seed: 8, ..settings(limit) })[0], all[0]);
}

#[test]
fn a_limit_below_the_smallest_is_said_so() {
    let supernet = demo::supernet().unwrap();
    let quickest = cost(&supernet.smallest());
    match evolve(&supernet, settings(quickest / 2.0), cost, |subnet, _| Ok::<_, ()>(liked(subnet))) {
        Err(Failed::Slow { quickest_ms }) => assert_eq!(quickest_ms, quickest),
        other => panic!("{other:?}"),
    }
    // A space of one network has that one.
    let one = Space {
        kernels: vec![3],
        expansions: vec![3],
        depths: vec![2],
        widths: vec![0.5],
        squeeze: vec![false],
        sizes: vec![96],
    };
    let only = supernet.within(one.clone()).unwrap();
    let all = found(&only, settings(f64::INFINITY));
    assert_eq!(all.iter().map(|found| &found.subnet).collect::<Vec<_>>(), [&only.smallest()]);
    let more = Space { sizes: vec![48], ..one };
    assert!(only.within(more).is_err_and(|error| error.to_string().contains("size")));
}

#[test]
fn blocks_of_few_networks_give_the_times_of_all() {
    let whole = demo::supernet().unwrap();
    let space = Space { sizes: vec![96], widths: vec![0.5, 1.0], ..whole.space().clone() };
    let supernet = whole.within(space).unwrap();
    let device = Device::Cpu(Cpu::new(Some(1)).unwrap());
    let mut told = Vec::new();
    let latency =
        Latency::measure(&supernet, &device, Precision::F32, |done, of| told.push((done, of))).unwrap();
    // Unless a cache had them: nine cells, with squeeze-excite and without, at two widths.
    assert!(told.len() == 1 || told[0] == (0, 108), "{told:?}");
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
    // A machine that tests in parallel is no place for a narrower bound.
    assert!(errors[2] < 0.6, "{errors:?}");
    // What was not measured is not predicted.
    assert_eq!(latency.predict(&Subnet { size: 224, ..supernet.smallest() }), f64::INFINITY);
}

#[derive(Deserialize)]
struct Quality {
    subnets: Vec<Judged>,
}

#[derive(Deserialize)]
struct Judged {
    kernels: Vec<Vec<usize>>,
    expansions: Vec<Vec<usize>>,
    depths: Vec<usize>,
    squeeze: Vec<bool>,
    width: f64,
    size: usize,
    top1: f64,
}

impl Judged {
    /// As text, for a supernet whose stages 2, 4 and 5 can have squeeze-excite.
    fn subnet(&self) -> Subnet {
        let stage = |i: usize| {
            let cells =
                (0..self.depths[i]).map(|j| format!("k{}e{}", self.kernels[i][j], self.expansions[i][j]));
            let squeeze = if self.squeeze[i] && [1, 3, 4].contains(&i) { "+se" } else { "" };
            format!("{}{squeeze}", cells.collect::<Vec<_>>().join("+"))
        };
        let stages: Vec<String> = (0..5).map(stage).collect();
        format!("r{},w{},{}", self.size, self.width, stages.join(",")).parse().unwrap()
    }
}

/// What torch had right on the same scenes, with statistics of as many others.
#[test]
fn the_built_in_supernet_is_as_good_as_torch_found_it() {
    let quality: Quality =
        serde_json::from_slice(&std::fs::read("assets/supernet/quality.json").unwrap()).unwrap();
    let supernet = demo::supernet().unwrap();
    let samples = Samples::scenes(16, 1000).unwrap();
    let mut trial = Trial::new(&supernet, Cpu::new(None).unwrap(), samples).unwrap();
    let chosen = [0, 4, quality.subnets.len() - 1].map(|at| &quality.subnets[at]);
    for judged in chosen {
        let subnet = judged.subnet();
        let (_, _, right) = trial.finish(&subnet).unwrap();
        println!("{subnet}: {right}, torch {}", judged.top1);
        assert!((right - judged.top1).abs() <= 0.03, "{subnet}: {right}, torch {}", judged.top1);
    }
    let largest = quality.subnets.iter().map(|judged| judged.top1).fold(0.0, f64::max);
    assert!(largest > 0.85, "the largest has {largest} right");
}
