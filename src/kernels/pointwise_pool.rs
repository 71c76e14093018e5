//! Pointwise convolution and the global average pool behind it: `shaders/pointwise_pool.wgsl`.
//! Its weights are [`pointwise`]'s.

use serde::{Deserialize, Serialize};

use super::{ALARM, LANES, Launch, Machine, REDUCTION, Shader, Tier, pointwise, pool, spread};
use crate::{Shape, Tensor, graph::Conv, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pointwise_pool",
    source: include_str!("../../shaders/pointwise_pool.wgsl"),
    reads: &["x", "weight", "bias"],
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Baseline,
};

/// How a workgroup goes over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tile {
    /// Pixels that a thread takes at a time.
    pub pixels: u32,
    /// Threads along the outputs, in fours of channels; the rest lie along the pixels.
    pub lanes: u32,
}

impl Tile {
    /// Tiles worth choosing from: those that share most loads first.
    pub fn all() -> impl Iterator<Item = Self> {
        [8, 7, 4, 2, 1].into_iter().flat_map(|pixels| [8, 4, 2, 1].map(|lanes| Self { pixels, lanes }))
    }

    /// Times that a thread takes pixels, of `pixels` of a picture.
    fn turns(self, pixels: usize) -> usize {
        pixels.div_ceil((LANES / self.lanes * self.pixels) as usize)
    }
}

/// What an invocation spends.
pub fn cost(x: Shape, y: Shape, machine: &Machine, tile: Tile) -> f64 {
    let turns = tile.turns(y.h * y.w) as f64;
    turns * x.quads() as f64 * machine.product(tile.pixels, 1) + REDUCTION
}

/// One run over `x`, making the means of `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, tile: Tile) -> Launch {
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("LANES_O", tile.lanes),
            ("LANES_P", LANES / tile.lanes),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: vec![
            ALARM,
            ("pictures", y.n as u32),
            ("pixels", (y.h * y.w) as u32),
            ("inputs", x.quads() as u32),
            ("outputs", y.quads() as u32),
        ],
        workgroups: spread(y.n * y.quads().div_ceil(tile.lanes as usize)),
        arithmetic: Element::F32,
        tile: format!("{} px x 4 ch a thread, {} ch a workgroup", tile.pixels, 4 * tile.lanes),
    }
}

/// The same in plain loops over NCHW; `y` is the shape between the two.
pub fn reference(conv: &Conv, x: &Tensor, y: Shape) -> Tensor {
    pool::reference(&pointwise::reference(conv, x, y, None))
}
