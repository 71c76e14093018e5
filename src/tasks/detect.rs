//! Bounding boxes of objects, and non-maximum suppression.

use crate::{Error, Result, Tensor, tasks::Labels, zoo::Detector};

/// A box in fractional pixels from the top left corner of a picture.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bounds {
    /// The left edge.
    pub left: f32,
    /// The top edge.
    pub top: f32,
    /// The right edge.
    pub right: f32,
    /// The bottom edge.
    pub bottom: f32,
}

/// An object found in a picture.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Detection {
    /// Its class: the index in the network's output.
    pub index: usize,
    /// The name of the class, if known.
    pub label: Option<String>,
    /// The confidence of the network, in 0..=1.
    pub score: f32,
    /// Its bounding box.
    pub bounds: Bounds,
}

/// A box that may contain an object of one class, before suppression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The class: the index in the network's output.
    pub class: usize,
    /// The index of the box's anchor, which breaks ties between equal scores.
    pub anchor: usize,
    /// The confidence of the network, in 0..=1.
    pub score: f32,
    /// Its bounding box.
    pub bounds: Bounds,
}

impl Bounds {
    /// The area in pixels; negative if the width or the height is negative.
    pub fn area(&self) -> f32 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    /// The intersection over union: 0 if the boxes do not overlap or are both empty, 1 if they are equal.
    pub fn iou(&self, other: &Self) -> f32 {
        let width = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let height = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        let both = width * height;
        let iou = both / (self.area() + other.area() - both);
        if iou.is_nan() { 0.0 } else { iou }
    }

    /// Scales the box with a picture, by `x` horizontally and `y` vertically.
    pub fn scaled(&self, x: f32, y: f32) -> Self {
        Self { left: self.left * x, top: self.top * y, right: self.right * x, bottom: self.bottom * y }
    }

    /// Clips the box to a picture of `width` x `height` pixels; empty, at an edge, if it is outside.
    pub fn clipped(&self, width: usize, height: usize) -> Self {
        let (width, height) = (width as f32, height as f32);
        Self {
            left: self.left.clamp(0.0, width),
            top: self.top.clamp(0.0, height),
            right: self.right.clamp(0.0, width),
            bottom: self.bottom.clamp(0.0, height),
        }
    }
}

impl Candidate {
    /// Converts a kept candidate to a detection.
    pub fn named(self, labels: &Labels) -> Detection {
        Detection {
            index: self.class,
            label: labels.get(self.class).map(str::to_owned),
            score: self.score,
            bounds: self.bounds,
        }
    }
}

/// The boxes of each picture, the best first, in pixels of the network's input. `candidates` and `boxes` are
/// the outputs of [`Op::Select`](crate::graph::Op::Select) and [`Op::Boxes`](crate::graph::Op::Boxes).
///
/// # Errors
/// [`Error::Output`] if a box or a score is not finite, or the shapes of the two outputs do not match.
pub fn decode_boxes(candidates: &Tensor, boxes: &Tensor, detector: &Detector) -> Result<Vec<Vec<Candidate>>> {
    let (best, all) = (candidates.shape()?, boxes.shape()?);
    if best.n != all.n || best.c != 4 || all.c != 4 {
        return Err(Error::Output(format!("candidates of shape {best} do not match boxes of shape {all}")));
    }
    if let Some(odd) = boxes.data().iter().find(|v| !v.is_finite()) {
        return Err(Error::Output(format!("a box has the coordinate {odd}")));
    }
    let of_picture = |(best_data, corners): (&[f32], &[f32])| {
        let plane = best.h * best.w;
        let mut found = Vec::new();
        for (at, half) in (0..plane).flat_map(|at| [(at, 0), (at, 2)]) {
            let [score, anchor] = [half, half + 1].map(|channel| best_data[channel * plane + at]);
            if !score.is_finite() {
                let class = at / best.w + 1;
                return Err(Error::Output(format!("a box has the score {score} for class {class}")));
            }
            let anchor = anchor as usize;
            if score > 0.0 && anchor < all.w {
                let [left, top, right, bottom] = [0, 1, 2, 3].map(|side| corners[side * all.w + anchor]);
                let bounds = Bounds { left, top, right, bottom };
                // The first class is the background.
                found.push(Candidate { class: at / best.w + 1, anchor, score, bounds });
            }
        }
        Ok(non_max_suppression(found, detector.iou_threshold, detector.max_boxes))
    };
    let pictures = candidates.data().chunks_exact(best.len() / best.n);
    pictures.zip(boxes.data().chunks_exact(all.len() / all.n)).map(of_picture).collect()
}

