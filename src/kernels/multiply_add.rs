//! What multiply-adds cost: `shaders/multiply_add.wgsl`. No network needs it; peaks are measured
//! with it.

use super::{LANES, Launch, Shader, Tier, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "multiply_add",
    source: include_str!("../../shaders/multiply_add.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &[],
    tier: Tier::Baseline,
};

/// Where each of a thread's sums begins, above its input.
const STARTS: [f64; 8] = [0.0, 1.0, 2.0, 3.0, -1.0, -2.0, -3.0, -4.0];

/// One run over `x`, in `arithmetic`.
pub fn launch(x: Shape, rounds: u32, arithmetic: Element) -> Launch {
    in_rounds(&SHADER, x, rounds, arithmetic, format!("{} sums of 4 ch a thread", STARTS.len()))
}

/// One run over `x` of a probe whose threads, a quad each, do one thing so many times.
pub(super) fn in_rounds(
    shader: &'static Shader,
    x: Shape,
    rounds: u32,
    arithmetic: Element,
    tile: String,
) -> Launch {
    let threads = x.pixels() * x.quads();
    Launch {
        shader,
        constants: vec![("LANES", LANES)],
        params: vec![("rounds", rounds), ("threads", threads as u32)],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic,
        tile,
    }
}

/// Multiply-adds of a run.
pub fn macs(x: Shape, rounds: u32) -> u64 {
    (4 * STARTS.len() * x.pixels() * x.quads()) as u64 * u64::from(rounds)
}

/// The same in plain loops.
pub fn reference(x: &Tensor, rounds: u32) -> Tensor {
    let moved = |start: f64, x: f64| (0..rounds).fold(start, |sum, _| sum * (0.5 * x) + x);
    Tensor::from_fn(x.dims(), |at| {
        let x = f64::from(x.data()[at]);
        STARTS.iter().map(|start| moved(start + x, x)).sum::<f64>() as f32
    })
}
