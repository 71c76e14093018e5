//! Global average pool: `shaders/pool.wgsl`.

use super::{LANES, Launch, Shader, Tier, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pool",
    source: include_str!("../../shaders/pool.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &[],
    tier: Tier::Baseline,
};

/// Threads along the channels; the rest of the workgroup splits the pixels.
const LANES_Q: u32 = 8;

/// One run over `x`.
pub fn launch(x: Shape) -> Launch {
    let lanes_p = LANES / LANES_Q;
    Launch {
        shader: &SHADER,
        constants: vec![("LANES_Q", LANES_Q), ("LANES_P", lanes_p)],
        params: vec![("pictures", x.n as u32), ("pixels", (x.h * x.w) as u32), ("quads", x.quads() as u32)],
        workgroups: spread(x.n * x.quads().div_ceil(LANES_Q as usize)),
        arithmetic: Element::F32,
        tile: format!("4 ch split over {lanes_p} threads"),
    }
}

/// The same in plain loops over NCHW.
pub fn reference(x: &Tensor) -> Tensor {
    let &[n, c, h, w] = x.dims() else { unreachable!("a feature map has four dimensions") };
    Tensor::from_fn([n, c, 1, 1], |at| {
        let channel = &x.data()[at * h * w..(at + 1) * h * w];
        (channel.iter().map(|&v| f64::from(v)).sum::<f64>() / (h * w) as f64) as f32
    })
}
