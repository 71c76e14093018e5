//! Pointwise convolution of few pixels, the inputs split over a workgroup's threads:
//! `shaders/pointwise_split.wgsl`. Its weights and its answer are [`super::pointwise`]'s.

use super::{
    ALARM, CONV_READS, LANES, Launch, Layer, LayerKernel, Machine, Maps, Packing, REDUCTION, Shader, Tier,
    Tile, pointwise, spread,
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
    reads: CONV_READS,
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Baseline,
};

/// Threads along the outputs.
const LANES_O: u32 = 4;

/// Threads that split the inputs.
const LANES_I: u32 = LANES / LANES_O;

/// Pixels that a thread takes.
fn pixels(y: Shape) -> usize {
    y.pixels().min(4)
}

/// Workgroups that `y` takes.
fn workgroups(y: Shape) -> usize {
    y.quads().div_ceil(LANES_O as usize) * y.pixels().div_ceil(pixels(y))
}

/// The kernel, for the planner.
pub struct PointwiseSplit;

impl LayerKernel for PointwiseSplit {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        match layer.conv(ConvKind::Pointwise) {
            Some(_) if !layer.gated => {
                vec![Tile { split: LANES_I, ..Tile::new(pixels(layer.y) as u32, 1) }]
            }
            _ => Vec::new(),
        }
    }

    fn cost(&self, layer: &Layer, machine: &Machine, tile: Tile) -> f64 {
        let share = (layer.x().quads() as f64 / f64::from(tile.split)).ceil();
        share * machine.product(tile.pixels, 1) + REDUCTION
    }

    fn invocations(&self, layer: &Layer, _: &Machine, _: Tile) -> usize {
        workgroups(layer.y) * LANES as usize
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        launch(layer.wanted(ConvKind::Pointwise), layer.x(), layer.y, layer.residual())
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        pointwise::gated_reference(layer, maps)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(pointwise::PACKING)
    }
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, residual: bool) -> Launch {
    let pixels = pixels(y) as u32;
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", pixels),
            ("LANES_O", LANES_O),
            ("LANES_I", LANES_I),
            ("RESIDUAL", residual.into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: vec![
            ALARM,
            ("pixels", y.pixels() as u32),
            ("inputs", x.quads() as u32),
            ("outputs", y.quads() as u32),
        ],
        workgroups: spread(workgroups(y)),
        arithmetic: Element::F32,
        tile: format!("{pixels} px x 4 ch split over {LANES_I} threads"),
    }
    .placeable()
}
