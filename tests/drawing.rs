//! The kernels whose results stay on the device for drawing, compared with their references on random sizes.

mod common;

use common::cases::{dispatch, noise, on_device, on_every_adapter};
use goldcrest::{
    Shape, Tensor,
    kernels::{
        mask,
        rank::{self, BoxInstance},
        suppress::{self, Suppression},
    },
    tensor::layout,
};
use proptest::prelude::*;

/// Candidates with few distinct scores and overlapping boxes, some of them not finite.
fn crowded(classes: usize, pairs: usize, anchors: usize, n: usize, seed: u64) -> [Tensor; 2] {
    let scores = noise([n, 4, classes, pairs], seed);
    let plane = classes * pairs;
    let candidates = Tensor::from_fn(scores.dims(), |i| {
        let value = scores.data()[i];
        match (i / plane % 2, (value * 16.0).round()) {
            (1, _) => (value.abs() * 1e4).round() % anchors as f32,
            (_, 16.0) => f32::NAN,
            (_, -16.0) => f32::INFINITY,
            (_, sixteenths) => sixteenths.max(0.0) / 16.0,
        }
    });
    let corners = noise([n, 4, 1, anchors], seed ^ 1);
    let boxes = Tensor::from_fn(corners.dims(), |i| {
        let coordinate = |i: usize| (corners.data()[i].abs() * 40.0).round();
        match i / anchors % 4 {
            _ if corners.data()[i].abs() > 0.995 => f32::NAN,
            0 | 1 => coordinate(i),
            _ => coordinate(i - 2 * anchors) + coordinate(i) / 2.0,
        }
    });
    [candidates, boxes]
}

#[test]
fn suppress_matches_its_reference() {
    let sizes = (1..3usize, 1..5usize, prop_oneof![1..20usize, 30..200usize], 1..300usize, any::<u64>());
    let suppression =
        (0..12usize, 0..12usize, 0..80usize).prop_map(|(min_score, overlap, most)| Suppression {
            min_score: min_score as f32 / 16.0,
            // Between the ratios of integers as small as these.
            overlap: (overlap as f64 + 0.4321) / 12.0,
            most,
        });
    on_every_adapter((sizes, suppression), |gpu, element, &((n, classes, pairs, anchors, seed), how)| {
        let [candidates, boxes] = crowded(classes, pairs, anchors, n, seed);
        let x = candidates.shape().unwrap();
        let expected = suppress::reference(&candidates, &boxes, how);
        let launch = suppress::launch(x, anchors, how);
        let reads = [&on_device(&candidates)[..], &on_device(&boxes)];
        let out = dispatch(gpu, &launch, element, &reads, layout::len(x))?;
        prop_assert_eq!(layout::from_device(x, &out), expected);
        Ok(())
    });
}

#[test]
fn rank_matches_its_reference() {
    let sizes = (1..7usize, 1..80usize, 1..300usize, 1..90usize, any::<u64>());
    on_every_adapter(sizes, |gpu, element, &(classes, pairs, anchors, most, seed)| {
        let [candidates, boxes] = crowded(classes, pairs, anchors, 1, seed);
        let how = Suppression { min_score: 0.1, overlap: 0.4321, most: 70 };
        let kept = suppress::reference(&candidates, &boxes, how);
        // Powers of two, so that scaling is exact.
        let size = [64, 128];
        let most = most.min(2 * pairs * classes);
        let expected = rank::reference(&kept, &boxes, size, most);
        let launch = rank::launch(kept.shape().unwrap(), size, most, 6);
        let reads = [&on_device(&kept)[..], &on_device(&boxes)];
        let out = gpu.dispatch(&launch, element, &reads, &[8 * most, 4]);
        let out = out.map_err(|e| TestCaseError::fail(e.to_string()))?;
        let found: &[BoxInstance] = bytemuck::cast_slice(&out[0]);
        prop_assert_eq!(&found[..expected.len()], &expected[..]);
        prop_assert!(found[expected.len()..].iter().all(|unused| *unused == BoxInstance::default()));
        let draw: Vec<u32> = out[1].iter().map(|word| word.to_bits()).collect();
        prop_assert_eq!(draw, [6, expected.len() as u32, 0, 0]);
        Ok(())
    });
}

#[test]
fn mask_matches_its_reference() {
    let sizes = (1..40usize, 1..40usize, 1..40usize, 1..600usize, any::<u64>());
    on_every_adapter(sizes, |gpu, element, &(h, w, rows, columns, seed)| {
        let x = Shape::new(1, 1, h, w);
        let noise = noise([1, 1, h, w], seed);
        let class = |i: usize| (noise.data()[i].abs() * 255.0) as u8;
        let classes: Vec<u8> = (0..h * w).map(class).collect();
        let words = mask::pack(&classes, w);
        let row = mask::row_bytes(columns);
        let launch = mask::launch(x, [rows, columns]);
        let out = dispatch(gpu, &launch, element, &[&words], rows * row / 4)?;
        let out: &[u8] = bytemuck::cast_slice(&out);
        let found: Vec<u8> = out.chunks(row).flat_map(|row| &row[..columns]).copied().collect();
        prop_assert_eq!(found, mask::reference(&classes, x, [rows, columns]));
        Ok(())
    });
}
