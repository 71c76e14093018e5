//! What networks say of pictures, against their libraries: label maps, boxes, feature maps.

mod common;

use std::collections::HashMap;

use common::{distance, fixture::Fixture};
use goldcrest::{
    Options, Session, Tensor,
    zoo::{Answer, Task},
};

/// The share of pixels that must have torchvision's label.
const LABELS: f64 = 0.999;

#[test]
fn labels_are_torchvisions() {
    for fixture in Fixture::networks() {
        let network = fixture.open_network();
        if !matches!(network.task, Task::Segment { .. }) {
            continue;
        }
        for case in 0..fixture.recipe.cases.len() {
            let input = fixture.input(case);
            let (dims, expected) = fixture.bytes_of(&format!("labels/{case}"));
            for device in common::devices() {
                let &[_, _, h, w] = input.dims() else { panic!("not a batch of pictures") };
                let answer = Answer::Labels(None);
                let options = Options { size: Some([h, w]), answer, ..Options::default() };
                let labels = Session::new(&device, &network, options).unwrap().run(&input).unwrap();
                assert_eq!(labels.dims()[2..], dims);
                let same = labels.data().iter().zip(&expected).filter(|(a, b)| **a == f32::from(**b));
                let share = same.count() as f64 / expected.len() as f64;
                println!("{} case {case} on {device}: {:.3}% of labels", fixture.name, 100.0 * share);
                assert!(share >= LABELS, "{} case {case} on {device}: {share}", fixture.name);
            }
        }
    }
}

#[test]
fn features_are_those_that_the_library_takes() {
    for fixture in Fixture::networks().into_iter().filter(|f| !f.recipe.features.is_empty()) {
        let network = fixture.open_network();
        let named: Vec<_> = network.features.iter().map(|f| (f.module.as_str(), f.stride)).collect();
        let expected: Vec<_> =
            fixture.recipe.features.iter().map(|f| (f.module.as_str(), f.stride)).collect();
        assert_eq!(named, expected, "{}", fixture.name);
        // The values are those of the same modules' taps, which are held against the library.
        let input = fixture.input(fixture.recipe.cases.len() - 1);
        let &[_, _, h, w] = input.dims() else { panic!("not a batch of pictures") };
        for device in common::devices() {
            let options = Options { size: Some([h, w]), ..Options::default() };
            let mut whole = Session::new(&device, &network, Options { taps: true, ..options }).unwrap();
            whole.run(&input).unwrap();
            let taps: HashMap<String, Tensor> = whole.taps().unwrap().into_iter().collect();
            let options = Options { answer: Answer::Features, ..options };
            let mut session = Session::new(&device, &network, options).unwrap();
            let maps = session.run_all(&input).unwrap();
            for ((map, feature), (name, dims)) in maps.iter().zip(&network.features).zip(session.outputs()) {
                assert_eq!((name, &map.dims()), (&feature.module, &&dims[..]));
                // The mean of each 2x2 leaves out an odd last row.
                let rows = match fixture.name.contains("_aa_") {
                    true => h.div_ceil(2) / (feature.stride / 2),
                    false => h.div_ceil(feature.stride),
                };
                assert_eq!(map.dims()[2], rows, "{name}");
                let tap = taps.get(network.graph.node(feature.node).output_name());
                let error = distance(map, tap.unwrap_or_else(|| panic!("no tap of {name}")));
                assert!(error <= 1e-5, "{}: {name} on {device}: {error:e}", fixture.name);
            }
        }
    }
}

/// Of a score, and of a side in pixels.
const SCORE: f32 = 1e-4;
const PIXELS: f32 = 0.01;

/// Scores nearer than this may change places.
const TIE: f32 = 1e-6;

#[test]
fn detections_are_torchvisions() {
    let floats = |bytes: Vec<u8>| bytemuck::pod_collect_to_vec::<u8, f32>(&bytes);
    let mut counts = Vec::new();
    for fixture in Fixture::all("networks") {
        let network = fixture.open_network();
        if !matches!(network.task, Task::Detect(_)) {
            continue;
        }
        for case in 0..fixture.recipe.cases.len() {
            let stored = |name: &str| fixture.bytes_of(&format!("{name}/{case}")).1;
            let (boxes, scores) = (floats(stored("boxes")), floats(stored("scores")));
            let expected: Vec<(usize, f32, &[f32])> = stored("classes")
                .into_iter()
                .zip(scores)
                .zip(boxes.chunks_exact(4))
                .map(|((class, score), sides)| (class.into(), score, sides))
                .collect();
            let picture = fixture.picture(case);
            counts.push(expected.len());
            for device in common::devices() {
                let what = format!("{} case {case} on {device}", fixture.name);
                let size = [picture.height(), picture.width()];
                let mut session = Session::for_pictures(&device, &network, size, Options::default()).unwrap();
                let found = session.detect(&picture).unwrap();
                assert_eq!(found.len(), expected.len(), "{what}");
                let (mut apart, mut off) = (0.0f32, 0.0f32);
                for (at, detection) in found.iter().enumerate() {
                    let b = detection.bounds;
                    let worst = |sides: &[f32]| {
                        let ours = [b.left, b.top, b.right, b.bottom];
                        ours.iter().zip(sides).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
                    };
                    // In its place, or among those that could as well be there.
                    let near = expected.iter().enumerate().filter(|(place, (class, score, sides))| {
                        let placed = *place == at || (score - expected[at].1).abs() < TIE;
                        placed && *class == detection.index && worst(sides) <= PIXELS
                    });
                    let Some((_, (_, score, sides))) = near.min_by_key(|(place, _)| place.abs_diff(at))
                    else {
                        panic!("{what}: {detection:?} is not {:?}", expected[at]);
                    };
                    apart = apart.max(worst(sides));
                    off = off.max((score - detection.score).abs());
                }
                println!("{what}: {} boxes, {apart:.1e} pixels and scores {off:.1e} off", found.len());
                assert!(off <= SCORE, "{what}: scores are {off:e} off");
            }
        }
    }
    // None, some, and as many as there may be.
    assert!(counts.contains(&0) && counts.contains(&300) && counts.iter().any(|n| (1..300).contains(n)));
}
