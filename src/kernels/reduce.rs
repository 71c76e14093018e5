//! The parts of a split projection added up: `shaders/reduce.wgsl`.

use super::{ALARM, Effort, LANES, Launch, Shader, Tier, spread};
use crate::{Shape, Tensor, graph::Conv, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "reduce",
    source: include_str!("../../shaders/reduce.wgsl"),
    reads: &["x", "bias", "residual"],
    writes: &["y"],
    textures: &[],
    sums: &["x", "bias"],
    tier: Tier::Baseline,
};

/// One run over `splits` parts of `y`, finishing what `conv` began.
pub fn launch(conv: &Conv, y: Shape, splits: usize, residual: bool) -> Launch {
    let threads = y.pixels() * y.quads();
    Launch {
        shader: &SHADER,
        constants: vec![
            ("LANES", LANES),
            ("SPLITS", splits as u32),
            ("RESIDUAL", residual.into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: vec![ALARM, ("outputs", y.quads() as u32), ("threads", threads as u32)],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: format!("{splits} parts of 1 px x 4 ch a thread"),
    }
    .placeable()
}

/// What an invocation does.
pub fn effort(splits: u32) -> Effort {
    Effort::of(1.0, f64::from(splits + 2))
}

/// The same in plain loops over NCHW; the parts are `[splits x pictures, c, h, w]`.
pub fn reference(conv: &Conv, parts: &Tensor, y: Shape, residual: Option<&Tensor>) -> Tensor {
    let len = y.len();
    super::finish(conv, y, residual, |[n, c, row, column]| {
        let at = ((n * y.c + c) * y.h + row) * y.w + column;
        parts.data().iter().skip(at).step_by(len).map(|&part| f64::from(part)).sum()
    })
}
