//! Pointwise convolution of few pixels, with the inputs split over a workgroup's invocations (split-K):
//! `shaders/pointwise_split.wgsl`. Its weights and its reference are [`super::pointwise`]'s.

use super::{
    Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier, Tile,
    WORKGROUP_SIZE,
    pointwise::{self, Extras},
    spread,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "pointwise_split",
    source: include_str!("../../shaders/pointwise_split.wgsl"),
    reads: pointwise::SHADER.reads,
    writes: &["y"],
    textures: &[],
    always_32_bit: &["bias"],
    tier: Tier::Baseline,
};

/// Returns the candidates, largest first: pixels of an invocation, and invocations that split the inputs.
pub fn tiles() -> impl Iterator<Item = Tile> {
    [4, 2, 1].into_iter().flat_map(|pixels| {
        [4, 8, 16, 32, 64].into_iter().map(move |split| Tile { split, ..Tile::new(pixels, 1) })
    })
}

/// Returns the number of invocations of a workgroup along the outputs.
fn workgroup_o(tile: Tile) -> u32 {
    WORKGROUP_SIZE / tile.split
}

/// Returns the minimum and the maximum number of iterations of an invocation.
fn iterations(tile: Tile, inputs: usize) -> [usize; 2] {
    [inputs / tile.split as usize, inputs.div_ceil(tile.split as usize)]
}

/// Returns the number of workgroups for `y`.
fn workgroups(tile: Tile, y: Shape) -> usize {
    y.quads().div_ceil(workgroup_o(tile) as usize) * y.pixels().div_ceil(tile.pixels as usize)
}

/// The kernel as a [`LayerKernel`].
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
        // Every invocation must have inputs and pixels.
        let used = |tile: &Tile| tile.split as usize <= inputs && tile.pixels as usize <= layer.y.pixels();
        let deep = |tile| pointwise::deepened(tile, iterations(tile, inputs), machine);
        tiles().filter(used).map(deep).collect()
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let combine =
            Effort { shared: f64::from(tile.pixels + tile.split), barriers: 1.0, ..Effort::default() };
        pointwise::loop_of(layer, machine, tile, iterations(tile, layer.x().quads()))
            + combine
            + pointwise::epilogue_effort(layer, tile)
    }

    fn footprint(&self, layer: &Layer, _: &Machine, tile: Tile) -> Footprint {
        Footprint {
            invocations: workgroups(tile, layer.y) * WORKGROUP_SIZE as usize,
            values: pointwise::values(tile),
            workgroup: WORKGROUP_SIZE,
            memory: 16 * WORKGROUP_SIZE * tile.pixels,
        }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        launch(layer.expect_conv(ConvKind::Pointwise), layer.x(), layer.y, Extras::of(layer), tile)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        pointwise::gated_reference(layer, maps)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(pointwise::PACKING)
    }
}

/// Returns the launch that computes `y` from `x`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, extras: Extras, tile: Tile) -> Launch {
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("DEPTH", tile.depth),
            ("WORKGROUP_O", workgroup_o(tile)),
            ("WORKGROUP_I", tile.split),
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
