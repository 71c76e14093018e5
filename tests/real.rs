//! torchvision's own weights against torchvision, on photographs: `scripts/make_real.py` asked it. The weights are
//! fetched by `scripts/test`; where they are not, nothing is compared, and that is said.

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
    zoo::{Network, Scores},
};

const NAME: &str = "mobilenet_v2-b0353104";

/// Of a probability in f32.
const TOLERANCE: f32 = 1e-3;

fn weights() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real").join(NAME).with_extension("pth");
    if !path.exists() {
        // Past the capture of a test that passes.
        let told = format!("NOT RUN: torchvision's own weights are not at {}\n", path.display());
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        return None;
    }
    Some(path)
}

#[test]
fn photographs_are_what_torchvision_says_they_are() {
    let Some(weights) = weights() else { return };
    let network = Network::open(&weights).unwrap();
    assert_eq!((network.arch.as_str(), network.scores), ("torchvision/mobilenet_v2", Scores::Softmax));
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
            // Eleven bits are a tenth of that; the order of near ones may then be another.
            match precision {
                Precision::F16 => {
                    assert!(worst <= 10.0 * TOLERANCE && found[0] == order[0], "{name}: {worst}")
                }
                _ => assert!(worst <= TOLERANCE && found == order[..5], "{name}: {worst}, {found:?}"),
            }
        }
    }
}
