//! Max pool in int8: `shaders/max_pool_int8.wgsl`.

use super::{
    Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE,
    int8::{self, signed},
    max_pool::{self, MaxPooling},
    spread,
};
use crate::{Tensor, graph::Op, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "max_pool_int8",
    source: include_str!("../../shaders/max_pool_int8.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x", "y"],
    tier: Tier::Baseline,
};

/// The kernel as a [`LayerKernel`].
pub struct MaxPoolInt8;

impl LayerKernel for MaxPoolInt8 {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if int8::maps(layer, |op| matches!(op, Op::MaxPool(_))).is_some() {
            vec![Tile::ONE]
        } else {
            Vec::new()
        }
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        MaxPooling.effort(layer, machine, tile)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        let (maps, to) = int8::expect_maps(layer);
        let from = maps[0];
        let (x, y, (pool, window)) = (layer.x(), layer.y, max_pool::expect_pool(layer));
        let invocations = y.pixels() * y.quads();
        let mut params = vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("top", window.top as u32),
            ("left", window.left as u32),
            ("outputs", y.quads() as u32),
            ("invocations", invocations as u32),
            ("x_zero", signed(from.zero)),
        ];
        params.extend(int8::rescale(f64::from(from.scale) / f64::from(to.scale), to));
        Launch {
            shader: &SHADER,
            constants: vec![
                ("KERNEL", pool.kernel as u32),
                ("STRIDE", pool.stride as u32),
                ("WORKGROUP_SIZE", WORKGROUP_SIZE),
            ],
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
        MaxPooling.purpose(layer)
    }
}
