//! Copies a part into an int8 concatenation, rescaled to its scale: `shaders/join_int8.wgsl`.

use super::{
    Launch, Layer, Maps, Shader, Tier, WORKGROUP_SIZE,
    int8::{self, signed},
    spread,
};
use crate::{
    Shape, Tensor,
    graph::{Affine, ConcatAxis, Int8, Op},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "join_int8",
    source: include_str!("../../shaders/join_int8.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x", "y"],
    tier: Tier::Baseline,
};

/// Computes the reference of a whole concatenation in plain loops over NCHW.
///
/// # Panics
/// If the layer is not an int8 concatenation.
pub fn reference(layer: &Layer, parts: &[Tensor]) -> Tensor {
    let (Op::Concat(axis), Some(quantisation)) = (layer.op, &layer.int8) else {
        unreachable!("it is an int8 concatenation")
    };
    let moved = parts.iter().zip(&layer.inputs).zip(&quantisation.inputs).map(|((x, shape), from)| {
        let int8 = Some(Int8 { inputs: vec![*from], ..quantisation.clone() });
        let part = Layer { inputs: vec![*shape], y: *shape, int8, ..layer.clone() };
        (int8::reference(&part, Maps { x, residual: None, gate: None }), *shape)
    });
    let moved: Vec<(Tensor, Shape)> = moved.collect();
    let mut values = Vec::with_capacity(layer.y.len());
    for n in 0..layer.y.n {
        // Along channels one whole part after the other; along pixels, for each channel, the planes of all
        // parts.
        let planes = if *axis == ConcatAxis::Pixels { layer.y.c } else { 1 };
        for plane in 0..planes {
            for (part, shape) in &moved {
                let len = shape.h * shape.w * shape.c / planes;
                values.extend_from_slice(&part.data()[(n * planes + plane) * len..][..len]);
            }
        }
    }
    Tensor::from_fn(<[usize; 4]>::from(layer.y), |at| values[at])
}

/// Returns the launch that rescales `x`, quantised by `from`, to `to`.
pub fn launch(x: Shape, from: Affine, to: Affine) -> Launch {
    let invocations = x.pixels() * x.quads();
    let mut params = vec![
        ("invocations", invocations as u32),
        ("outputs", x.quads() as u32),
        ("x_zero", signed(from.zero)),
    ];
    params.extend(int8::rescale(f64::from(from.scale) / f64::from(to.scale), to));
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params,
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch per invocation".into(),
    }
    .placeable()
}
