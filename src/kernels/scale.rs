//! Squeeze-excite's gate applied: `shaders/scale.wgsl`.

use super::{Effort, LANES, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, spread};
use crate::{Shape, Tensor, graph::Op, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "scale",
    source: include_str!("../../shaders/scale.wgsl"),
    reads: &["x", "gate"],
    writes: &["y"],
    textures: &[],
    sums: &[],
    tier: Tier::Baseline,
};

/// The kernel, for the planner.
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
        Some("squeeze-excite's gate, applied by itself".into())
    }
}

/// One run over `x`.
pub fn launch(x: Shape) -> Launch {
    let threads = x.pixels() * x.quads();
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES)],
        params: vec![
            ("pixels", (x.h * x.w) as u32),
            ("quads", x.quads() as u32),
            ("threads", threads as u32),
        ],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch a thread".into(),
    }
}

/// The same in plain loops over NCHW; `gate` is `[n, c, 1, 1]`.
pub fn reference(x: &Tensor, gate: &Tensor) -> Tensor {
    let pixels = x.dims()[2] * x.dims()[3];
    Tensor::from_fn(x.dims(), |at| x.data()[at] * gate.data()[at / pixels])
}
