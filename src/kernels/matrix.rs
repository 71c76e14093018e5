//! Pointwise and dense convolution on matrix units: `shaders/matrix.wgsl`. Its references are those of
//! [`pointwise`] and [`super::dense`].

use super::{
    Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, MatrixUnits, Packing, Shader, Tier, Tile,
    pointwise::{self, Extras},
    spread, window,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, Window},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "matrix",
    source: include_str!("../../shaders/matrix.wgsl"),
    reads: pointwise::SHADER.reads,
    writes: &["y"],
    textures: &[],
    always_32_bit: &["bias"],
    tier: Tier::Matrices,
};

/// Inputs that a workgroup loads to its memory per step: a multiple of every matrix side.
const TILE_K: u32 = 32;

/// The candidates, largest first. A workgroup's tile has two by two subtiles; `pixels` and `quads` are a
/// subtile's matrices along the pixels and along the outputs.
pub const TILES: [Tile; 4] = [Tile::new(2, 2), Tile::new(2, 1), Tile::new(1, 2), Tile::new(1, 1)];

/// Returns the number of workgroups for `pixels` x `outputs` quads.
fn workgroups(tile: Tile, units: MatrixUnits, pixels: usize, outputs: usize) -> usize {
    let down = pixels.div_ceil((2 * tile.pixels * units.side) as usize);
    down * (4 * outputs).div_ceil((2 * tile.quads * units.side) as usize)
}

/// The kernel as a [`LayerKernel`].
pub struct Matrix;

/// Returns the machine's matrix units.
fn units(machine: &Machine) -> MatrixUnits {
    machine.matrices.expect("the kernel has tiles only where there are matrix units")
}

impl LayerKernel for Matrix {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        match (window::conv(layer), machine.matrices) {
            (Some(_), Some(_)) => TILES.to_vec(),
            _ => Vec::new(),
        }
    }

    /// For every four inputs, an invocation does its portion of the workgroup's loads to workgroup memory, of
    /// the matrix loads from there, and of the products. Subgroups are assumed to have the smallest size.
    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let (side, lanes) =
            (f64::from(units(machine).side), f64::from(units(machine).workgroup_size()) / 4.0);
        let (rows, columns) = (f64::from(tile.pixels), f64::from(tile.quads));
        let loaded = 2.0 * rows * side / (4.0 * lanes);
        let gate = if layer.gated { 1.0 } else { 0.0 };
        let steps = (window::taps(window::expect_conv(layer)) * layer.x().c.div_ceil(TILE_K as usize)) as f64;
        let inputs = steps * f64::from(TILE_K / 4);
        let product = Effort {
            shared: loaded + rows * side / lanes,
            macs: rows * columns * side * side / lanes / machine.matrix_rate,
            ..Effort::of(0.0, (1.0 + gate) * loaded + columns * side / lanes)
        };
        // Weights are loaded directly from their buffer, while the next step's pixels are in flight.
        let step = Effort { barriers: 2.0, ..Effort::of(1.0, 0.0) };
        let epilogue =
            pointwise::epilogue_effort(layer, Tile::new(1, 1)) * (rows * columns * side * side / 4.0 / lanes);
        product * inputs + step * steps + Effort::of(1.0, 0.0) + epilogue
    }

    fn footprint(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Footprint {
        let units = units(machine);
        let workgroup = units.workgroup_size();
        let matrices = 2 * tile.pixels * units.side * TILE_K + 4 * units.side * units.side;
        Footprint {
            invocations: workgroups(tile, units, layer.y.pixels(), layer.y.quads()) * workgroup as usize,
            values: 2 * (tile.accumulators() + tile.pixels + tile.quads) * units.side * units.side
                / workgroup,
            workgroup,
            memory: 4 * matrices,
        }
    }

    fn launch(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Launch {
        let conv = window::expect_conv(layer);
        launch(conv, layer.x(), layer.y, layer.window(conv), Extras::of(layer), units(machine), tile)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        window::reference(layer, maps)
    }

    fn packing(&self, machine: &Machine) -> Option<Packing> {
        Some(Packing { pack, side: units(machine).side })
    }

    fn describe(&self, tile: Tile) -> String {
        format!("{} x {} matrices", tile.pixels, tile.quads)
    }
}

/// Returns the launch that computes `y` from `x`.
pub fn launch(
    conv: &Conv,
    x: Shape,
    y: Shape,
    reach: Window,
    extras: Extras,
    units: MatrixUnits,
    tile: Tile,
) -> Launch {
    let (rows, columns) = (tile.pixels, tile.quads);
    let tiled = [
        ("SIDE", units.side),
        ("WORKGROUP_SIZE", units.workgroup_size()),
        ("ROWS", rows),
        ("COLUMNS", columns),
        ("TILE_K", TILE_K),
    ];
    Launch {
        shader: &SHADER,
        constants: window::constants(conv, extras).into_iter().chain(tiled).collect(),
        params: window::params(x, y, reach),
        workgroups: spread(workgroups(tile, units, y.pixels(), y.quads())),
        arithmetic: Element::F32,
        tile: format!("{} px x {} ch per subtile", rows * units.side, columns * units.side),
    }
    .placeable()
}

/// Packs the weights for the kernel: for each tap, matrices of `side` inputs x `side` outputs, padded with
/// zeros to whole matrices and to a multiple of the inputs that a workgroup loads per step. Columns are
/// contiguous, because on AMD's GPUs each lane holds one column and loads it whole.
pub fn pack(conv: &Conv, side: u32) -> Vec<f32> {
    let side = side as usize;
    let (inputs, outputs, taps) = (conv.inputs(), conv.outputs(), window::taps(conv));
    let across = outputs.next_multiple_of(4).div_ceil(side);
    let of_tap = inputs.next_multiple_of(TILE_K as usize) * across * side;
    let mut packed = vec![0.0; taps * of_tap];
    for (at, &value) in conv.weight.data().iter().enumerate() {
        let (o, i, tap) = (at / taps / inputs, at / taps % inputs, at % taps);
        let matrix = i / side * across + o / side;
        packed[tap * of_tap + (matrix * side + o % side) * side + i % side] = value;
    }
    packed
}
