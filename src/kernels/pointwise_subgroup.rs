//! Pointwise convolution whose weights a subgroup loads together: `shaders/pointwise_subgroup.wgsl`.
//! Its weights and reference are [`pointwise`]'s.

use super::{
    Crowd, Effort, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Subgroup, Tier, Tile,
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
    name: "pointwise_subgroup",
    source: include_str!("../../shaders/pointwise_subgroup.wgsl"),
    reads: pointwise::SHADER.reads,
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Subgroups,
};

/// The fewest lanes of a subgroup that it works with.
pub const LEAST_LANES: u32 = 4;

/// Blocks of weights that a subgroup loads together: two where there are lanes for their eight
/// columns, if they come out even.
fn blocks(tile: Tile, subgroup: Subgroup) -> u32 {
    if subgroup.least >= 8 && tile.quads.is_multiple_of(2) { 2 } else { 1 }
}

/// Tiles worth choosing from. Values pass between lanes as f32, so sums are f32: handing over
/// f16 takes more of Vulkan than subgroups.
pub fn tiles() -> impl Iterator<Item = Tile> {
    pointwise::tiles(Element::F32)
}

/// Threads of a workgroup, all of them along the pixels: whole subgroups, such that the fewest
/// have nothing to do.
fn lanes(tile: Tile, pixels: usize, subgroup: Subgroup) -> u32 {
    let started = |&lanes: &u32| pixels.div_ceil((lanes * tile.pixels) as usize) * lanes as usize;
    let sizes = [super::LANES, 32, 16, 8, 4].into_iter().filter(|&lanes| lanes >= subgroup.most);
    sizes.min_by_key(started).unwrap_or(subgroup.most)
}

/// Threads started for `pixels` x `outputs` quads.
fn threads(tile: Tile, pixels: usize, outputs: usize, subgroup: Subgroup) -> usize {
    let lanes = lanes(tile, pixels, subgroup);
    pixels.div_ceil((lanes * tile.pixels) as usize) * lanes as usize * outputs.div_ceil(tile.quads as usize)
}

/// The kernel, for the planner.
pub struct PointwiseSubgroup;

/// The machine's subgroups.
fn subgroup(machine: &Machine) -> Subgroup {
    machine.subgroup.expect("only where there are subgroups has the kernel tiles")
}

impl LayerKernel for PointwiseSubgroup {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        match (layer.conv(ConvKind::Pointwise), machine.subgroup) {
            (Some(_), Some(_)) => tiles().filter(|tile| tile.sums() <= machine.sums).collect(),
            _ => Vec::new(),
        }
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let inputs = layer.x().quads();
        let mut product = pointwise::loop_of(layer, machine, tile, [inputs; 2]);
        // Of four loads of weights each lane makes its share, and hands it to the others.
        let handed = 4.0 * (inputs as u32 * tile.quads) as f64;
        product.loads -= handed - handed / 4.0 / f64::from(blocks(tile, subgroup(machine)));
        product.broadcasts += handed;
        product + pointwise::ends(layer, tile)
    }

    fn crowd(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Crowd {
        let (pixels, subgroup) = (layer.y.pixels(), subgroup(machine));
        Crowd {
            invocations: threads(tile, pixels, layer.y.quads(), subgroup),
            values: pointwise::values(tile),
            workgroup: lanes(tile, pixels, subgroup),
            memory: 0,
        }
    }

    fn launch(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Launch {
        let conv = layer.wanted(ConvKind::Pointwise);
        launch(conv, layer.x(), layer.y, Extras::of(layer), tile, subgroup(machine))
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        pointwise::gated_reference(layer, maps)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(pointwise::PACKING)
    }
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, extras: Extras, tile: Tile, subgroup: Subgroup) -> Launch {
    let lanes = lanes(tile, y.pixels(), subgroup);
    let count = threads(tile, y.pixels(), y.quads(), subgroup) / lanes as usize;
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("QUADS", tile.quads),
            ("BLOCKS", blocks(tile, subgroup)),
            ("LANES", lanes),
            ("RESIDUAL", extras.residual.into()),
            ("GATED", extras.gate.into()),
            ("MANY_GATES", pointwise::many_gates(y, extras, tile).into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: pointwise::params(x, y),
        workgroups: spread(count),
        arithmetic: Element::F32,
        tile: format!("{tile} a thread, {lanes} threads"),
    }
    .placeable()
}
