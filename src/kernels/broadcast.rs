//! A benchmark of subgroup broadcasts: `shaders/broadcast.wgsl`. No network needs it; devices are calibrated
//! with it.

use super::{Launch, Shader, Tier, multiply_add::in_rounds};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "broadcast",
    source: include_str!("../../shaders/broadcast.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &[],
    tier: Tier::Subgroups,
};

/// The initial offsets of an invocation's values from its input.
const STARTS: [f64; 4] = [0.0, 1.0, 2.0, 3.0];

/// Broadcasts of a `vec4` per invocation and round.
pub const AT_ONCE: usize = STARTS.len();

/// Returns the launch over `x`.
pub fn launch(x: Shape, rounds: u32) -> Launch {
    in_rounds(&SHADER, x, rounds, Element::F32, format!("{AT_ONCE} values per round"))
}

/// Computes the reference in plain loops, for maps with equal pixels, for which the assignment of invocations
/// to lanes does not matter.
pub fn reference(x: &Tensor, rounds: u32) -> Tensor {
    Tensor::from_fn(x.dims(), |at| {
        let x = f64::from(x.data()[at]);
        let value = |start: f64| (0..rounds).fold(x + start, |value, _| 0.5 * value + x);
        STARTS.into_iter().map(value).sum::<f64>() as f32
    })
}
