//! The demo's networks on scenes that they were not trained on: their accuracy in Goldcrest matches
//! PyTorch's, and all devices agree. `--nocapture` shows the figures.

mod common;

use std::{fs, ops::Range};

use goldcrest::{
    Device, Options, Result, Session, Tensor,
    checkpoint::Checkpoint,
    cpu::Cpu,
    demo::{self, Drawing, Scene, Shape},
    quantize::{self, DEFAULT_MAX_NOISE},
    tasks::{Bounds, Detection, preprocess},
    zoo::{Network, Task},
};

/// The quality file that `scripts/train_demo.py` writes next to a network.
struct Quality {
    json: serde_json::Value,
    seeds: Range<u64>,
    side: usize,
}

impl Quality {
    fn open(name: &str) -> Self {
        let text = fs::read_to_string(format!("assets/demo/{name}/quality.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let seed = |i: usize| json["seeds"][i].as_u64().unwrap();
        let side = json["size"].as_u64().unwrap() as usize;
        Self { seeds: seed(0)..seed(1), side, json }
    }

    fn scenes(&self) -> impl Iterator<Item = Drawing> {
        self.seeds.clone().map(|seed| Scene::new(seed).draw(self.side, self.side).unwrap())
    }

    /// Checks a figure against its lower bound, and against PyTorch's within 0.005.
    #[track_caller]
    fn check(&self, key: &str, found: f64, least: f64) {
        let torch = self.json[key].as_f64().unwrap();
        println!("{key}: {found:.4}, PyTorch {torch:.4}, at least {least}");
        assert!(found >= least && (found - torch).abs() <= 0.005, "{key}: {found}, PyTorch {torch}");
    }
}

/// A session of one of the networks, for scenes of its input size.
fn session(device: &Device, network: Result<Network>) -> Session {
    let network = network.unwrap();
    Session::for_pictures(device, &network, network.input, Options::default()).unwrap()
}

fn cpu() -> Device {
    Device::Cpu(Cpu::new(None).unwrap())
}

/// The network in int8, with ranges from scenes that are not evaluated.
fn int8(network: &Network) -> Network {
    let [h, w] = network.input;
    let input = |seed| {
        let scene = Scene::new(seed).draw(w, h).unwrap();
        preprocess(&scene.picture, &network.preprocessing).unwrap()
    };
    let inputs: Vec<Tensor> = (7_000..7_064).map(input).collect();
    let cpu = Cpu::new(None).unwrap();
    let quantized = quantize::quantize(&cpu, network, &inputs, DEFAULT_MAX_NOISE, |_| {}).unwrap();
    let bytes = quantized.encode(network).unwrap();
    let checkpoint = Checkpoint::from_bytes("eight.safetensors", bytes, None, None).unwrap();
    Network::from_checkpoint(&checkpoint, None).unwrap()
}

#[test]
fn classifier_matches_pytorchs_accuracy() {
    let quality = Quality::open("classify");
    let accuracy = |network: Network| {
        let mut session = session(&cpu(), Ok(network));
        let correct = quality.scenes().filter(|scene| {
            let best = &session.classify(&scene.picture, 1).unwrap()[0];
            best.label.as_deref() == Some(scene.subject.name())
        });
        correct.count() as f64 / quality.seeds.clone().count() as f64
    };
    let network = demo::classifier().unwrap();
    let exact = accuracy(network.clone());
    quality.check("top1", exact, 0.97);
    check_int8("top1", accuracy(int8(&network)), exact, 0.005);
}

#[test]
fn segmenter_matches_pytorchs_iou() {
    let quality = Quality::open("segment");
    const CLASSES: usize = 1 + Shape::ALL.len();
    let mean_iou = |network: Network| {
        let mut session = session(&cpu(), Ok(network));
        let mut confusion = [[0u64; CLASSES]; CLASSES];
        for scene in quality.scenes() {
            let found = session.segment(&scene.picture).unwrap();
            for (&wanted, &found) in scene.classes.labels().iter().zip(found.labels()) {
                confusion[usize::from(wanted)][usize::from(found)] += 1;
            }
        }
        let iou = |class: usize| {
            let wanted: u64 = confusion[class].iter().sum();
            let found: u64 = confusion.iter().map(|row| row[class]).sum();
            let both = confusion[class][class];
            both as f64 / (wanted + found - both) as f64
        };
        (0..CLASSES).map(iou).sum::<f64>() / CLASSES as f64
    };
    let network = demo::segmenter().unwrap();
    let exact = mean_iou(network.clone());
    quality.check("mean_iou", exact, 0.80);
    check_int8("mean_iou", mean_iou(int8(&network)), exact, 0.01);
}

#[test]
fn detector_matches_pytorchs_precision() {
    let quality = Quality::open("detect");
    let scenes: Vec<Drawing> = quality.scenes().collect();
    let map50 = |network: Network| {
        let mut session = session(&cpu(), Ok(network));
        let found: Vec<Vec<Detection>> =
            scenes.iter().map(|scene| session.detect(&scene.picture).unwrap()).collect();
        let precision = Shape::ALL.map(|shape| average_precision(shape, &scenes, &found));
        precision.iter().sum::<f64>() / precision.len() as f64
    };
    let network = demo::detector().unwrap();
    let exact = map50(network.clone());
    quality.check("map50", exact, 0.75);
    check_int8("map50", map50(int8(&network)), exact, 0.01);
}

/// Checks that an int8 network's figure is at most `within` below that in f32.
#[track_caller]
fn check_int8(key: &str, found: f64, exact: f64, within: f64) {
    println!("{key} in int8: {found:.4}, in f32: {exact:.4}");
    assert!(found >= exact - within, "{key} in int8: {found}, in f32: {exact}");
}

/// The average precision: the area under the precision-recall curve, made monotone. A box is correct if its
/// IoU with a scene's box is at least 0.5, and no box with a higher score has taken that one.
fn average_precision(shape: Shape, scenes: &[Drawing], found: &[Vec<Detection>]) -> f64 {
    let wanted = |picture: usize| -> Vec<Bounds> {
        let seen = scenes[picture].seen.iter().filter(|seen| seen.shape == shape);
        seen.map(|seen| seen.bounds).collect()
    };
    let mut unmatched: Vec<Vec<Bounds>> = (0..scenes.len()).map(wanted).collect();
    let all: usize = unmatched.iter().map(Vec::len).sum();
    let pictures = found.iter().enumerate();
    let mut ranked: Vec<(usize, &Detection)> =
        pictures.flat_map(|(picture, found)| found.iter().map(move |found| (picture, found))).collect();
    ranked.retain(|(_, detection)| detection.index == shape.class());
    ranked.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score));
    let mut correct = 0;
    let mut curve = Vec::new();
    for (i, (picture, detection)) in ranked.into_iter().enumerate() {
        let free = &mut unmatched[picture];
        let overlaps = free.iter().map(|bounds| bounds.iou(&detection.bounds)).enumerate();
        let best = overlaps.max_by(|(_, a), (_, b)| a.total_cmp(b)).filter(|(_, iou)| *iou >= 0.5);
        if let Some((at, _)) = best {
            free.swap_remove(at);
            correct += 1;
            curve.push(f64::from(correct) / (i + 1) as f64);
        }
    }
    let mut most = 0.0f64;
    let monotone = curve.into_iter().rev().map(|precision| {
        most = most.max(precision);
        most
    });
    monotone.sum::<f64>() / all as f64
}

