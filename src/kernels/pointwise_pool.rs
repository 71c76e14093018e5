//! Pointwise convolution and the global average pool behind it: `shaders/pointwise_pool.wgsl`.
//! Its weights are [`pointwise`]'s.

use serde::{Deserialize, Serialize};

use super::{
    ALARM, Crowd, Effort, LANES, Launch, Machine, Shader, Tier,
    pointwise::{self, UNIFORM_BLOCKS},
    pool, spread,
};
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
    /// Turns of the loop over the inputs that it loads for at once.
    pub depth: u32,
}

impl Tile {
    /// Tiles worth choosing from: those that share most loads first.
    pub fn all() -> impl Iterator<Item = Self> {
        let sizes = [8, 7, 4, 2, 1].into_iter();
        sizes.flat_map(|pixels| [8, 4, 2, 1].map(|lanes| Self { pixels, lanes, depth: 1 }))
    }

    /// Those that a machine has registers for, with as many turns at once as there is room for.
    pub fn on(machine: &Machine, inputs: usize) -> impl Iterator<Item = Self> {
        Self::all().filter(|tile| tile.pixels <= machine.sums).map(move |tile| {
            let depth = machine.turns_at_once(tile.pixels, tile.pixels + 4, [inputs; 2]);
            Self { depth: if tile.lanes == 1 { depth.min(UNIFORM_BLOCKS) } else { depth }, ..tile }
        })
    }

    /// Times that a thread takes pixels, of `pixels` of a picture.
    fn turns(self, pixels: usize) -> usize {
        pixels.div_ceil((LANES / self.lanes * self.pixels) as usize)
    }
}

/// What an invocation does, and what a run starts.
pub fn effort(x: Shape, y: Shape, tile: Tile) -> (Effort, Crowd) {
    let (inputs, turns) = (x.quads(), tile.turns(y.h * y.w) as f64);
    let waits = inputs / tile.depth as usize + inputs % tile.depth as usize;
    let each = tile.pixels + 4;
    let product = Effort {
        macs: (4 * inputs as u32 * tile.pixels) as f64,
        ..Effort::of(waits as f64, (inputs as u32 * each) as f64)
    };
    let met = Effort { shared: 1.0 + f64::from(LANES / tile.lanes), barriers: 1.0, ..Effort::of(1.0, 1.0) };
    let crowd = Crowd {
        values: tile.pixels + tile.depth * each,
        memory: 16 * LANES,
        ..Crowd::of(workgroups(y, tile) * LANES as usize)
    };
    ((product + Effort::of(1.0, 1.0)) * turns + met, crowd)
}

fn workgroups(y: Shape, tile: Tile) -> usize {
    y.n * y.quads().div_ceil(tile.lanes as usize)
}

/// One run over `x`, making the means of `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, tile: Tile) -> Launch {
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("DEPTH", tile.depth),
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
        workgroups: spread(workgroups(y, tile)),
        arithmetic: Element::F32,
        tile: format!("{} px x 4 ch a thread, {} ch a workgroup", tile.pixels, 4 * tile.lanes),
    }
}

/// The same in plain loops over NCHW; `y` is the shape between the two.
pub fn reference(conv: &Conv, x: &Tensor, y: Shape) -> Tensor {
    pool::reference(&pointwise::reference(conv, x, y, None))
}
