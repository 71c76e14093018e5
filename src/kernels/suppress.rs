//! Of candidates that overlap too far the best: `shaders/suppress.wgsl`.

use super::{LANES, Launch, Shader, Tier, select, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "suppress",
    source: include_str!("../../shaders/suppress.wgsl"),
    reads: &["x", "bounds"],
    writes: &["y"],
    textures: &[],
    sums: &["x", "bounds", "y"],
    tier: Tier::Baseline,
};

/// The most candidates of a class that it takes: a thread has a bit for each of its own.
pub const MOST: usize = 32 * LANES as usize;

/// What stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suppression {
    /// The score that one has to be above; zero if it is less.
    pub least: f32,
    /// The intersection over union that two of a class may have.
    pub overlap: f64,
    /// How many stay of a class.
    pub most: usize,
}

/// The largest f32 that is no larger: an f32 is above both or neither.
fn floor(limit: f64) -> f32 {
    let near = limit as f32;
    if f64::from(near) > limit { near.next_down() } else { near }
}

/// One run over the candidates `x`, `[n, 4, classes, slots / 2]` as
/// [`select`] leaves them, of so many anchors.
pub fn launch(x: Shape, anchors: usize, suppression: Suppression) -> Launch {
    let lists = x.n * x.h;
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES)],
        params: vec![
            ("slots", 2 * x.w as u32),
            ("classes", x.h as u32),
            ("anchors", anchors as u32),
            ("lists", lists as u32),
            ("least", select::threshold(suppression.least).to_bits()),
            ("overlap", floor(suppression.overlap).to_bits()),
            ("most", suppression.most as u32),
        ],
        workgroups: spread(lists),
        arithmetic: Element::F32,
        tile: format!("1 class split over {LANES} threads"),
    }
}

/// A box of `[n, 4, 1, anchors]`: left, top, right, bottom.
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

/// The same in plain loops: the candidates that stay, by falling score.
pub fn reference(x: &Tensor, boxes: &Tensor, suppression: Suppression) -> Tensor {
    let &[n, _, classes, pairs] = x.dims() else { unreachable!("candidates have four dimensions") };
    select::candidates([n, classes, pairs], |of| {
        let at = |[_, anchor]: [f32; 2]| bounds(boxes, of[0], anchor as usize);
        let mut left = select::list(x, of);
        left.retain(|&slot| slot[0] > select::threshold(suppression.least) && slot[0].is_finite());
        left.retain(|&slot| at(slot).iter().all(|side| side.is_finite()));
        // Stable: equals stay in the order of the slots.
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
            let near = floor(limit);
            assert!(f64::from(near) <= limit && f64::from(near.next_up()) > limit, "{limit}");
        }
    }
}
