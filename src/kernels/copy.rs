//! What moving bytes costs, and a launch: `shaders/copy.wgsl`. No network needs it; peaks are
//! measured with it.

use super::{LANES, Launch, Shader, Tier, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "copy",
    source: include_str!("../../shaders/copy.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &[],
    tier: Tier::Baseline,
};

/// One run over `x`.
pub fn launch(x: Shape) -> Launch {
    let threads = x.pixels() * x.quads();
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES)],
        params: vec![("threads", threads as u32)],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch a thread".into(),
    }
}

/// The same.
pub fn reference(x: &Tensor) -> Tensor {
    x.clone()
}
