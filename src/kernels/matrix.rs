//! Pointwise and dense convolution on matrix units: `shaders/matrix.wgsl`. Its references are those of [`pointwise`] and
//! [`super::dense`].

use super::{
    Crowd, Effort, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier, Tile, Units,
    pointwise::{self, Extras},
    spread, window,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, Window},
    tensor::Element,
};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "matrix",
    source: include_str!("../../shaders/matrix.wgsl"),
    reads: pointwise::SHADER.reads,
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Matrices,
};

/// Inputs that a workgroup brings to its memory at once: whole matrices of either side.
const DEEP: u32 = 32;

/// Tiles worth choosing from, largest first: matrices along the pixels, and matrices along the outputs, of a share.
pub const TILES: [Tile; 4] = [Tile::new(2, 2), Tile::new(2, 1), Tile::new(1, 2), Tile::new(1, 1)];

/// Workgroups for `pixels` x `outputs` quads.
fn workgroups(tile: Tile, units: Units, pixels: usize, outputs: usize) -> usize {
    let down = pixels.div_ceil((2 * tile.pixels * units.side) as usize);
    down * (4 * outputs).div_ceil((2 * tile.quads * units.side) as usize)
}

/// The kernel, for the planner.
pub struct Matrix;

/// The machine's matrix units.
fn units(machine: &Machine) -> Units {
    machine.matrices.expect("only where there are units has the kernel tiles")
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

    /// On four inputs an invocation, of a subgroup of the fewest lanes, spends its part of what the workgroup brings to
    /// its memory, of the matrices read from there, and of the products.
    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let (side, lanes) = (f64::from(units(machine).side), f64::from(units(machine).threads()) / 4.0);
        let (rows, columns) = (f64::from(tile.pixels), f64::from(tile.quads));
        let brought = 2.0 * rows * side / (4.0 * lanes);
        let gate = if layer.gated { 1.0 } else { 0.0 };
        let turns = (window::taps(window::wanted(layer)) * layer.x().c.div_ceil(DEEP as usize)) as f64;
        let inputs = turns * f64::from(DEEP / 4);
        let product = Effort {
            shared: brought + rows * side / lanes,
            macs: rows * columns * side * side / lanes / machine.matrix_rate,
            ..Effort::of(0.0, (1.0 + gate) * brought + columns * side / lanes)
        };
        // Weights come straight from their buffer; the next turn's pixels are on their way meanwhile.
        let turn = Effort { barriers: 2.0, ..Effort::of(1.0, 0.0) };
        let ends = pointwise::ends(layer, Tile::new(1, 1)) * (rows * columns * side * side / 4.0 / lanes);
        product * inputs + turn * turns + Effort::of(1.0, 0.0) + ends
    }

    fn crowd(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Crowd {
        let units = units(machine);
        let workgroup = units.threads();
        let matrices = 2 * tile.pixels * units.side * DEEP + 4 * units.side * units.side;
        Crowd {
            invocations: workgroups(tile, units, layer.y.pixels(), layer.y.quads()) * workgroup as usize,
            values: 2 * (tile.sums() + tile.pixels + tile.quads) * units.side * units.side / workgroup,
            workgroup,
            memory: 4 * matrices,
        }
    }

    fn launch(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Launch {
        let conv = window::wanted(layer);
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

/// One run over `x`, making `y`.
pub fn launch(
    conv: &Conv,
    x: Shape,
    y: Shape,
    reach: Window,
    extras: Extras,
    units: Units,
    tile: Tile,
) -> Launch {
    let (rows, columns) = (tile.pixels, tile.quads);
    let tiled = [
        ("SIDE", units.side),
        ("THREADS", units.threads()),
        ("ROWS", rows),
        ("COLUMNS", columns),
        ("DEEP", DEEP),
    ];
    Launch {
        shader: &SHADER,
        constants: window::constants(conv, extras).into_iter().chain(tiled).collect(),
        params: window::params(x, y, reach),
        workgroups: spread(workgroups(tile, units, y.pixels(), y.quads())),
        arithmetic: Element::F32,
        tile: format!("{} px x {} ch a share", rows * units.side, columns * units.side),
    }
    .placeable()
}

/// The weights as the kernel reads them: tap by tap matrices of `side` inputs x `side` outputs, padded with zeros to whole
/// ones and to as many inputs as a workgroup takes at once. Columns lie together: AMD's lanes have one each and load it
/// whole.
pub fn pack(conv: &Conv, side: u32) -> Vec<f32> {
    let side = side as usize;
    let (inputs, outputs, taps) = (conv.inputs(), conv.outputs(), window::taps(conv));
    let across = outputs.next_multiple_of(4).div_ceil(side);
    let of_tap = inputs.next_multiple_of(DEEP as usize) * across * side;
    let mut packed = vec![0.0; taps * of_tap];
    for (at, &value) in conv.weight.data().iter().enumerate() {
        let (o, i, tap) = (at / taps / inputs, at / taps % inputs, at % taps);
        let matrix = i / side * across + o / side;
        packed[tap * of_tap + (matrix * side + o % side) * side + i % side] = value;
    }
    packed
}
