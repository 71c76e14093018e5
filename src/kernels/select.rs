//! The best scores of every class: `shaders/select.wgsl`.

use std::cmp::Ordering;

use super::{Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, spread};
use crate::{
    Shape, Tensor,
    graph::{Op, Select},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "select",
    source: include_str!("../../shaders/select.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x", "y"],
    tier: Tier::Baseline,
};

/// The square root of the workgroup size.
const SIDE: u32 = 8;

/// The workgroup size.
pub const WORKGROUP_SIZE: u32 = SIDE * SIDE;

/// Returns the slots per class: two share a pixel.
const fn slots(select: Select) -> usize {
    select.most.next_multiple_of(2)
}

/// Clamps a threshold to +0.0, so that bit order is numeric order: a score of zero never passes.
pub(super) fn threshold(limit: f32) -> f32 {
    if limit > 0.0 { limit } else { 0.0 }
}

/// Returns the operation of a layer that the kernel has tiles for.
fn expect_select(layer: &Layer) -> Select {
    let Op::Select(select) = *layer.op else { unreachable!("the kernel has no tiles for other operations") };
    select
}

/// The kernel as a [`LayerKernel`].
pub struct Selecting;

impl LayerKernel for Selecting {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if matches!(layer.op, Op::Select(_)) { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, layer: &Layer, _: &Machine, _: Tile) -> Effort {
        // One workgroup per class reads its scores at least three times.
        let share = layer.x().c as f64 / f64::from(WORKGROUP_SIZE);
        Effort { shared: 3.0, barriers: 3.0, ..Effort::of(3.0 * share, 3.0 * share) }
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        launch(layer.x(), expect_select(layer))
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        reference(maps.x, expect_select(layer))
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        Some(format!("the best {} of {} per class", expect_select(layer).most, layer.x().c))
    }
}

/// Returns the launch over the scores `x`: `[n, anchors, 1, classes]`.
pub fn launch(x: Shape, select: Select) -> Launch {
    let lists = x.n * (x.w - 1);
    Launch {
        shader: &SHADER,
        constants: vec![("SIDE", SIDE)],
        params: vec![
            ("anchors", x.c as u32),
            ("padded", 4 * x.quads() as u32),
            ("classes", x.w as u32),
            ("threshold", threshold(select.threshold).to_bits()),
            ("most", select.most as u32),
            ("slots", slots(select) as u32),
            ("lists", lists as u32),
        ],
        workgroups: spread(lists),
        arithmetic: Element::F32,
        tile: format!("1 class split over {} invocations", SIDE * SIDE),
    }
}

/// Compares scores: NaN comes first, then the best.
pub fn better(a: f32, b: f32) -> Ordering {
    b.is_nan().cmp(&a.is_nan()).then(b.total_cmp(&a))
}

/// Computes the reference by sorting. Returns `[n, 4, classes - 1, most / 2]`, with `most / 2` rounded up: a
/// pixel holds the score and the anchor of two candidates.
pub fn reference(scores: &Tensor, select: Select) -> Tensor {
    let &[n, anchors, _, classes] = scores.dims() else { unreachable!("a feature map has four dimensions") };
    let (lists, pairs) = (classes - 1, slots(select) / 2);
    candidates([n, lists, pairs], |[picture, list]| {
        let score = |anchor: usize| scores.data()[(picture * anchors + anchor) * classes + list + 1];
        let passes = |&i: &usize| score(i) > threshold(select.threshold) || score(i).is_nan();
        let mut best: Vec<usize> = (0..anchors).filter(passes).collect();
        best.sort_by(|&a, &b| better(score(a), score(b)).then(a.cmp(&b)));
        best.truncate(select.most);
        best.sort_unstable();
        best.into_iter().map(|anchor| [score(anchor), anchor as f32]).collect()
    })
}

/// Packs the scores and anchors that `of` returns for each list of each picture: `[n, 4, lists, pairs]`.
pub(super) fn candidates([n, lists, pairs]: [usize; 3], of: impl Fn([usize; 2]) -> Vec<[f32; 2]>) -> Tensor {
    let mut kept = vec![0.0; n * 4 * lists * pairs];
    for (picture, list) in (0..n).flat_map(|picture| (0..lists).map(move |list| (picture, list))) {
        for (slot, values) in of([picture, list]).into_iter().enumerate() {
            for (part, value) in values.into_iter().enumerate() {
                let channel = slot % 2 * 2 + part;
                kept[((picture * 4 + channel) * lists + list) * pairs + slot / 2] = value;
            }
        }
    }
    Tensor::from_fn([n, 4, lists, pairs], |at| kept[at])
}

/// Returns all slots of one list of packed candidates, including unused ones.
pub(super) fn list(x: &Tensor, [picture, list]: [usize; 2]) -> Vec<[f32; 2]> {
    let &[_, _, lists, pairs] = x.dims() else { unreachable!("candidates have four dimensions") };
    let at = |channel, pair| x.data()[((picture * 4 + channel) * lists + list) * pairs + pair];
    (0..2 * pairs).map(|slot| [0, 1].map(|part| at(slot % 2 * 2 + part, slot / 2))).collect()
}
