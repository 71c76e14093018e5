//! Global average pool: `shaders/pool.wgsl`.

use super::{Effort, LANES, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, spread};
use crate::{Shape, Tensor, graph::Op, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pool",
    source: include_str!("../../shaders/pool.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &[],
    tier: Tier::Baseline,
};

/// Threads along the channels; the rest of the workgroup splits the pixels.
const LANES_Q: u32 = 8;

/// Pixels that a thread has on their way at once.
const DEPTH: u32 = 4;

/// The kernel, for the planner.
pub struct Pool;

impl LayerKernel for Pool {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if matches!(layer.op, Op::GlobalPool) && layer.int8.is_none() { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, layer: &Layer, _: &Machine, _: Tile) -> Effort {
        let share = (layer.x().h * layer.x().w).div_ceil((LANES / LANES_Q) as usize) as f64;
        let met = Effort { shared: 1.0 + f64::from(LANES / LANES_Q), barriers: 1.0, ..Effort::default() };
        met + Effort::of((share / f64::from(DEPTH)).ceil(), 1.0 + share)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        launch(layer.x())
    }

    fn reference(&self, _: &Layer, maps: Maps) -> Tensor {
        reference(maps.x)
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        Some(format!("{} pixels to one", layer.x().h * layer.x().w))
    }
}

/// One run over `x`.
pub fn launch(x: Shape) -> Launch {
    let lanes_p = LANES / LANES_Q;
    Launch {
        shader: &SHADER,
        constants: vec![("LANES_Q", LANES_Q), ("LANES_P", lanes_p), ("DEPTH", DEPTH)],
        params: vec![("pictures", x.n as u32), ("pixels", (x.h * x.w) as u32), ("quads", x.quads() as u32)],
        workgroups: spread(x.n * x.quads().div_ceil(LANES_Q as usize)),
        arithmetic: Element::F32,
        tile: format!("4 ch split over {lanes_p} threads"),
    }
}

/// The same in plain loops over NCHW.
pub fn reference(x: &Tensor) -> Tensor {
    let &[n, c, h, w] = x.dims() else { unreachable!("a feature map has four dimensions") };
    Tensor::from_fn([n, c, 1, 1], |at| {
        let channel = &x.data()[at * h * w..(at + 1) * h * w];
        (channel.iter().map(|&v| f64::from(v)).sum::<f64>() / (h * w) as f64) as f32
    })
}
