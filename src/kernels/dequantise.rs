//! Dequantisation of int8 maps: `shaders/dequantise.wgsl`.

use super::{Launch, Shader, Tier, WORKGROUP_SIZE, int8::signed, spread};
use crate::{Shape, graph::Affine, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "dequantise",
    source: include_str!("../../shaders/dequantise.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x"],
    tier: Tier::Baseline,
};

/// Returns the launch that computes [`Affine::value`] of each integer of `x`.
pub fn launch(x: Shape, map: Affine) -> Launch {
    let invocations = x.pixels() * x.quads();
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![
            ("invocations", invocations as u32),
            ("scale", map.scale.to_bits()),
            ("zero", signed(map.zero)),
        ],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch per invocation".into(),
    }
}
