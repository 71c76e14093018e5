//! Squeeze-excite's gate applied: `shaders/scale.wgsl`.

use super::{LANES, Launch, Shader, Tier, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "scale",
    source: include_str!("../../shaders/scale.wgsl"),
    reads: &["x", "gate"],
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
        params: vec![
            ("pixels", (x.h * x.w) as u32),
            ("quads", x.quads() as u32),
            ("threads", threads as u32),
        ],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch a thread".into(),
    }
}

/// The same in plain loops over NCHW; `gate` is `[n, c, 1, 1]`.
pub fn reference(x: &Tensor, gate: &Tensor) -> Tensor {
    let pixels = x.dims()[2] * x.dims()[3];
    Tensor::from_fn(x.dims(), |at| x.data()[at] * gate.data()[at / pixels])
}
