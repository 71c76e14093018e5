//! Startup: compilation, the pipeline cache for the next start, and its failures.

mod common;

use std::{fs, path::Path};

use common::own_gpus;
use goldcrest::{
    Options, Session, Startup,
    gpu::{Executor, Gpu},
    graph::Op,
    plan::Plan,
    tensor::Element,
    wgpu,
    zoo::Network,
};

/// A device on every adapter, with its cache files in `folder`.
fn gpus_with_cache(folder: &Path) -> Vec<Gpu> {
    own_gpus().into_iter().map(|gpu| gpu.cache_in(Some(folder.to_owned()))).collect()
}

fn start(gpu: &Gpu) -> Startup {
    let network = Network::open("assets/seeded").unwrap();
    Session::new(gpu, &network, Options::default()).unwrap().startup()
}

/// Returns whether the driver has a pipeline cache.
fn has_cache(gpu: &Gpu) -> bool {
    gpu.device().features().contains(wgpu::Features::PIPELINE_CACHE)
}

#[test]
fn sessions_reuse_compiled_pipelines() {
    let network = Network::open("assets/seeded").unwrap();
    for gpu in own_gpus() {
        let mut reported = Vec::new();
        let progress = |done, of| reported.push((done, of));
        let first = pollster::block_on(Session::new_async(&gpu, &network, Options::default(), progress));
        let first = first.unwrap().startup();
        assert!(first.pipelines > 0 && !first.cached, "{first:?}");
        let expected: Vec<_> = (0..=first.pipelines).map(|done| (done, first.pipelines)).collect();
        assert_eq!(reported, expected);
        let second = start(&gpu.clone());
        assert!(second.pipelines == 0 && second.compile <= first.compile, "{first} then {second}");
    }
}

#[test]
fn peak_bytes_include_the_weights() {
    let network = Network::open("assets/seeded").unwrap();
    for gpu in own_gpus() {
        let session = Session::new(&gpu, &network, Options::default()).unwrap();
        let slots = session.plan().unwrap().slot_bytes();
        let values = network.graph.nodes().map(|(_, node)| match &node.op {
            Op::Conv(conv) => conv.weight.data().len() as u64,
            _ => 0,
        });
        let weights = 4 * values.sum::<u64>();
        assert!(session.peak_bytes() >= slots + weights, "{}: {} bytes", gpu.adapter(), session.peak_bytes());
    }
}

#[test]
fn sessions_are_built_concurrently() {
    for gpu in own_gpus() {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| start(&gpu));
            }
        });
        assert_eq!(start(&gpu).pipelines, 0);
    }
}

#[test]
fn first_rejected_kernel_is_named() {
    let network = Network::open("assets/seeded").unwrap();
    let options = Options::default();
    for gpu in own_gpus() {
        let plan = Plan::new(
            &network.graph,
            options.input_shape(&network),
            gpu.machine(Element::F32),
            &options.plan(),
        );
        let mut plan = plan.unwrap();
        for step in &mut plan.steps[2..] {
            step.launch.constants.push(("TWICE", 1));
            step.launch.constants.push(("TWICE", 2));
        }
        let error = pollster::block_on(Executor::new(&gpu, &plan, |_, _| {})).err().unwrap().to_string();
        let kernel = plan.steps[2].launch.shader.name;
        assert!(error.contains(&format!("kernel {kernel}: ")) && error.contains("TWICE"), "{error}");
        // The device still works.
        start(&gpu);
    }
}

#[test]
fn next_start_uses_the_drivers_cache() {
    let folder = tempfile::tempdir().unwrap();
    for gpu in gpus_with_cache(folder.path()) {
        assert!(!start(&gpu).cached);
    }
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let gpus = gpus_with_cache(folder.path());
    assert_eq!(files.len(), gpus.iter().filter(|gpu| has_cache(gpu)).count(), "{files:?}");
    for file in files {
        assert!(fs::read(file).unwrap().starts_with(b"goldcrest seal"));
    }
    for gpu in gpus {
        assert_eq!(start(&gpu).cached, has_cache(&gpu));
    }
}

#[test]
fn damaged_cache_is_ignored_and_replaced() {
    let nonsense = |_: Vec<u8>| b"nonsense".to_vec();
    for damage in [nonsense, |bytes: Vec<u8>| bytes[..bytes.len() - 1].to_vec()] {
        let folder = tempfile::tempdir().unwrap();
        for gpu in gpus_with_cache(folder.path()) {
            start(&gpu);
        }
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        }
        for gpu in gpus_with_cache(folder.path()) {
            assert!(!start(&gpu).cached);
        }
        for gpu in gpus_with_cache(folder.path()) {
            assert_eq!(start(&gpu).cached, has_cache(&gpu));
        }
    }
}

#[test]
fn sessions_work_without_a_writable_cache_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for gpu in gpus_with_cache(&file.join("below")) {
        assert!(!start(&gpu).cached);
    }
}
