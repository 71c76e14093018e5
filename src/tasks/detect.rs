//! Boxes around things, and which of many to keep.

use crate::{Error, Result, Tensor, tasks::Labels, zoo::Detector};

/// A box in pixels of a picture, from its top left corner; fractions count.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bounds {
    /// Where it begins from the left.
    pub left: f32,
    /// Where it begins from the top.
    pub top: f32,
    /// Where it ends from the left.
    pub right: f32,
    /// Where it ends from the top.
    pub bottom: f32,
}

/// A thing found in a picture.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Detection {
    /// Its class: its place in the network's output.
    pub index: usize,
    /// The class's name, where one is known.
    pub label: Option<String>,
    /// How sure the network is, in 0..=1.
    pub score: f32,
    /// Where it is.
    pub bounds: Bounds,
}

/// A box that may be a thing of one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The class: its place in the network's output.
    pub class: usize,
    /// The anchor that it came from: decides between equal scores.
    pub anchor: usize,
    /// How sure the network is, in 0..=1.
    pub score: f32,
    /// Where it is.
    pub bounds: Bounds,
}

impl Bounds {
    /// Its area in pixels; negative if it ends before it begins in one direction.
    pub fn area(&self) -> f32 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    /// The area that both cover, of the area that either does: 0 if they are apart or both
    /// empty, 1 if they are equal.
    pub fn iou(&self, other: &Self) -> f32 {
        let width = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let height = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        let both = width * height;
        let iou = both / (self.area() + other.area() - both);
        if iou.is_nan() { 0.0 } else { iou }
    }

    /// The same box of a picture that is `x` times as wide and `y` times as high.
    pub fn scaled(&self, x: f32, y: f32) -> Self {
        Self { left: self.left * x, top: self.top * y, right: self.right * x, bottom: self.bottom * y }
    }

    /// What of it lies in a picture of `width` x `height` pixels; empty, at its edge, if nothing does.
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
    /// What it is once it was kept.
    pub fn named(self, labels: &Labels) -> Detection {
        Detection {
            index: self.class,
            label: labels.get(self.class).map(str::to_owned),
            score: self.score,
            bounds: self.bounds,
        }
    }
}

/// The boxes of each picture, the best first, in pixels of the network's input, from what
/// [`Op::Select`](crate::graph::Op::Select) and [`Op::Boxes`](crate::graph::Op::Boxes) make.
///
/// # Errors
/// [`Error::Output`] if a box or a score is not finite, or the two are not of the same boxes.
pub fn boxes(candidates: &Tensor, boxes: &Tensor, detector: &Detector) -> Result<Vec<Vec<Candidate>>> {
    let (best, all) = (candidates.shape()?, boxes.shape()?);
    if best.n != all.n || best.c != 4 || all.c != 4 {
        return Err(Error::Output(format!("candidates of {best} are not of boxes of {all}")));
    }
    if let Some(odd) = boxes.data().iter().find(|v| !v.is_finite()) {
        return Err(Error::Output(format!("a box is at {odd}")));
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
        Ok(suppress(found, detector.overlap, detector.keep))
    };
    let pictures = candidates.data().chunks_exact(best.len() / best.n);
    pictures.zip(boxes.data().chunks_exact(all.len() / all.n)).map(of_picture).collect()
}

/// The best of many candidates, at most `keep`, by falling score: in each class, from the best
/// down, one is dropped if its [`Bounds::iou`] with one already kept is more than `overlap`.
///
/// Equal scores go by class and then by anchor. The boxes kept are those of torchvision's
/// `batched_nms`, which compares an f32 with a threshold in f64: an overlap of 0.55 is 11/20
/// rounded up in f32, and is more. (On a CPU torchvision shifts few boxes by class first, which
/// rounds their sides: an overlap within that of the threshold may fall on its other side there.)
pub fn suppress(mut candidates: Vec<Candidate>, overlap: f64, keep: usize) -> Vec<Candidate> {
    let falling = |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score);
    candidates.sort_by(|a, b| {
        a.class.cmp(&b.class).then_with(|| falling(a, b)).then_with(|| a.anchor.cmp(&b.anchor))
    });
    let mut all = Vec::new();
    for class in candidates.chunk_by(|a, b| a.class == b.class) {
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in class {
            // More of one class could not be among the best of all.
            if kept.len() == keep {
                break;
            }
            if !kept.iter().any(|k| f64::from(k.bounds.iou(&candidate.bounds)) > overlap) {
                kept.push(*candidate);
            }
        }
        all.extend(kept);
    }
    // A stable sort: equal scores stay in the order of their classes and anchors.
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

    /// Candidates that crowd, many with equal scores.
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

    /// The rule word by word: take the best, strike what it overlaps, again.
    fn slowly(mut candidates: Vec<Candidate>, overlap: f64, keep: usize) -> Vec<Candidate> {
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
    fn the_same_as_the_rule_word_by_word() {
        for seed in 0..60 {
            for (overlap, keep) in [(0.0, 1000), (0.3, 20), (0.55, 1000), (0.5, 0), (1.0, 1000)] {
                let candidates = crowd(seed, 120, 1 + seed % 5);
                let expected = slowly(candidates.clone(), overlap, keep);
                assert_eq!(suppress(candidates, overlap, keep), expected, "{seed} {overlap} {keep}");
            }
        }
    }

    #[test]
    fn an_overlap_must_be_more_than_the_limit() {
        let two = |width| {
            vec![
                candidate(1, 0, 0.9, bounds(0.0, 0.0, 20.0, 1.0)),
                candidate(1, 1, 0.8, bounds(0.0, 0.0, width, 1.0)),
            ]
        };
        assert_eq!(anchors(&suppress(two(10.0), 0.5, 9)), [0, 1]);
        assert_eq!(anchors(&suppress(two(10.5), 0.5, 9)), [0]);
        // As torchvision has it: 11/20 in f32 is above 0.55.
        assert_eq!(anchors(&suppress(two(11.0), 0.55, 9)), [0]);
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
        assert_eq!(anchors(&suppress(all.clone(), 0.5, 9)), [3, 9, 4, 5]);
        assert_eq!(anchors(&suppress(all, 0.5, 2)), [3, 9]);
        assert!(suppress(Vec::new(), 0.5, 9).is_empty());
    }

    #[test]
    fn what_is_not_a_number_does_no_harm() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.5];
        let odd = odd.iter().flat_map(|&a| odd.map(|b| (a, b)));
        let odd = odd.enumerate().map(|(i, (a, b))| candidate(i % 2, i, a, bounds(b, a, a, b)));
        assert!(!suppress(odd.collect(), 0.5, 9).is_empty());
    }

    #[test]
    fn as_many_as_a_detector_makes_take_no_time() {
        let start = web_time::Instant::now();
        assert_eq!(suppress(crowd(3, 27_000, 90), 0.55, 300).len(), 300);
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }

    #[test]
    fn iou_at_its_edges() {
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
