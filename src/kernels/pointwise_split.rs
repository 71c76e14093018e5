//! Pointwise convolution of few pixels, the inputs split over a workgroup's threads:
//! `shaders/pointwise_split.wgsl`. Its weights and its answer are [`super::pointwise`]'s.

use super::{CONV_READS, LANES, Launch, Shader, Tier, spread};
use crate::{Shape, graph::Conv, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pointwise_split",
    source: include_str!("../../shaders/pointwise_split.wgsl"),
    reads: CONV_READS,
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Baseline,
};

/// Threads along the outputs.
const LANES_O: u32 = 4;

/// Threads that split the inputs.
pub const LANES_I: u32 = LANES / LANES_O;

/// Pixels that a thread takes.
fn pixels(y: Shape) -> usize {
    y.pixels().min(4)
}

/// Workgroups that `y` takes.
pub fn workgroups(y: Shape) -> usize {
    y.quads().div_ceil(LANES_O as usize) * y.pixels().div_ceil(pixels(y))
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, residual: bool) -> Launch {
    let pixels = pixels(y) as u32;
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", pixels),
            ("LANES_O", LANES_O),
            ("LANES_I", LANES_I),
            ("RESIDUAL", residual.into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: vec![
            ("pixels", y.pixels() as u32),
            ("inputs", x.quads() as u32),
            ("outputs", y.quads() as u32),
        ],
        workgroups: spread(workgroups(y)),
        arithmetic: Element::F32,
        tile: format!("{pixels} px x 4 ch split over {LANES_I} threads"),
    }
    .placeable()
}