/// Non-maximum suppression: returns at most `keep` candidates, sorted by descending score. In each class,
/// from the best down, a candidate is dropped if its [`Bounds::iou`] with a kept one exceeds `overlap`.
///
/// Candidates with equal scores are sorted by class and then by anchor. The result matches torchvision's
/// `batched_nms`, which compares an f32 overlap with an f64 threshold: an overlap of 11/20, rounded up in
/// f32, exceeds 0.55. (On a CPU torchvision offsets small numbers of boxes by class, which rounds their
/// coordinates, so an overlap very close to the threshold may compare differently there.)
pub fn non_max_suppression(mut candidates: Vec<Candidate>, overlap: f64, keep: usize) -> Vec<Candidate> {
    let falling = |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score);
    candidates.sort_by(|a, b| {
        a.class.cmp(&b.class).then_with(|| falling(a, b)).then_with(|| a.anchor.cmp(&b.anchor))
    });
    let mut all = Vec::new();
    for class in candidates.chunk_by(|a, b| a.class == b.class) {
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in class {
            // More than `keep` of one class cannot be among the best `keep` of all classes.
            if kept.len() == keep {
                break;
            }
            if !kept.iter().any(|k| f64::from(k.bounds.iou(&candidate.bounds)) > overlap) {
                kept.push(*candidate);
            }
        }
        all.extend(kept);
    }
    // A stable sort keeps equal scores in the order of their classes and anchors.
    all.sort_by(falling);
    all.truncate(keep);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(left: f32, top: f32, right: f32, bottom: f32) -> Bounds {
        Bounds { left, top, right, bottom }
    }

    fn candidate(class: usize, anchor: usize, score: f32, bounds: Bounds) -> Candidate {
        Candidate { class, anchor, score, bounds }
    }

    fn anchors(candidates: &[Candidate]) -> Vec<usize> {
        candidates.iter().map(|c| c.anchor).collect()
    }

    /// Overlapping candidates, many with equal scores.
    fn crowd(seed: u64, count: usize, classes: u64) -> Vec<Candidate> {
        let mut state = seed;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let one = |anchor| {
            let (left, top) = (draw(80) as f32 / 2.0, draw(80) as f32 / 2.0);
            let bounds = bounds(left, top, left + draw(40) as f32 / 2.0, top + draw(40) as f32 / 2.0);
            candidate(draw(classes) as usize, anchor, draw(50) as f32 / 50.0, bounds)
        };
        (0..count).map(one).collect()
    }

    /// The definition of suppression: take the best, drop the candidates that it overlaps, repeat.
    fn naive(mut candidates: Vec<Candidate>, overlap: f64, keep: usize) -> Vec<Candidate> {
        let better = |a: &Candidate, b: &Candidate| {
            (a.score, b.class, b.anchor).partial_cmp(&(b.score, a.class, a.anchor)).unwrap()
        };
        let mut kept = Vec::new();
        while let Some(best) = candidates.iter().copied().max_by(better) {
            candidates.retain(|c| {
                let close = c.class == best.class && f64::from(c.bounds.iou(&best.bounds)) > overlap;
                c.anchor != best.anchor && !close
            });
            kept.push(best);
        }
        kept.truncate(keep);
        kept
    }

    #[test]
    fn suppression_matches_its_definition() {
        for seed in 0..60 {
            for (overlap, keep) in [(0.0, 1000), (0.3, 20), (0.55, 1000), (0.5, 0), (1.0, 1000)] {
                let candidates = crowd(seed, 120, 1 + seed % 5);
                let expected = naive(candidates.clone(), overlap, keep);
                assert_eq!(
                    non_max_suppression(candidates, overlap, keep),
                    expected,
                    "{seed} {overlap} {keep}"
                );
            }
        }
    }

    #[test]
    fn an_overlap_must_exceed_the_limit() {
        let two = |width| {
            vec![
                candidate(1, 0, 0.9, bounds(0.0, 0.0, 20.0, 1.0)),
                candidate(1, 1, 0.8, bounds(0.0, 0.0, width, 1.0)),
            ]
        };
        assert_eq!(anchors(&non_max_suppression(two(10.0), 0.5, 9)), [0, 1]);
        assert_eq!(anchors(&non_max_suppression(two(10.5), 0.5, 9)), [0]);
        // As in torchvision: 11/20 in f32 is above 0.55.
        assert_eq!(anchors(&non_max_suppression(two(11.0), 0.55, 9)), [0]);
    }

    #[test]
    fn classes_do_not_suppress_each_other_and_ties_have_an_order() {
        let here = bounds(1.0, 2.0, 30.0, 40.0);
        let away = here.scaled(9.0, 9.0);
        let all = vec![
            candidate(7, 4, 0.5, here),
            candidate(2, 9, 0.5, away),
            candidate(2, 3, 0.5, here),
            candidate(1, 5, 0.4, here),
            candidate(2, 6, 0.5, here),
        ];
        assert_eq!(anchors(&non_max_suppression(all.clone(), 0.5, 9)), [3, 9, 4, 5]);
        assert_eq!(anchors(&non_max_suppression(all, 0.5, 2)), [3, 9]);
        assert!(non_max_suppression(Vec::new(), 0.5, 9).is_empty());
    }

    #[test]
    fn values_that_are_not_finite_are_harmless() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.5];
        let odd = odd.iter().flat_map(|&a| odd.map(|b| (a, b)));
        let odd = odd.enumerate().map(|(i, (a, b))| candidate(i % 2, i, a, bounds(b, a, a, b)));
        assert!(!non_max_suppression(odd.collect(), 0.5, 9).is_empty());
    }

    #[test]
    fn suppression_of_all_candidates_is_fast() {
        let start = web_time::Instant::now();
        assert_eq!(non_max_suppression(crowd(3, 27_000, 90), 0.55, 300).len(), 300);
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }

    #[test]
    fn iou_of_edge_cases() {
        let unit = bounds(0.0, 0.0, 2.0, 2.0);
        for (other, iou) in [
            (unit, 1.0),
            (bounds(0.0, 0.0, 2.0, 1.0), 0.5),
            (bounds(1.0, 1.0, 3.0, 3.0), 1.0 / 7.0),
            (bounds(2.0, 0.0, 4.0, 2.0), 0.0),
            (bounds(5.0, 5.0, 6.0, 6.0), 0.0),
            (bounds(1.0, 1.0, 1.0, 1.0), 0.0),
        ] {
            assert_eq!((unit.iou(&other), other.iou(&unit)), (iou, iou), "{other:?}");
        }
        let nothing = bounds(1.0, 1.0, 1.0, 1.0);
        assert_eq!(nothing.iou(&nothing), 0.0);
        assert_eq!(unit.iou(&bounds(f32::NAN, 0.0, 1.0, 1.0)), 0.0);
    }

    #[test]
    fn bounds_follow_the_picture() {
        let found = bounds(-5.0, 10.0, 30.0, 90.0);
        assert_eq!(found.scaled(2.0, 0.5), bounds(-10.0, 5.0, 60.0, 45.0));
        assert_eq!(found.clipped(20, 50), bounds(0.0, 10.0, 20.0, 50.0));
        assert_eq!(found.clipped(20, 50).area(), 800.0);
        assert_eq!(bounds(30.0, 0.0, 40.0, 9.0).clipped(20, 50).area(), 0.0);
    }

    #[test]
    fn a_detection_is_named_and_serialised() {
        let kept = candidate(17, 5, 0.75, bounds(1.0, 2.0, 3.5, 4.0));
        assert_eq!(kept.named(&Labels::default()).label, None);
        assert_eq!(
            serde_json::to_value(kept.named(&Labels::coco())).unwrap(),
            serde_json::json!({
                "index": 17, "label": "cat", "score": 0.75,
                "bounds": { "left": 1.0, "top": 2.0, "right": 3.5, "bottom": 4.0 },
            })
        );
    }
}
