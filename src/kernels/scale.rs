//! Scaling by squeeze-excite's gate: `shaders/scale.wgsl`.

use super::{Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE, spread};
use crate::{Shape, Tensor, graph::Op, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "scale",
    source: include_str!("../../shaders/scale.wgsl"),
    reads: &["x", "gate"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &[],
    tier: Tier::Baseline,
};

/// The kernel as a [`LayerKernel`].
pub struct Scaling;

impl LayerKernel for Scaling {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if matches!(layer.op, Op::Scale) && layer.int8.is_none() { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, _: &Layer, _: &Machine, _: Tile) -> Effort {
        Effort::of(2.0, 3.0)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        launch(layer.x())
    }

    fn reference(&self, _: &Layer, maps: Maps) -> Tensor {
        maps.gate.map_or_else(|| maps.x.clone(), |gate| reference(maps.x, gate))
    }

    fn purpose(&self, _: &Layer) -> Option<String> {
        Some("squeeze-excite's gate, applied separately".into())
    }
}

/// Returns the launch over `x`.
pub fn launch(x: Shape) -> Launch {
    let invocations = x.pixels() * x.quads();
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![
            ("picture_pixels", (x.h * x.w) as u32),
            ("quads", x.quads() as u32),
            ("invocations", invocations as u32),
        ],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch per invocation".into(),
    }
}

/// Computes the reference in plain loops over NCHW; `gate` is `[n, c, 1, 1]`.
pub fn reference(x: &Tensor, gate: &Tensor) -> Tensor {
    let pixels = x.dims()[2] * x.dims()[3];
    Tensor::from_fn(x.dims(), |at| x.data()[at] * gate.data()[at / pixels])
}
