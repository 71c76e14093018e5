//! A benchmark of loads from workgroup memory: `shaders/exchange.wgsl`. No network needs it; devices are
//! calibrated with it.

use super::{Launch, Shader, Tier, WORKGROUP_SIZE, multiply_add::in_rounds};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "exchange",
    source: include_str!("../../shaders/exchange.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &[],
    tier: Tier::Baseline,
};

/// `vec4`s that an invocation loads per round.
pub const AT_ONCE: usize = 8;

/// Returns the launch over `x`.
pub fn launch(x: Shape, rounds: u32) -> Launch {
    in_rounds(&SHADER, x, rounds, Element::F32, format!("{AT_ONCE} loads per round"))
}

/// Computes the reference in plain loops, for maps of four channels.
pub fn reference(x: &Tensor, rounds: u32) -> Tensor {
    let &[_, 4, h, w] = x.dims() else { panic!("a probe's map has four channels, not {:?}", x.dims()) };
    let (area, size) = (h * w, WORKGROUP_SIZE as usize);
    let value = |pixel: usize, channel: usize| {
        let (picture, position) = (pixel / area, pixel % area);
        x.data().get((picture * 4 + channel) * area + position).map_or(0.0, |&v| f64::from(v))
    };
    Tensor::from_fn(x.dims(), |at| {
        let (picture, channel, position) = (at / (4 * area), at / area % 4, at % area);
        let pixel = picture * area + position;
        let (first, invocation) = (pixel / size * size, pixel % size);
        let loads = (0..rounds as usize).flat_map(|round| (0..AT_ONCE).map(move |k| invocation + round + k));
        loads.map(|other| value(first + other % size, channel)).sum::<f64>() as f32
    })
}
