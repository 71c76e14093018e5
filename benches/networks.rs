//! Wall time of whole networks, from a tensor in memory to logits in memory, by every way to
//! fuse and every precision: `cargo bench --bench networks`.
//!
//! `GOLDCREST_ADAPTER` names an adapter. Peers are in `compare.py`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::fixture::Fixture;
use criterion::{Criterion, criterion_group, criterion_main};
use goldcrest::{
    Options, Session, Tensor, gpu::Gpu, plan::Fuse, session::Precision, tensor::Element, zoo::Network,
};

const NETWORKS: [&str; 4] = [
    "timm-mobilenetv1_100",
    "torchvision-mobilenet_v2",
    "torchvision-mobilenet_v3_large",
    "torchvision-mobilenet_v3_small",
];

fn networks(criterion: &mut Criterion) {
    let gpu = Gpu::open(std::env::var("GOLDCREST_ADAPTER").ok().as_deref()).expect("an adapter");
    for name in NETWORKS {
        let fixture = Fixture::network(name);
        let folder = tempfile::tempdir().expect("a temporary folder");
        fixture.write(folder.path());
        let network = Network::open_as(folder.path(), Some(&fixture.recipe.arch)).expect("the fixture opens");
        let mut group = criterion.benchmark_group(name);
        for (precision, element) in [(Precision::F32, Element::F32), (Precision::F16, Element::F16)] {
            if gpu.supports(element).is_err() {
                continue;
            }
            for fuse in [Fuse::None, Fuse::Pair, Fuse::Block, Fuse::Auto] {
                let options = Options { size: Some([224, 224]), fuse, precision, ..Options::default() };
                let shape = options.input_shape(&network);
                let input = Tensor::from_fn(<[usize; 4]>::from(shape), |i| (i as f32 * 0.37).sin());
                let mut session = Session::new(&gpu, &network, options).expect("a session");
                group.bench_function(format!("{element}, fuse {fuse:?}"), |bencher| {
                    bencher.iter(|| session.run(&input).expect("runs"));
                });
            }
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
