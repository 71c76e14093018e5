//! Pointwise convolution and the global average pool after it: `shaders/pointwise_pool.wgsl`. Its weights are
//! [`pointwise`]'s.

use serde::{Deserialize, Serialize};

use super::{
    ALARM, Effort, Footprint, Launch, Machine, Shader, Tier, WORKGROUP_SIZE,
    pointwise::{self, UNIFORM_BLOCKS},
    pool, spread,
};
use crate::{Shape, Tensor, graph::Conv, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "pointwise_pool",
    source: include_str!("../../shaders/pointwise_pool.wgsl"),
    reads: &["x", "weight", "bias"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["bias"],
    tier: Tier::Baseline,
};

/// A workgroup's iteration over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tile {
    /// Pixels that an invocation processes at a time.
    pub pixels: u32,
    /// Invocations along the outputs, one quad each; the rest lie along the pixels.
    #[serde(rename = "lanes")]
    pub workgroup_o: u32,
    /// Iterations of the loop over the inputs whose loads are in flight together.
    pub depth: u32,
}

impl Tile {
    /// Returns the candidates, those that share the most loads first.
    pub fn all() -> impl Iterator<Item = Self> {
        let sizes = [8, 7, 4, 2, 1].into_iter();
        sizes.flat_map(|pixels| [8, 4, 2, 1].map(|workgroup_o| Self { pixels, workgroup_o, depth: 1 }))
    }

    /// Returns the candidates that a machine has registers for, with the best depth.
    pub fn on(machine: &Machine, inputs: usize) -> impl Iterator<Item = Self> {
        Self::all().filter(|tile| tile.pixels <= machine.accumulators).map(move |tile| {
            let depth = machine.unroll_depth(tile.pixels, tile.pixels + 4, [inputs; 2]);
            Self { depth: if tile.workgroup_o == 1 { depth.min(UNIFORM_BLOCKS) } else { depth }, ..tile }
        })
    }

    /// Returns the number of an invocation's iterations over the `pixels` of a picture.
    fn iterations(self, pixels: usize) -> usize {
        pixels.div_ceil((WORKGROUP_SIZE / self.workgroup_o * self.pixels) as usize)
    }
}

/// Returns the effort of an invocation, and the size and the resources of the dispatch.
pub fn effort(x: Shape, y: Shape, tile: Tile) -> (Effort, Footprint) {
    let (inputs, iterations) = (x.quads(), tile.iterations(y.h * y.w) as f64);
    let waits = inputs / tile.depth as usize + inputs % tile.depth as usize;
    let each = tile.pixels + 4;
    let product = Effort {
        macs: (4 * inputs as u32 * tile.pixels) as f64,
        ..Effort::of(waits as f64, (inputs as u32 * each) as f64)
    };
    let combine = Effort {
        shared: 1.0 + f64::from(WORKGROUP_SIZE / tile.workgroup_o),
        barriers: 1.0,
        ..Effort::of(1.0, 1.0)
    };
    let footprint = Footprint {
        values: tile.pixels + tile.depth * each,
        memory: 16 * WORKGROUP_SIZE,
        ..Footprint::of(workgroups(y, tile) * WORKGROUP_SIZE as usize)
    };
    ((product + Effort::of(1.0, 1.0)) * iterations + combine, footprint)
}

fn workgroups(y: Shape, tile: Tile) -> usize {
    y.n * y.quads().div_ceil(tile.workgroup_o as usize)
}

/// Returns the launch that computes the means of `y` from `x`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, tile: Tile) -> Launch {
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("DEPTH", tile.depth),
            ("WORKGROUP_O", tile.workgroup_o),
            ("WORKGROUP_P", WORKGROUP_SIZE / tile.workgroup_o),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: vec![
            ALARM,
            ("pictures", y.n as u32),
            ("picture_pixels", (y.h * y.w) as u32),
            ("inputs", x.quads() as u32),
            ("outputs", y.quads() as u32),
        ],
        workgroups: spread(workgroups(y, tile)),
        arithmetic: Element::F32,
        tile: format!("{} px x 4 ch per invocation, {} ch per workgroup", tile.pixels, 4 * tile.workgroup_o),
    }
}

/// Computes the reference in plain loops over NCHW; `y` is the shape of the convolution's output.
pub fn reference(conv: &Conv, x: &Tensor, y: Shape) -> Tensor {
    pool::reference(&pointwise::reference(conv, x, y, None))
}
