//! torchvision's published weights on photographs, compared with torchvision's probabilities from
//! `scripts/make_real.py`. `scripts/test` downloads the weights; without them the test prints that it did not
//! run.

mod common;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use goldcrest::{
    Device, Options, Session,
    checkpoint::{Checkpoint, Source},
    cpu::Cpu,
    session::Precision,
    tasks::Picture,
    zoo::{Network, ScoreKind},
};

const NAME: &str = "mobilenet_v2-b0353104";

/// The tolerance of a probability in f32.
const TOLERANCE: f32 = 1e-3;

fn weights() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real").join(NAME).with_extension("pth");
    if !path.exists() {
        // Bypasses the capture of a passing test's output.
        let message = format!("NOT RUN: torchvision's own weights are not at {}\n", path.display());
        std::io::stderr().write_all(message.as_bytes()).unwrap();
        return None;
    }
    Some(path)
}

#[test]
fn probabilities_match_torchvision() {
    let Some(weights) = weights() else { return };
    let network = Network::open(&weights).unwrap();
    assert_eq!((network.arch.as_str(), network.scores), ("torchvision/mobilenet_v2", ScoreKind::Softmax));
    let resize = network.origins.iter().find(|origin| origin.name == "resize").unwrap();
    assert_eq!((resize.value.as_str(), &resize.from), ("256", &Source::File("name")));
    let expected = Path::new("tests/fixtures/real").join(NAME).with_extension("safetensors");
    let expected = Checkpoint::open_file(expected).unwrap();
    let mut devices = vec![(Device::Cpu(Cpu::new(Some(2)).unwrap()), Precision::F32)];
    for gpu in common::gpus() {
        devices.push((Device::Gpu(gpu.clone()), Precision::F32));
        if gpu.has_f16() {
            devices.push((Device::Gpu(gpu), Precision::F16));
        }
    }
    assert_eq!(expected.keys().count(), fs::read_dir("tests/fixtures/pictures").unwrap().count() - 1);
    for name in expected.keys() {
        let wanted = expected.tensor(name, &[Some(1000)]).unwrap();
        let picture = Picture::open(Path::new("tests/fixtures/pictures").join(name)).unwrap();
        for (device, precision) in &devices {
            let options = Options { precision: *precision, ..Options::default() };
            let size = [picture.height(), picture.width()];
            let mut session = Session::for_pictures(device, &network, size, options).unwrap();
            let classes = session.classify(&picture, 1000).unwrap();
            let off = |class: &goldcrest::tasks::Class| {
                (class.probability.unwrap() - wanted.data()[class.index]).abs()
            };
            let worst = classes.iter().map(off).fold(0.0, f32::max);
            println!("{name} on {device} in {precision:?}: {worst:.1e} off");
            let mut order: Vec<usize> = (0..1000).collect();
            order.sort_by(|&a, &b| wanted.data()[b].total_cmp(&wanted.data()[a]));
            let found: Vec<usize> = classes.iter().take(5).map(|class| class.index).collect();
            // The precision of f16's eleven bits is a tenth of that, and close classes may swap.
            match precision {
                Precision::F16 => {
                    assert!(worst <= 10.0 * TOLERANCE && found[0] == order[0], "{name}: {worst}")
                }
                _ => assert!(worst <= TOLERANCE && found == order[..5], "{name}: {worst}, {found:?}"),
            }
        }
    }
}
