//! A part of a joined map, brought to its steps: `shaders/join_int8.wgsl`.

use super::{
    LANES, Launch, Shader, Tier,
    int8::{self, signed},
    spread,
};
use crate::{Shape, graph::Affine, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "join_int8",
    source: include_str!("../../shaders/join_int8.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &["x", "y"],
    tier: Tier::Baseline,
};

/// One run over `x`, whose integers stand for what `from` says, into a map whose integers stand for what `to` says.
pub fn launch(x: Shape, from: Affine, to: Affine) -> Launch {
    let threads = x.pixels() * x.quads();
    let mut params =
        vec![("threads", threads as u32), ("outputs", x.quads() as u32), ("x_zero", signed(from.zero))];
    params.extend(int8::rescale(f64::from(from.scale) / f64::from(to.scale), to));
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES)],
        params,
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch a thread".into(),
    }
    .placeable()
}
