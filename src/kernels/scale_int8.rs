//! Scaling by squeeze-excite's gate in int8: `shaders/scale_int8.wgsl`.

use super::{
    Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE,
    int8::{self, signed},
    scale::Scaling,
    spread,
};
use crate::{Tensor, graph::Op, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "scale_int8",
    source: include_str!("../../shaders/scale_int8.wgsl"),
    reads: &["x", "gate"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x", "gate", "y"],
    tier: Tier::Baseline,
};

/// The kernel as a [`LayerKernel`].
pub struct ScaleInt8;

impl LayerKernel for ScaleInt8 {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if int8::maps(layer, |op| matches!(op, Op::Scale)).is_some() { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        Scaling.effort(layer, machine, tile)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        let (maps, to) = int8::expect_maps(layer);
        let x = layer.x();
        let invocations = x.pixels() * x.quads();
        let mut params = vec![
            ("picture_pixels", (x.h * x.w) as u32),
            ("quads", x.quads() as u32),
            ("invocations", invocations as u32),
            ("x_zero", signed(maps[0].zero)),
            ("gate_zero", signed(maps[1].zero)),
        ];
        let factor = f64::from(maps[0].scale) * f64::from(maps[1].scale) / f64::from(to.scale);
        params.extend(int8::rescale(factor, to));
        Launch {
            shader: &SHADER,
            constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
            params,
            workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
            arithmetic: Element::F32,
            tile: "1 px x 4 ch per invocation".into(),
        }
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        int8::reference(layer, maps)
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        Scaling.purpose(layer)
    }
}
