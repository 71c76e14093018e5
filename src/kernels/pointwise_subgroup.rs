//! Pointwise convolution whose weights are loaded cooperatively by a subgroup:
//! `shaders/pointwise_subgroup.wgsl`. Its weights and its reference are [`pointwise`]'s.

use super::{
    Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Subgroup, Tier, Tile,
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
    name: "pointwise_subgroup",
    source: include_str!("../../shaders/pointwise_subgroup.wgsl"),
    reads: pointwise::SHADER.reads,
    writes: &["y"],
    textures: &[],
    always_32_bit: &["bias"],
    tier: Tier::Subgroups,
};

/// The smallest subgroup that it works with, in lanes.
pub const LEAST_LANES: u32 = 4;

/// Returns the blocks of weights that a subgroup loads together: two if there are lanes for their eight
/// columns and the tile's number of blocks is even.
fn blocks(tile: Tile, subgroup: Subgroup) -> u32 {
    if subgroup.least >= 8 && tile.quads.is_multiple_of(2) { 2 } else { 1 }
}

/// Returns the candidates. Accumulators are f32, because broadcasts are: broadcasts of f16 need another
/// feature of Vulkan.
pub fn tiles() -> impl Iterator<Item = Tile> {
    pointwise::tiles(Element::F32)
}

/// Returns the workgroup size: whole subgroups along the pixels, such that the fewest invocations idle.
fn workgroup_size(tile: Tile, pixels: usize, subgroup: Subgroup) -> u32 {
    let started = |&size: &u32| pixels.div_ceil((size * tile.pixels) as usize) * size as usize;
    let sizes = [super::WORKGROUP_SIZE, 32, 16, 8, 4].into_iter().filter(|&size| size >= subgroup.most);
    sizes.min_by_key(started).unwrap_or(subgroup.most)
}

/// Returns the number of invocations for `pixels` x `outputs` quads.
fn invocations(tile: Tile, pixels: usize, outputs: usize, subgroup: Subgroup) -> usize {
    let workgroup_size = workgroup_size(tile, pixels, subgroup);
    pixels.div_ceil((workgroup_size * tile.pixels) as usize)
        * workgroup_size as usize
        * outputs.div_ceil(tile.quads as usize)
}

/// The kernel as a [`LayerKernel`].
pub struct PointwiseSubgroup;

/// Returns the machine's subgroups.
fn subgroup(machine: &Machine) -> Subgroup {
    machine.subgroup.expect("the kernel has tiles only where there are subgroups")
}

impl LayerKernel for PointwiseSubgroup {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        match (layer.conv(ConvKind::Pointwise), machine.subgroup) {
            (Some(_), Some(_)) => {
                tiles().filter(|tile| tile.accumulators() <= machine.accumulators).collect()
            }
            _ => Vec::new(),
        }
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let inputs = layer.x().quads();
        let mut product = pointwise::loop_of(layer, machine, tile, [inputs; 2]);
        // A lane loads one column of its subgroup's blocks and gets every column by a broadcast.
        let columns = 4.0 * (inputs as u32 * tile.quads) as f64;
        product.loads -= columns - columns / 4.0 / f64::from(blocks(tile, subgroup(machine)));
        product.broadcasts += columns;
        product + pointwise::epilogue_effort(layer, tile)
    }

    fn footprint(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Footprint {
        let (pixels, subgroup) = (layer.y.pixels(), subgroup(machine));
        Footprint {
            invocations: invocations(tile, pixels, layer.y.quads(), subgroup),
            values: pointwise::values(tile),
            workgroup: workgroup_size(tile, pixels, subgroup),
            memory: 0,
        }
    }

    fn launch(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Launch {
        let conv = layer.expect_conv(ConvKind::Pointwise);
        launch(conv, layer.x(), layer.y, Extras::of(layer), tile, subgroup(machine))
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        pointwise::gated_reference(layer, maps)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(pointwise::PACKING)
    }
}

/// Returns the launch that computes `y` from `x`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, extras: Extras, tile: Tile, subgroup: Subgroup) -> Launch {
    let workgroup_size = workgroup_size(tile, y.pixels(), subgroup);
    let count = invocations(tile, y.pixels(), y.quads(), subgroup) / workgroup_size as usize;
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("QUADS", tile.quads),
            ("BLOCKS", blocks(tile, subgroup)),
            ("WORKGROUP_SIZE", workgroup_size),
            ("RESIDUAL", extras.residual.into()),
            ("GATED", extras.gate.into()),
            ("MANY_GATES", pointwise::many_gates(y, extras, tile).into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: pointwise::params(x, y),
        workgroups: spread(count),
        arithmetic: Element::F32,
        tile: format!("{tile} per invocation, workgroups of {workgroup_size}"),
    }
    .placeable()
}
