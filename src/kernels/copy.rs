//! A benchmark of memory bandwidth and of launches: `shaders/copy.wgsl`. No network needs it; peaks are
//! measured with it.

use super::{Launch, Shader, Tier, WORKGROUP_SIZE, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "copy",
    source: include_str!("../../shaders/copy.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &[],
    tier: Tier::Baseline,
};

/// Returns the launch over `x`.
pub fn launch(x: Shape) -> Launch {
    let invocations = x.pixels() * x.quads();
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![("invocations", invocations as u32)],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch per invocation".into(),
    }
}

/// Computes the reference: a copy.
pub fn reference(x: &Tensor) -> Tensor {
    x.clone()
}
