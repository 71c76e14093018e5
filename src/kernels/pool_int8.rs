//! Global average pool in integers: `shaders/pool_int8.wgsl`.

use super::{
    Effort, LANES, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile,
    int8::{self, signed},
    pool::{DEPTH, LANES_Q, Pool},
    spread,
};
use crate::{Tensor, graph::Op, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pool_int8",
    source: include_str!("../../shaders/pool_int8.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &["x", "y"],
    tier: Tier::Baseline,
};

/// The kernel, for the planner.
pub struct PoolInt8;

impl LayerKernel for PoolInt8 {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if int8::maps(layer, |op| matches!(op, Op::GlobalPool)).is_some() {
            vec![Tile::ONE]
        } else {
            Vec::new()
        }
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        Pool.effort(layer, machine, tile)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        let (maps, to) = int8::wanted(layer);
        let from = maps[0];
        let (x, lanes_p) = (layer.x(), LANES / LANES_Q);
        let pixels = x.h * x.w;
        let zeros = (pixels as i32).wrapping_mul(from.zero.into());
        let mut params = vec![
            ("pictures", x.n as u32),
            ("pixels", pixels as u32),
            ("quads", x.quads() as u32),
            ("zeros", signed(zeros)),
        ];
        let factor = f64::from(from.scale) / (pixels as f64 * f64::from(to.scale));
        params.extend(int8::rescale(factor, to));
        Launch {
            shader: &SHADER,
            constants: vec![("LANES_Q", LANES_Q), ("LANES_P", lanes_p), ("DEPTH", DEPTH)],
            params,
            workgroups: spread(x.n * x.quads().div_ceil(LANES_Q as usize)),
            arithmetic: Element::F32,
            tile: format!("4 ch split over {lanes_p} threads"),
        }
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        int8::reference(layer, maps)
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        Pool.purpose(layer)
    }
}
