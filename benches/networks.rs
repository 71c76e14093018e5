//! Wall-clock time of whole networks, from a tensor in memory to logits in memory: on an adapter with
//! every way to fuse and every precision, and on the CPU: `cargo bench --bench networks`.
//!
//! `GOLDCREST_ADAPTER` selects an adapter. `compare.py` runs other engines.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::fixture::Fixture;
use criterion::{Criterion, criterion_group, criterion_main};
use goldcrest::{
    Options, Session, Tensor,
    cpu::Cpu,
    gpu::Gpu,
    plan::Fuse,
    session::{Device, Precision},
    zoo::Network,
};

const NETWORKS: [&str; 4] = [
    "timm-mobilenetv1_100",
    "torchvision-mobilenet_v2",
    "torchvision-mobilenet_v3_large",
    "torchvision-mobilenet_v3_small",
];

fn networks(criterion: &mut Criterion) {
    let gpu = Gpu::open(std::env::var("GOLDCREST_ADAPTER").ok().as_deref()).expect("an adapter");
    let mut ways = Vec::new();
    for precision in [Precision::F32, Precision::F16] {
        if precision.element().is_some_and(|element| gpu.supports(element).is_ok()) {
            let fuses = [Fuse::None, Fuse::Pair, Fuse::Block, Fuse::Auto];
            ways.extend(fuses.map(|fuse| (Device::from(&gpu), precision, fuse)));
        }
    }
    let cpu = Cpu::new(None).expect("the CPU");
    ways.push((Device::from(&cpu), Precision::F32, Fuse::None));
    for name in NETWORKS {
        let fixture = Fixture::network(name);
        let folder = tempfile::tempdir().expect("a temporary folder");
        fixture.write(folder.path());
        let network = Network::open_as(folder.path(), Some(&fixture.recipe.arch)).expect("the fixture opens");
        let mut group = criterion.benchmark_group(name);
        for &(ref device, precision, fuse) in &ways {
            let options = Options { size: Some([224, 224]), fuse, precision, ..Options::default() };
            let shape = options.input_shape(&network);
            let input = Tensor::wave(shape, 0.37);
            let mut session = Session::new(device, &network, options).expect("a session");
            let way = format!("{}, {}, fuse {fuse:?}", device.backend(), session.element());
            group.bench_function(way, |bencher| {
                bencher.iter(|| session.run(&input).expect("runs"));
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = networks
}
criterion_main!(benches);
