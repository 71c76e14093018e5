//! From floating point to integers: `shaders/quantise.wgsl`.

use super::{LANES, Launch, Shader, Tier, int8::signed, spread};
use crate::{Shape, graph::Affine, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "quantise",
    source: include_str!("../../shaders/quantise.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &["y"],
    tier: Tier::Baseline,
};

/// One run over `x`: what [`Affine::quantise`] makes of each value.
pub fn launch(x: Shape, map: Affine) -> Launch {
    let threads = x.pixels() * x.quads();
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES)],
        params: vec![
            ("threads", threads as u32),
            ("steps", (1.0 / map.scale).to_bits()),
            ("zero", signed(map.zero)),
        ],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch a thread".into(),
    }
}
