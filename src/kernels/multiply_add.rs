//! A benchmark of multiply-adds: `shaders/multiply_add.wgsl`. No network needs it; peaks are measured with
//! it.

use super::{Launch, Shader, Tier, WORKGROUP_SIZE, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "multiply_add",
    source: include_str!("../../shaders/multiply_add.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &[],
    tier: Tier::Baseline,
};

/// The initial offsets of an invocation's accumulators from its input.
const STARTS: [f64; 8] = [0.0, 1.0, 2.0, 3.0, -1.0, -2.0, -3.0, -4.0];

/// Returns the launch over `x`, with accumulators of `arithmetic`.
pub fn launch(x: Shape, rounds: u32, arithmetic: Element) -> Launch {
    in_rounds(&SHADER, x, rounds, arithmetic, format!("{} accumulators of 4 ch per invocation", STARTS.len()))
}

/// Returns the launch of a benchmark over `x`, with one invocation per quad and a number of rounds.
pub(super) fn in_rounds(
    shader: &'static Shader,
    x: Shape,
    rounds: u32,
    arithmetic: Element,
    tile: String,
) -> Launch {
    let invocations = x.pixels() * x.quads();
    Launch {
        shader,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![("rounds", rounds), ("invocations", invocations as u32)],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic,
        tile,
    }
}

/// Returns the number of multiply-adds of a launch.
pub fn macs(x: Shape, rounds: u32) -> u64 {
    (4 * STARTS.len() * x.pixels() * x.quads()) as u64 * u64::from(rounds)
}

/// Computes the reference in plain loops.
pub fn reference(x: &Tensor, rounds: u32) -> Tensor {
    let accumulated = |start: f64, x: f64| (0..rounds).fold(start, |sum, _| sum * (0.5 * x) + x);
    Tensor::from_fn(x.dims(), |at| {
        let x = f64::from(x.data()[at]);
        STARTS.iter().map(|start| accumulated(start + x, x)).sum::<f64>() as f32
    })
}