#[test]
fn generated_scenes_match_those_of_training() {
    for name in ["classify", "segment", "detect"] {
        let quality = Quality::open(name);
        let (mut picture, mut mask) = (0, 0);
        for scene in quality.scenes().take(50) {
            picture += scene.picture.pixels().iter().map(|&v| u64::from(v)).sum::<u64>();
            mask += scene.classes.labels().iter().map(|&v| u64::from(v)).sum::<u64>();
        }
        for (part, sum) in [("picture", picture), ("mask", mask)] {
            let expected = quality.json["sums_of_50"][part].as_f64().unwrap();
            // The last bit of a sine may depend on the machine.
            assert!((sum as f64 / expected - 1.0).abs() < 1e-5, "{name}: {part} {sum}, expected {expected}");
        }
    }
}

#[test]
fn scores_match_torchvision() {
    let networks =
        [("classify", demo::classifier()), ("segment", demo::segmenter()), ("detect", demo::detector())];
    for (name, network) in networks {
        let (quality, network) = (Quality::open(name), network.unwrap());
        let input = preprocess(&quality.scenes().next().unwrap().picture, &network.preprocessing).unwrap();
        let expected: Vec<f64> =
            serde_json::from_value(quality.json["scores_of_first"].clone()).expect("a list of numbers");
        let expected = Tensor::new([64], expected.into_iter().map(|v| v as f32).collect::<Vec<_>>()).unwrap();
        for device in common::devices() {
            let mut session = Session::new(&device, &network, Options::default()).unwrap();
            let mut scores = session.run_all(&input).unwrap().remove(0);
            if matches!(network.task, Task::Detect(_)) {
                // The first output is the logits of the boxes.
                scores = common::by_box(&scores, network.classes);
            }
            let scores = scores.data();
            let sampled = (0..64).map(|i| scores[i * scores.len() / 64]).collect::<Vec<_>>();
            let error = common::distance(&Tensor::new([64], sampled).unwrap(), &expected);
            assert!(error <= 3e-5, "{name} on {device}: {error:e}");
        }
    }
}

#[test]
fn all_devices_agree() {
    let evaluate = |device: &Device| {
        let sessions = [demo::classifier(), demo::segmenter(), demo::detector()];
        let [mut classify, mut segment, mut detect] = sessions.map(|network| session(device, network));
        let [small, large] = [&classify, &segment].map(|session| session.input_shape().h);
        let results = (500..506).map(|seed| {
            let draw = |side| Scene::new(seed).draw(side, side).unwrap().picture;
            let (small, large) = (draw(small), draw(large));
            let confident = |found: &Detection| found.score >= 0.5;
            (
                classify.classify(&small, 1).unwrap()[0].index,
                segment.segment(&large).unwrap(),
                detect.detect(&large).unwrap().into_iter().filter(confident).collect::<Vec<_>>(),
            )
        });
        results.collect::<Vec<_>>()
    };
    let expected = evaluate(&cpu());
    for gpu in common::gpus() {
        for (ours, theirs) in evaluate(&Device::from(&gpu)).iter().zip(&expected) {
            assert_eq!(ours.0, theirs.0, "{}", gpu.adapter());
            let pixels = ours.1.labels().iter().zip(theirs.1.labels());
            let different = pixels.filter(|(a, b)| a != b).count();
            assert!(different * 1000 <= theirs.1.labels().len(), "{}: {different} pixels", gpu.adapter());
            assert_eq!(ours.2.len(), theirs.2.len(), "{}", gpu.adapter());
            for (a, b) in ours.2.iter().zip(&theirs.2) {
                assert!(a.index == b.index && a.bounds.iou(&b.bounds) > 0.999, "{a:?}, {b:?}");
            }
        }
    }
}

#[test]
fn weights_are_small() {
    let size = |name: &str| fs::metadata(format!("assets/demo/{name}/model.safetensors")).unwrap().len();
    let all: u64 = ["classify", "segment", "detect"].into_iter().map(size).sum();
    assert!(all <= 6_000_000, "{all} bytes");
}
