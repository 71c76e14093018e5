//! Non-maximum suppression of candidates: `shaders/suppress.wgsl`.

use super::{Launch, Shader, Tier, WORKGROUP_SIZE, select, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "suppress",
    source: include_str!("../../shaders/suppress.wgsl"),
    reads: &["x", "bounds"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x", "bounds", "y"],
    tier: Tier::Baseline,
};

/// The most candidates per class that it accepts: an invocation has one bit for each of its candidates.
pub const MOST: usize = 32 * WORKGROUP_SIZE as usize;

/// The candidates to keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suppression {
    /// The lowest score that a kept candidate may have. Scores of zero and below never pass, even if
    /// `min_score` is lower.
    pub min_score: f32,
    /// The largest intersection over union of two kept boxes of a class.
    pub overlap: f64,
    /// The most candidates that are kept per class.
    pub most: usize,
}

/// Returns the lowest score that passes, a positive float: unused slots have a score of zero.
fn lowest(min_score: f32) -> f32 {
    select::threshold(min_score).max(f32::from_bits(1))
}

/// Rounds down to f32: an f32 is above the limit exactly if it is above the result.
fn round_down(limit: f64) -> f32 {
    let near = limit as f32;
    if f64::from(near) > limit { near.next_down() } else { near }
}

/// Returns the launch over the candidates `x` from [`select`], two per pixel: `[n, 4, classes, pairs]` without
/// the background's class.
pub fn launch(x: Shape, anchors: usize, suppression: Suppression) -> Launch {
    let lists = x.n * x.h;
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![
            ("slots", 2 * x.w as u32),
            ("classes", x.h as u32),
            ("anchors", anchors as u32),
            ("lists", lists as u32),
            ("min_score", lowest(suppression.min_score).to_bits()),
            ("overlap", round_down(suppression.overlap).to_bits()),
            ("most", suppression.most as u32),
        ],
        workgroups: spread(lists),
        arithmetic: Element::F32,
        tile: format!("1 class split over {WORKGROUP_SIZE} invocations"),
    }
}

/// Returns a box of `[n, 4, 1, anchors]`: left, top, right, bottom.
pub(super) fn bounds(boxes: &Tensor, picture: usize, anchor: usize) -> [f32; 4] {
    let anchors = boxes.dims()[3];
    [0, 1, 2, 3].map(|side| boxes.data()[(picture * 4 + side) * anchors + anchor])
}

fn overlap(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area = |[left, top, right, bottom]: [f32; 4]| (right - left) * (bottom - top);
    let side = |axis: usize| (a[axis + 2].min(b[axis + 2]) - a[axis].max(b[axis])).max(0.0);
    let both = side(0) * side(1);
    if both > 0.0 { both / (area(a) + area(b) - both) } else { 0.0 }
}

/// Computes the reference in plain loops: the kept candidates in descending order of score.
pub fn reference(x: &Tensor, boxes: &Tensor, suppression: Suppression) -> Tensor {
    let &[n, _, classes, pairs] = x.dims() else { unreachable!("candidates have four dimensions") };
    select::candidates([n, classes, pairs], |of| {
        let at = |[_, anchor]: [f32; 2]| bounds(boxes, of[0], anchor as usize);
        let mut left = select::list(x, of);
        left.retain(|&slot| slot[0] >= lowest(suppression.min_score) && slot[0].is_finite());
        left.retain(|&slot| at(slot).iter().all(|side| side.is_finite()));
        // The sort is stable: equal scores keep the order of the slots.
        left.sort_by(|a, b| b[0].total_cmp(&a[0]));
        let mut kept: Vec<[f32; 2]> = Vec::new();
        for slot in left {
            let far = |other: &[f32; 2]| f64::from(overlap(at(*other), at(slot))) <= suppression.overlap;
            if kept.len() < suppression.most && kept.iter().all(far) {
                kept.push(slot);
            }
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_in_f64_is_the_same_in_f32() {
        for limit in [0.0, 0.3, 0.5, 0.55, 0.7, 1.0] {
            let near = round_down(limit);
            assert!(f64::from(near) <= limit && f64::from(near.next_up()) > limit, "{limit}");
        }
    }
}
