//! Pointwise convolution of few pixels, the inputs split over a workgroup's threads:
//! `shaders/pointwise_split.wgsl`. Its weights and its answer are [`super::pointwise`]'s.

use super::{
    Crowd, Effort, LANES, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier, Tile,
    pointwise::{self, Extras},
    spread,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind},
    tensor::Element,
};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pointwise_split",
    source: include_str!("../../shaders/pointwise_split.wgsl"),
    reads: pointwise::SHADER.reads,
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Baseline,
};

/// Tiles worth choosing from, largest first: pixels of an invocation, and how many invocations split the inputs.
pub fn tiles() -> impl Iterator<Item = Tile> {
    [4, 2, 1].into_iter().flat_map(|pixels| {
        [4, 8, 16, 32, 64].into_iter().map(move |split| Tile { split, ..Tile::new(pixels, 1) })
    })
}

/// Invocations along the outputs.
fn lanes_o(tile: Tile) -> u32 {
    LANES / tile.split
}

/// The fewest turns of an invocation, and the most.
fn turns(tile: Tile, inputs: usize) -> [usize; 2] {
    [inputs / tile.split as usize, inputs.div_ceil(tile.split as usize)]
}

/// Workgroups that `y` takes.
fn workgroups(tile: Tile, y: Shape) -> usize {
    y.quads().div_ceil(lanes_o(tile) as usize) * y.pixels().div_ceil(tile.pixels as usize)
}

/// The kernel, for the planner.
pub struct PointwiseSplit;

impl LayerKernel for PointwiseSplit {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        if layer.conv(ConvKind::Pointwise).is_none() {
            return Vec::new();
        }
        let inputs = layer.x().quads();
        // None is without inputs, and none without pixels.
        let used = |tile: &Tile| tile.split as usize <= inputs && tile.pixels as usize <= layer.y.pixels();
        let deep = |tile| pointwise::deepened(tile, turns(tile, inputs), machine);
        tiles().filter(used).map(deep).collect()
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let met = Effort { shared: f64::from(tile.pixels + tile.split), barriers: 1.0, ..Effort::default() };
        pointwise::loop_of(layer, machine, tile, turns(tile, layer.x().quads()))
            + met
            + pointwise::ends(layer, tile)
    }

    fn crowd(&self, layer: &Layer, _: &Machine, tile: Tile) -> Crowd {
        Crowd {
            invocations: workgroups(tile, layer.y) * LANES as usize,
            values: pointwise::values(tile),
            workgroup: LANES,
            memory: 16 * LANES * tile.pixels,
        }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        launch(layer.wanted(ConvKind::Pointwise), layer.x(), layer.y, Extras::of(layer), tile)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        pointwise::gated_reference(layer, maps)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(pointwise::PACKING)
    }
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, extras: Extras, tile: Tile) -> Launch {
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("DEPTH", tile.depth),
            ("LANES_O", lanes_o(tile)),
            ("LANES_I", tile.split),
            ("RESIDUAL", extras.residual.into()),
            ("GATED", extras.gate.into()),
            ("MANY_GATES", pointwise::many_gates(y, extras, tile).into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: pointwise::params(x, y),
        workgroups: spread(workgroups(tile, y)),
        arithmetic: Element::F32,
        tile: tile.to_string(),
    }
    .placeable()
}
