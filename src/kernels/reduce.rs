//! The sum of a split projection's partial sums: `shaders/reduce.wgsl`.

use super::{ALARM, Effort, Launch, Shader, Tier, WORKGROUP_SIZE, spread};
use crate::{Shape, Tensor, graph::Conv, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "reduce",
    source: include_str!("../../shaders/reduce.wgsl"),
    reads: &["x", "bias", "residual"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x", "bias"],
    tier: Tier::Baseline,
};

/// Returns the launch that adds up `splits` partial sums of `y` and applies the epilogue of `conv`.
pub fn launch(conv: &Conv, y: Shape, splits: usize, residual: bool) -> Launch {
    let invocations = y.pixels() * y.quads();
    Launch {
        shader: &SHADER,
        constants: vec![
            ("WORKGROUP_SIZE", WORKGROUP_SIZE),
            ("SPLITS", splits as u32),
            ("RESIDUAL", residual.into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: vec![ALARM, ("outputs", y.quads() as u32), ("invocations", invocations as u32)],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: format!("{splits} partial sums of 1 px x 4 ch per invocation"),
    }
    .placeable()
}

/// Returns the effort of an invocation.
pub fn effort(splits: u32) -> Effort {
    Effort::of(1.0, f64::from(splits + 2))
}

/// Computes the reference in plain loops over NCHW, from `sums`: `[splits x pictures, c, h, w]`.
pub fn reference(conv: &Conv, sums: &Tensor, y: Shape, residual: Option<&Tensor>) -> Tensor {
    let len = y.len();
    super::finish(conv, y, residual, |[n, c, row, column]| {
        let at = ((n * y.c + c) * y.h + row) * y.w + column;
        sums.data().iter().skip(at).step_by(len).map(|&sum| f64::from(sum)).sum()
    })
}
