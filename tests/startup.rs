//! Starting: what is compiled, what is kept for the next start, and what may go wrong with it.

mod common;

use std::{fs, path::Path};

use common::gpus;
use goldcrest::{
    Options, Session, Startup,
    gpu::{Executor, Gpu},
    graph::Op,
    plan::Plan,
    tensor::Element,
    wgpu,
    zoo::Network,
};

/// As the program has them, on every adapter, with the files in `folder`.
fn gpus_with(folder: &Path) -> Vec<Gpu> {
    gpus().into_iter().map(|gpu| gpu.cache_in(Some(folder.to_owned()))).collect()
}

fn start(gpu: &Gpu) -> Startup {
    let network = Network::open("assets/seeded").unwrap();
    Session::new(gpu, &network, Options::default()).unwrap().startup()
}

/// Whether the driver has a cache to keep.
fn keeps(gpu: &Gpu) -> bool {
    gpu.device().features().contains(wgpu::Features::PIPELINE_CACHE)
}

#[test]
fn what_one_session_compiled_the_next_finds() {
    let network = Network::open("assets/seeded").unwrap();
    for gpu in gpus() {
        let mut heard = Vec::new();
        let progress = |done, of| heard.push((done, of));
        let first = pollster::block_on(Session::build(&gpu, &network, Options::default(), progress));
        let first = first.unwrap().startup();
        assert!(first.pipelines > 0 && !first.cached, "{first:?}");
        let expected: Vec<_> = (0..=first.pipelines).map(|done| (done, first.pipelines)).collect();
        assert_eq!(heard, expected);
        let second = start(&gpu.clone());
        assert!(second.pipelines == 0 && second.compile <= first.compile, "{first} then {second}");
    }
}

#[test]
fn what_a_session_takes_has_its_weights_in_it() {
    let network = Network::open("assets/seeded").unwrap();
    for gpu in gpus() {
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
fn sessions_are_built_side_by_side() {
    for gpu in gpus() {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| start(&gpu));
            }
        });
        assert_eq!(start(&gpu).pipelines, 0);
    }
}

#[test]
fn the_first_kernel_that_is_refused_is_named() {
    let network = Network::open("assets/seeded").unwrap();
    let options = Options::default();
    for gpu in gpus() {
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
        let refused = pollster::block_on(Executor::new(&gpu, &plan, |_, _| {})).err().unwrap().to_string();
        let kernel = plan.steps[2].launch.shader.name;
        assert!(refused.contains(&format!("kernel {kernel}: ")) && refused.contains("TWICE"), "{refused}");
        // The device is none the worse for it.
        start(&gpu);
    }
}

#[test]
fn the_next_start_finds_the_drivers_cache() {
    let folder = tempfile::tempdir().unwrap();
    for gpu in gpus_with(folder.path()) {
        assert!(!start(&gpu).cached);
    }
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let gpus = gpus_with(folder.path());
    assert_eq!(files.len(), gpus.iter().filter(|gpu| keeps(gpu)).count(), "{files:?}");
    for file in files {
        assert!(fs::read(file).unwrap().starts_with(b"goldcrest seal"));
    }
    for gpu in gpus {
        assert_eq!(start(&gpu).cached, keeps(&gpu));
    }
}

#[test]
fn a_damaged_cache_is_ignored_and_replaced() {
    let nonsense = |_: Vec<u8>| b"nonsense".to_vec();
    for spoil in [nonsense, |bytes: Vec<u8>| bytes[..bytes.len() - 1].to_vec()] {
        let folder = tempfile::tempdir().unwrap();
        for gpu in gpus_with(folder.path()) {
            start(&gpu);
        }
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            fs::write(&path, spoil(fs::read(&path).unwrap())).unwrap();
        }
        for gpu in gpus_with(folder.path()) {
            assert!(!start(&gpu).cached);
        }
        for gpu in gpus_with(folder.path()) {
            assert_eq!(start(&gpu).cached, keeps(&gpu));
        }
    }
}

#[test]
fn without_a_folder_to_write_it_works_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for gpu in gpus_with(&file.join("below")) {
        assert!(!start(&gpu).cached);
    }
}
