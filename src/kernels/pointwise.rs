//! Pointwise convolution as a matrix product tiled over registers: `shaders/pointwise.wgsl`.

use super::{
    ALARM, Grid, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier, Tile, blocks, scale,
    spread,
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

fn grid(tile: Tile, pixels: usize, outputs: usize) -> Grid {
    Grid::new(outputs.div_ceil(tile.quads as usize), pixels.div_ceil(tile.pixels as usize), 1)
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
        let holds = |tile: &Tile| tile.arithmetic.overflow(bias).is_none();
        tiles(machine.element).filter(|tile| tile.sums() <= machine.sums).filter(holds).collect()
    }

    fn cost(&self, layer: &Layer, machine: &Machine, tile: Tile) -> f64 {
        layer.x().quads() as f64 * (cost(machine, tile) + gate_cost(layer, machine, tile.pixels))
    }

    fn invocations(&self, layer: &Layer, _: &Machine, tile: Tile) -> usize {
        grid(tile, layer.y.pixels(), layer.y.quads()).threads()
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

/// What an invocation spends on four inputs.
pub(super) fn cost(machine: &Machine, tile: Tile) -> f64 {
    let saved = match tile.arithmetic {
        Element::F32 => 0.0,
        Element::F16 => 4.0 * f64::from(tile.sums()) * (1.0 - 1.0 / machine.half_rate),
    };
    machine.product(tile.pixels, tile.quads) - saved
}

/// What it spends besides where so many pixels are scaled as they are loaded.
pub(super) fn gate_cost(layer: &Layer, machine: &Machine, pixels: u32) -> f64 {
    if layer.gated { machine.load * f64::from(pixels) } else { 0.0 }
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
            ("LANES_O", grid.lanes_o),
            ("LANES_P", grid.lanes_p),
            ("RESIDUAL", extras.residual.into()),
            ("GATED", extras.gate.into()),
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
