//! From integers to floating point: `shaders/dequantise.wgsl`.

use super::{LANES, Launch, Shader, Tier, int8::signed, spread};
use crate::{Shape, graph::Affine, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "dequantise",
    source: include_str!("../../shaders/dequantise.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &["x"],
    tier: Tier::Baseline,
};

/// One run over `x`: what [`Affine::value`] says of each integer.
pub fn launch(x: Shape, map: Affine) -> Launch {
    let threads = x.pixels() * x.quads();
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES)],
        params: vec![("threads", threads as u32), ("step", map.scale.to_bits()), ("zero", signed(map.zero))],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch a thread".into(),
    }
}
