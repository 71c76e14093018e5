//! What a value costs that is handed over within a subgroup: `shaders/broadcast.wgsl`. No network needs it; devices
//! are measured with it.

use super::{Launch, Shader, Tier, multiply_add::in_rounds};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "broadcast",
    source: include_str!("../../shaders/broadcast.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &[],
    tier: Tier::Subgroups,
};

/// Where each of a thread's values begins, above its input.
const STARTS: [f64; 4] = [0.0, 1.0, 2.0, 3.0];

/// `vec4`s that an invocation is handed in a round.
pub const AT_ONCE: usize = STARTS.len();

/// One run over `x`.
pub fn launch(x: Shape, rounds: u32) -> Launch {
    in_rounds(&SHADER, x, rounds, Element::F32, format!("{AT_ONCE} values a round"))
}

/// The same in plain loops, over a map whose pixels are alike, so that it is all one how lanes lie in subgroups.
pub fn reference(x: &Tensor, rounds: u32) -> Tensor {
    Tensor::from_fn(x.dims(), |at| {
        let x = f64::from(x.data()[at]);
        let handed = |start: f64| (0..rounds).fold(x + start, |value, _| 0.5 * value + x);
        STARTS.into_iter().map(handed).sum::<f64>() as f32
    })
}
