//! Pointwise convolution on matrix units: `shaders/pointwise_matrix.wgsl`. Its reference is
//! [`pointwise`]'s.

use serde::{Deserialize, Serialize};

use super::{
    Launch, Shader, Tier,
    pointwise::{self, Extras},
    spread,
};
use crate::{Shape, graph::Conv, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pointwise_matrix",
    source: include_str!("../../shaders/pointwise_matrix.wgsl"),
    reads: pointwise::SHADER.reads,
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Matrices,
};

/// Inputs that a workgroup brings to its memory at once: whole matrices of either side.
const DEEP: u32 = 32;

/// What multiplies small matrices on a device, with f32 sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Rows and columns of a matrix.
    pub side: u32,
    /// Lanes of a subgroup, all subgroups alike.
    pub lanes: u32,
}

/// What a subgroup makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tile {
    /// Matrices along the pixels.
    pub rows: u32,
    /// Matrices along the outputs.
    pub columns: u32,
}

impl Tile {
    /// Tiles worth choosing from, largest first.
    pub const ALL: [Self; 4] = [
        Self { rows: 2, columns: 2 },
        Self { rows: 2, columns: 1 },
        Self { rows: 1, columns: 2 },
        Self { rows: 1, columns: 1 },
    ];

    /// Workgroups for `pixels` x `outputs` quads.
    pub fn workgroups(self, units: Units, pixels: usize, outputs: usize) -> usize {
        let down = pixels.div_ceil((2 * self.rows * units.side) as usize);
        down * (4 * outputs).div_ceil((2 * self.columns * units.side) as usize)
    }
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, extras: Extras, units: Units, tile: Tile) -> Launch {
    let Tile { rows, columns } = tile;
    Launch {
        shader: &SHADER,
        constants: vec![
            ("SIDE", units.side),
            ("LANES", units.lanes),
            ("ROWS", rows),
            ("COLUMNS", columns),
            ("DEEP", DEEP),
            ("RESIDUAL", extras.residual.into()),
            ("GATED", extras.gate.into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: pointwise::params(x, y),
        workgroups: spread(tile.workgroups(units, y.pixels(), y.quads())),
        arithmetic: Element::F32,
        tile: format!("{} px x {} ch a subgroup", rows * units.side, columns * units.side),
    }
    .placeable()
}

/// The weights as the kernel reads them: matrices of `side` inputs x `side` outputs, padded with
/// zeros to whole ones and to as many inputs as a workgroup takes at once.
pub fn pack(conv: &Conv, side: u32) -> Vec<f32> {
    let side = side as usize;
    let (inputs, outputs) = (conv.inputs(), conv.outputs());
    let across = outputs.next_multiple_of(4).div_ceil(side);
    let mut packed = vec![0.0; inputs.next_multiple_of(DEEP as usize) * across * side];
    for (o, of_output) in conv.weight.data().chunks_exact(inputs.max(1)).enumerate() {
        for (i, &value) in of_output.iter().enumerate() {
            let matrix = i / side * across + o / side;
            packed[(matrix * side + i % side) * side + o % side] = value;
        }
    }
    packed
}
