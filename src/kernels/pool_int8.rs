//! Global average pool in int8: `shaders/pool_int8.wgsl`.

use super::{
    Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile,
    int8::{self, signed},
    pool::Pool,
    spread,
};
use crate::{Tensor, graph::Op, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "pool_int8",
    source: include_str!("../../shaders/pool_int8.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x", "y"],
    tier: Tier::Baseline,
};

/// Pixels whose loads an invocation has in flight together.
const DEPTH: u32 = 8;

/// The candidates: words of a pixel per workgroup, and invocations that split the pixels of each word.
const TILES: [[u32; 2]; 5] = [[8, 8], [4, 16], [2, 32], [8, 32], [2, 128]];

/// The kernel as a [`LayerKernel`].
pub struct PoolInt8;

impl LayerKernel for PoolInt8 {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let is_pool = int8::maps(layer, |op| matches!(op, Op::GlobalPool)).is_some();
        let fits = |tile: &Tile| is_pool && tile.quads * tile.split <= machine.max_workgroup_size;
        TILES.map(|[quads, split]| Tile { split, ..Tile::new(1, quads) }).into_iter().filter(fits).collect()
    }

    fn effort(&self, layer: &Layer, _: &Machine, tile: Tile) -> Effort {
        let share = (layer.x().h * layer.x().w).div_ceil(tile.split as usize) as f64;
        let halves = f64::from(tile.split.ilog2());
        let combine = Effort { shared: 1.0 + 2.0 * halves, barriers: halves, ..Effort::default() };
        combine + Effort::of((share / f64::from(DEPTH)).ceil(), 1.0 + 0.5 * share)
    }

    fn footprint(&self, layer: &Layer, _: &Machine, tile: Tile) -> Footprint {
        let workgroup_size = tile.quads * tile.split;
        let workgroups = layer.x().n * layer.x().quads().div_ceil(tile.quads as usize);
        let (invocations, memory) = (workgroups * workgroup_size as usize, 16 * workgroup_size);
        Footprint { invocations, values: 8, workgroup: workgroup_size, memory }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        let (maps, to) = int8::expect_maps(layer);
        let from = maps[0];
        let x = layer.x();
        let pixels = x.h * x.w;
        let zeros = (pixels as i32).wrapping_mul(from.zero.into());
        let mut params = vec![
            ("pictures", x.n as u32),
            ("picture_pixels", pixels as u32),
            ("quads", x.quads() as u32),
            ("zeros", signed(zeros)),
        ];
        let factor = f64::from(from.scale) / (pixels as f64 * f64::from(to.scale));
        params.extend(int8::rescale(factor, to));
        Launch {
            shader: &SHADER,
            constants: vec![("WORKGROUP_Q", tile.quads), ("WORKGROUP_P", tile.split), ("DEPTH", DEPTH)],
            params,
            workgroups: spread(x.n * x.quads().div_ceil(tile.quads as usize)),
            arithmetic: Element::F32,
            tile: format!("4 ch split over {} invocations", tile.split),
        }
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        int8::reference(layer, maps)
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        Pool.purpose(layer)
    }
}
