//! Pointwise convolution as a matrix product tiled over registers: `shaders/pointwise.wgsl`.

use super::{
    ALARM, Crowd, Effort, Grid, LANES, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier,
    Tile, blocks, scale, spread,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind},
    tensor::Element,
};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pointwise",
    source: include_str!("../../shaders/pointwise.wgsl"),
    reads: &["x", "weight", "bias", "residual", "gate"],
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Baseline,
};

/// Tiles worth choosing from, largest first: many pixels save loads of weights, many quads
/// loads of x. Seven divides every map of a 224x224 picture. Where maps and weights are f16,
/// each comes twice: with f32 sums, and with f16 sums.
pub fn tiles(element: Element) -> impl Iterator<Item = Tile> {
    let arithmetics =
        [Element::F32, Element::F16].into_iter().take(if element == Element::F16 { 2 } else { 1 });
    let sizes = || [8, 7, 4, 2, 1].into_iter().flat_map(|pixels| [4, 3, 2, 1].map(|quads| (pixels, quads)));
    arithmetics.flat_map(move |arithmetic| {
        sizes().map(move |(pixels, quads)| Tile { arithmetic, ..Tile::new(pixels, quads) })
    })
}

/// The most inputs that are added up in f16. With more, V4's networks were more than 1e-2 off.
const MOST_IN_F16: usize = 256;

/// The most blocks of weights at once where all of a workgroup read the same: AMD's compiler has scalar registers for
/// no more.
pub(super) const UNIFORM_BLOCKS: u32 = 4;

/// Tiles across the outputs, and down the pixels.
fn tiled(tile: Tile, pixels: usize, outputs: usize) -> [usize; 2] {
    [outputs.div_ceil(tile.quads as usize), pixels.div_ceil(tile.pixels as usize)]
}

fn grid(tile: Tile, pixels: usize, outputs: usize) -> Grid {
    let [across, down] = tiled(tile, pixels, outputs);
    Grid::new(across, down, 1)
}

/// The kernel, for the planner.
pub struct Pointwise;

impl LayerKernel for Pointwise {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let Some(conv) = layer.conv(ConvKind::Pointwise) else { return Vec::new() };
        // A bias is f32, and must survive what sums are made in.
        let bias = conv.bias.as_ref().map_or(&[][..], |bias| bias.data());
        let exact = |tile: &Tile| tile.arithmetic == Element::F32 || conv.inputs() <= MOST_IN_F16;
        let holds = |tile: &Tile| tile.arithmetic.overflow(bias).is_none() && exact(tile);
        let deep = |tile: Tile| {
            let tile = deepened(tile, [layer.x().quads(); 2], machine);
            match grid(tile, layer.y.pixels(), layer.y.quads()).lanes_o {
                1 => Tile { depth: tile.depth.min((UNIFORM_BLOCKS / tile.quads).max(1)), ..tile },
                _ => tile,
            }
        };
        tiles(machine.element).filter(|tile| tile.sums() <= machine.sums).filter(holds).map(deep).collect()
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        loop_of(layer, machine, tile, [layer.x().quads(); 2]) + ends(layer, tile)
    }

    fn crowd(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Crowd {
        let [across, down] = tiled(tile, layer.y.pixels(), layer.y.quads());
        // Those with nothing to do leave at once, and where waves have few lanes few keep others waiting.
        let useful = across * down;
        let started = grid(tile, layer.y.pixels(), layer.y.quads()).threads();
        let invocations = if machine.on_cpu() { useful } else { started };
        Crowd { invocations, values: values(tile), workgroup: LANES, memory: 0 }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        launch(layer.wanted(ConvKind::Pointwise), layer.x(), layer.y, Extras::of(layer), tile)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        gated_reference(layer, maps)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(PACKING)
    }
}

/// A tile with as many of its turns at once as is best; see [`Machine::turns_at_once`].
pub(super) fn deepened(tile: Tile, turns: [usize; 2], machine: &Machine) -> Tile {
    let depth = machine.turns_at_once(tile.sums(), tile.pixels + 4 * tile.quads, turns);
    Tile { depth, ..tile }
}

