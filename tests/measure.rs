//! The device times of steps add up to the run's, and a network's needed work does not depend on its steps.

mod common;

use std::time::Duration;

use goldcrest::{
    Shape,
    cpu::Cpu,
    graph::{Cost, Graph},
    measure::{Case, Sampling, Timing, time},
    plan::Fuse,
    session::{Device, Options},
    zoo::synthetic,
};

/// Enough runs for a median, without a minimum time.
const SAMPLING: Sampling = Sampling { warmup: 2, runs: 11, time: Duration::ZERO };

fn timing(device: &Device, graph: &Graph, input: Shape, fuse: Fuse) -> Timing {
    let options = Options { fuse, ..Options::default() };
    time(device, Case { graph, input, options }, SAMPLING).unwrap()
}

fn network(name: &str) -> Graph {
    synthetic::network(name).unwrap().graph
}

#[test]
fn steps_add_up_to_the_whole_run() {
    // Few and long steps, because reading the clock between them takes time too.
    let graph = network("mobilenet_v1@0.5");
    let mut clocks = 0;
    for gpu in common::own_gpus().into_iter().filter(|gpu| gpu.has_timestamps()) {
        let device = Device::from(&gpu);
        // On a GPU a timestamp makes the next step wait, some 8 us on an H200.
        let input = Shape::new(if gpu.adapter().software { 1 } else { 64 }, 3, 224, 224);
        // Other load on the machine only adds time: the minimum of each, over as many iterations as they need
        // to agree.
        let (mut steps, mut whole) = (f64::INFINITY, f64::INFINITY);
        let add_up = (0..20).any(|_| {
            let timing = timing(&device, &graph, input, Fuse::None);
            let clock =
                timing.gpu_ms.unwrap_or_else(|| panic!("{}: {:?}", gpu.adapter(), timing.gpu_missing));
            steps = steps.min(timing.steps_ms.expect("steps were timed").min);
            whole = whole.min(clock.min);
            println!("{}: {steps:.3} ms in steps, {whole:.3} ms in all", gpu.adapter());
            (steps / whole - 1.0).abs() <= 0.1
        });
        assert!(add_up, "{}: more than 10% apart", gpu.adapter());
        clocks += 1;
    }
    assert!(clocks > 0, "no adapter has timestamps");
}

#[test]
fn steps_on_the_cpu_are_most_of_the_wall_time() {
    let graph = network("mobilenet_v2@0.35");
    for threads in [1, 2] {
        let cpu = Cpu::new(Some(threads)).unwrap();
        // The minimum of each, as above. The rest of the wall-clock time is the conversion of the picture to
        // the layout of maps.
        let (mut steps, mut wall) = (f64::INFINITY, f64::INFINITY);
        let are_most = (0..20).any(|_| {
            let timing = timing(&(&cpu).into(), &graph, Shape::new(1, 3, 128, 128), Fuse::Auto);
            assert!(timing.gpu_ms.is_none() && timing.stream_ms.is_none());
            steps = steps.min(timing.steps_ms.expect("steps were timed").min);
            wall = wall.min(timing.wall_ms.min);
            println!("{threads} threads: {steps:.3} ms in steps, {wall:.3} ms in all");
            steps <= 1.1 * wall && steps > 0.5 * wall
        });
        assert!(are_most, "{threads} threads: {steps} ms in steps, {wall} ms in all");
    }
}

#[test]
fn needed_multiply_adds_match_the_graph() {
    // Squeeze-excite, maps that are not multiples of the tiles, and a batch.
    let (graph, input) = (network("mobilenet_v3_small@0.25"), Shape::new(2, 3, 75, 75));
    let costs: Cost = graph.costs(&graph.shapes(input).unwrap()).into_iter().sum();
    let sampling = Sampling { warmup: 0, runs: 1, ..SAMPLING };
    let needed = |device: &Device, fuse| {
        let options = Options { fuse, ..Options::default() };
        let timing = time(device, Case { graph: &graph, input, options }, sampling).unwrap();
        assert_eq!(timing.steps.iter().map(|step| step.needed.macs).sum::<u64>(), costs.macs);
        timing.steps
    };
    for gpu in common::own_gpus() {
        let device = Device::from(&gpu);
        let [layers, blocks] = [Fuse::None, Fuse::Block].map(|fuse| needed(&device, fuse));
        assert!(blocks.len() < layers.len());
        // Tiles of fused blocks overlap, and recomputed values are not needed work.
        let done: u64 = blocks.iter().map(|step| step.summary.work.macs).sum();
        assert!(done > costs.macs, "{}: {done}", gpu.adapter());
    }
    needed(&(&Cpu::new(Some(2)).unwrap()).into(), Fuse::None);
}

#[test]
fn library_has_no_clock_that_browsers_lack() {
    let mut folders = vec![std::path::PathBuf::from("src")];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            // `web_time` is the standard library's clock, except in browsers, where that one does not work.
            let from_std = text.split("use std::").skip(1).any(|used| {
                let used = used.split(';').next().unwrap_or_default();
                used.contains("Instant") || used.contains("SystemTime")
            });
            let qualified = text.contains("std::time::Instant") || text.contains("std::time::SystemTime");
            assert!(!from_std && !qualified, "{}: use web_time", path.display());
            read += 1;
        }
    }
    assert!(read > 100);
}
