//! What loads from workgroup memory cost: `shaders/exchange.wgsl`. No network needs it; devices are measured with it.

use super::{LANES, Launch, Shader, Tier, multiply_add::in_rounds};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "exchange",
    source: include_str!("../../shaders/exchange.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &[],
    tier: Tier::Baseline,
};

/// `vec4`s that an invocation loads in a round.
pub const AT_ONCE: usize = 8;

/// One run over `x`.
pub fn launch(x: Shape, rounds: u32) -> Launch {
    in_rounds(&SHADER, x, rounds, Element::F32, format!("{AT_ONCE} loads a round"))
}

/// The same in plain loops, over a map of four channels.
pub fn reference(x: &Tensor, rounds: u32) -> Tensor {
    let &[_, 4, h, w] = x.dims() else { panic!("a probe's map has four channels, not {:?}", x.dims()) };
    let (area, lanes) = (h * w, LANES as usize);
    let value = |pixel: usize, channel: usize| {
        let (picture, place) = (pixel / area, pixel % area);
        x.data().get((picture * 4 + channel) * area + place).map_or(0.0, |&v| f64::from(v))
    };
    Tensor::from_fn(x.dims(), |at| {
        let (picture, channel, place) = (at / (4 * area), at / area % 4, at % area);
        let pixel = picture * area + place;
        let (first, lane) = (pixel / lanes * lanes, pixel % lanes);
        let neighbours = (0..rounds as usize).flat_map(|round| (0..AT_ONCE).map(move |k| lane + round + k));
        neighbours.map(|neighbour| value(first + neighbour % lanes, channel)).sum::<f64>() as f32
    })
}