/// `vec4` values that an invocation keeps.
pub(super) fn values(tile: Tile) -> u32 {
    tile.sums() + tile.depth * (tile.pixels + 4 * tile.quads)
}

/// The loop over so many of the inputs, of which all invocations have the `fewest` at least.
pub(super) fn loop_of(layer: &Layer, machine: &Machine, tile: Tile, [fewest, inputs]: [usize; 2]) -> Effort {
    let turns = fewest / tile.depth as usize;
    let rest = inputs - turns * tile.depth as usize;
    let rate = if tile.arithmetic == Element::F16 { machine.half_rate } else { 1.0 };
    let gates = match (layer.gated, many_gates(layer.y, Extras::of(layer), tile)) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => tile.pixels,
    };
    let loaded = tile.pixels + 4 * tile.quads;
    Effort {
        macs: (inputs as u32 * 4 * tile.sums()) as f64 / rate,
        ..Effort::of((turns + rest) as f64, (inputs as u32 * (loaded + gates)) as f64)
    }
}

/// What comes before the loop and after it: biases, the residual, the answer.
pub(super) fn ends(layer: &Layer, tile: Tile) -> Effort {
    let residual = if layer.residual() { 1.0 } else { 0.0 };
    Effort::of(1.0 + residual, f64::from(tile.quads) + (1.0 + residual) * f64::from(tile.sums()))
}

/// The reference of every kernel for pointwise layers.
pub(super) fn gated_reference(layer: &Layer, maps: Maps) -> Tensor {
    let scaled = maps.gate.map(|gate| scale::reference(maps.x, gate));
    let x = scaled.as_ref().unwrap_or(maps.x);
    reference(layer.wanted(ConvKind::Pointwise), x, layer.y, maps.residual)
}

/// The weights as [`blocks`].
pub(crate) const PACKING: Packing = Packing::new(|conv, _| pack(conv));

/// What a pointwise convolution reads besides `x`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// A map to add before the activation.
    pub residual: bool,
    /// Squeeze-excite's gate, to scale `x` by as it is loaded.
    pub gate: bool,
}

impl Extras {
    /// Those of a layer.
    pub(super) fn of(layer: &Layer) -> Self {
        Self { residual: layer.residual(), gate: layer.gated }
    }
}

/// Whether an invocation's pixels may be of several pictures, each of which has a gate of its own.
pub(super) fn many_gates(y: Shape, extras: Extras, tile: Tile) -> bool {
    extras.gate && y.n > 1 && !(y.h * y.w).is_multiple_of(tile.pixels as usize)
}

/// The parameters of every kernel that is a product of pixels by channels.
pub(super) fn params(x: Shape, y: Shape) -> Vec<(&'static str, u32)> {
    vec![
        ALARM,
        ("pixels", y.pixels() as u32),
        ("picture", (y.h * y.w) as u32),
        ("inputs", x.quads() as u32),
        ("outputs", y.quads() as u32),
    ]
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, extras: Extras, tile: Tile) -> Launch {
    let grid = grid(tile, y.pixels(), y.quads());
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("QUADS", tile.quads),
            ("DEPTH", tile.depth),
            ("LANES_O", grid.lanes_o),
            ("LANES_P", grid.lanes_p),
            ("RESIDUAL", extras.residual.into()),
            ("GATED", extras.gate.into()),
            ("MANY_GATES", many_gates(y, extras, tile).into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: params(x, y),
        workgroups: spread(grid.workgroups),
        arithmetic: tile.arithmetic,
        tile: format!("{tile} a thread"),
    }
    .placeable()
}

/// The weights as the kernel reads them.
pub fn pack(conv: &Conv) -> Vec<f32> {
    blocks(&conv.weight)
}

/// The same in plain loops over NCHW.
pub fn reference(conv: &Conv, x: &Tensor, y: Shape, residual: Option<&Tensor>) -> Tensor {
    let inputs = conv.inputs();
    let pixels = y.h * y.w;
    super::finish(conv, y, residual, |[n, o, row, column]| {
        (0..inputs)
            .map(|i| {
                let pixel = x.data()[(n * inputs + i) * pixels + row * y.w + column];
                f64::from(pixel) * f64::from(conv.weight.data()[o * inputs + i])
            })
            .sum()
    })
}
