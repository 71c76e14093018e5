//! Label maps, boxes and feature maps, compared with those of the source libraries.

mod common;

use std::collections::HashMap;

use common::{distance, fixture::Fixture};
use goldcrest::{
    Options, Session, Tensor,
    zoo::{Outputs, Task},
};

/// The fraction of pixels that must have torchvision's label.
const MIN_EQUAL: f64 = 0.999;

#[test]
fn labels_match_torchvision() {
    let devices = common::devices();
    for fixture in Fixture::networks() {
        let network = fixture.open_network();
        if !matches!(network.task, Task::Segment { .. }) {
            continue;
        }
        let cases = fixture.recipe.cases.len();
        for case in 0..cases {
            let input = fixture.input(case);
            let (dims, expected) = fixture.bytes_of(&format!("labels/{case}"));
            // The last picture is the smallest.
            for device in devices.iter().filter(|d| case + 1 == cases || !common::is_repeated(d)) {
                let &[_, _, h, w] = input.dims() else { panic!("not a batch of pictures") };
                let outputs = Outputs::Labels(None);
                let options = Options { size: Some([h, w]), outputs, ..Options::default() };
                let labels = Session::new(device, &network, options).unwrap().run(&input).unwrap();
                assert_eq!(labels.dims()[2..], dims);
                let same = labels.data().iter().zip(&expected).filter(|(a, b)| **a == f32::from(**b));
                let equal = same.count() as f64 / expected.len() as f64;
                println!("{} case {case} on {device}: {:.3}% of labels", fixture.name, 100.0 * equal);
                assert!(equal >= MIN_EQUAL, "{} case {case} on {device}: {equal}", fixture.name);
            }
        }
    }
}

#[test]
fn feature_maps_match_the_library() {
    let devices = common::devices();
    for fixture in Fixture::networks().into_iter().filter(|f| !f.recipe.features.is_empty()) {
        let network = fixture.open_network();
        let named: Vec<_> = network.features.iter().map(|f| (f.module.as_str(), f.stride)).collect();
        let expected: Vec<_> =
            fixture.recipe.features.iter().map(|f| (f.module.as_str(), f.stride)).collect();
        assert_eq!(named, expected, "{}", fixture.name);
        // The values must match the same modules' taps, which `golden.rs` compares with the library.
        let input = fixture.input(fixture.recipe.cases.len() - 1);
        let &[_, _, h, w] = input.dims() else { panic!("not a batch of pictures") };
        for device in &devices {
            let options = Options { size: Some([h, w]), ..Options::default() };
            let mut tapped = Session::new(device, &network, Options { taps: true, ..options }).unwrap();
            tapped.run(&input).unwrap();
            let taps: HashMap<String, Tensor> = tapped.taps().unwrap().into_iter().collect();
            let options = Options { outputs: Outputs::Features, ..options };
            let mut session = Session::new(device, &network, options).unwrap();
            let maps = session.run_all(&input).unwrap();
            for ((map, feature), (name, dims)) in maps.iter().zip(&network.features).zip(session.outputs()) {
                assert_eq!((name, &map.dims()), (&feature.module, &&dims[..]));
                // Average pooling of 2x2 pixels drops an odd last row.
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

/// The tolerances of a score, and of a box edge in pixels.
const SCORE: f32 = 1e-4;
const EDGE: f32 = 0.01;

/// Detections whose scores differ by less than this may be in any order.
const TIE: f32 = 1e-6;

#[test]
fn detections_match_torchvision() {
    let devices = common::devices();
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
                .map(|((class, score), edges)| (class.into(), score, edges))
                .collect();
            let picture = fixture.picture(case);
            counts.push(expected.len());
            for device in &devices {
                let context = format!("{} case {case} on {device}", fixture.name);
                let size = [picture.height(), picture.width()];
                let mut session = Session::for_pictures(device, &network, size, Options::default()).unwrap();
                let found = session.detect(&picture).unwrap();
                assert_eq!(found.len(), expected.len(), "{context}");
                let (mut edge_error, mut score_error) = (0.0f32, 0.0f32);
                for (at, detection) in found.iter().enumerate() {
                    let b = detection.bounds;
                    let largest_error = |edges: &[f32]| {
                        let ours = [b.left, b.top, b.right, b.bottom];
                        ours.iter().zip(edges).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
                    };
                    // At the same position, or at that of a tie.
                    let candidates =
                        expected.iter().enumerate().filter(|(position, (class, score, edges))| {
                            let near = *position == at || (score - expected[at].1).abs() < TIE;
                            near && *class == detection.index && largest_error(edges) <= EDGE
                        });
                    let Some((_, (_, score, edges))) =
                        candidates.min_by_key(|(position, _)| position.abs_diff(at))
                    else {
                        panic!("{context}: {detection:?}, expected {:?}", expected[at]);
                    };
                    edge_error = edge_error.max(largest_error(edges));
                    score_error = score_error.max((score - detection.score).abs());
                }
                println!(
                    "{context}: {} boxes, edges off by {edge_error:.1e} pixels, scores by {score_error:.1e}",
                    found.len()
                );
                assert!(score_error <= SCORE, "{context}: scores are off by {score_error:e}");
            }
        }
    }
    // No detections, some, and the maximum.
    assert!(counts.contains(&0) && counts.contains(&300) && counts.iter().any(|n| (1..300).contains(n)));
}
