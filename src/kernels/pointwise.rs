//! Pointwise convolution as a matrix product tiled over registers: `shaders/pointwise.wgsl`.

use super::{
    ALARM, Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier, Tile,
    TileGrid, WORKGROUP_SIZE, blocks, scale, spread,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "pointwise",
    source: include_str!("../../shaders/pointwise.wgsl"),
    reads: &["x", "weight", "bias", "residual", "gate"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["bias"],
    tier: Tier::Baseline,
};

/// Returns the candidates, largest first: many pixels save loads of weights, many quads save loads of x.
/// Seven pixels divide every map of a 224x224 picture. If maps and weights are f16, each tile comes twice:
/// with f32 and with f16 accumulators.
pub fn tiles(element: Element) -> impl Iterator<Item = Tile> {
    let arithmetics =
        [Element::F32, Element::F16].into_iter().take(if element == Element::F16 { 2 } else { 1 });
    let sizes = || [8, 7, 4, 2, 1].into_iter().flat_map(|pixels| [4, 3, 2, 1].map(|quads| (pixels, quads)));
    arithmetics.flat_map(move |arithmetic| {
        sizes().map(move |(pixels, quads)| Tile { arithmetic, ..Tile::new(pixels, quads) })
    })
}

/// The most inputs that are added up in f16. With more, V4's networks had errors above 1e-2.
const MOST_IN_F16: usize = 256;

/// The most blocks of weights in flight if all invocations of a workgroup read the same ones: AMD's compiler
/// has no scalar registers for more.
pub(super) const UNIFORM_BLOCKS: u32 = 4;

/// Returns the number of tiles across the outputs, and down the pixels.
fn tiled(tile: Tile, pixels: usize, outputs: usize) -> [usize; 2] {
    [outputs.div_ceil(tile.quads as usize), pixels.div_ceil(tile.pixels as usize)]
}

fn grid(tile: Tile, pixels: usize, outputs: usize) -> TileGrid {
    let [across, down] = tiled(tile, pixels, outputs);
    TileGrid::new(across, down, 1)
}

/// The kernel as a [`LayerKernel`].
pub struct Pointwise;

impl LayerKernel for Pointwise {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let Some(conv) = layer.conv(ConvKind::Pointwise) else { return Vec::new() };
        // A bias is f32, and must not overflow the accumulators' type.
        let bias = conv.bias.as_ref().map_or(&[][..], |bias| bias.data());
        let exact = |tile: &Tile| tile.arithmetic == Element::F32 || conv.inputs() <= MOST_IN_F16;
        let holds = |tile: &Tile| tile.arithmetic.overflow(bias).is_none() && exact(tile);
        let deep = |tile: Tile| {
            let tile = deepened(tile, [layer.x().quads(); 2], machine);
            match grid(tile, layer.y.pixels(), layer.y.quads()).workgroup_o {
                1 => Tile { depth: tile.depth.min((UNIFORM_BLOCKS / tile.quads).max(1)), ..tile },
                _ => tile,
            }
        };
        tiles(machine.element)
            .filter(|tile| tile.accumulators() <= machine.accumulators)
            .filter(holds)
            .map(deep)
            .collect()
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        loop_of(layer, machine, tile, [layer.x().quads(); 2]) + epilogue_effort(layer, tile)
    }

    fn footprint(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Footprint {
        let [across, down] = tiled(tile, layer.y.pixels(), layer.y.quads());
        // Idle invocations return early. On the CPU waves are small and most idle invocations fill whole waves, so
        // only busy ones count.
        let useful = across * down;
        let started = grid(tile, layer.y.pixels(), layer.y.quads()).invocations();
        let invocations = if machine.on_cpu() { useful } else { started };
        Footprint { invocations, values: values(tile), workgroup: WORKGROUP_SIZE, memory: 0 }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        launch(layer.expect_conv(ConvKind::Pointwise), layer.x(), layer.y, Extras::of(layer), tile)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        gated_reference(layer, maps)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(PACKING)
    }
}

/// Returns the tile with the best depth; see [`Machine::unroll_depth`].
pub(super) fn deepened(tile: Tile, iterations: [usize; 2], machine: &Machine) -> Tile {
    let depth = machine.unroll_depth(tile.accumulators(), tile.pixels + 4 * tile.quads, iterations);
    Tile { depth, ..tile }
}

/// Returns the `vec4` values that an invocation keeps.
pub(super) fn values(tile: Tile) -> u32 {
    tile.accumulators() + tile.depth * (tile.pixels + 4 * tile.quads)
}

/// Returns the effort of the loop over an invocation's inputs: at least `fewest`, at most `inputs`.
pub(super) fn loop_of(layer: &Layer, machine: &Machine, tile: Tile, [fewest, inputs]: [usize; 2]) -> Effort {
    let iterations = fewest / tile.depth as usize;
    let rest = inputs - iterations * tile.depth as usize;
    let rate = if tile.arithmetic == Element::F16 { machine.half_rate } else { 1.0 };
    let gates = match (layer.gated, many_gates(layer.y, Extras::of(layer), tile)) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => tile.pixels,
    };
    let loaded = tile.pixels + 4 * tile.quads;
    Effort {
        macs: (inputs as u32 * 4 * tile.accumulators()) as f64 / rate,
        ..Effort::of((iterations + rest) as f64, (inputs as u32 * (loaded + gates)) as f64)
    }
}

/// Returns the effort outside the loop: loading the biases and the residual, and storing the outputs.
pub(super) fn epilogue_effort(layer: &Layer, tile: Tile) -> Effort {
    let residual = if layer.residual() { 1.0 } else { 0.0 };
    Effort::of(1.0 + residual, f64::from(tile.quads) + (1.0 + residual) * f64::from(tile.accumulators()))
}

/// Computes the reference of every kernel for pointwise layers.
pub(super) fn gated_reference(layer: &Layer, maps: Maps) -> Tensor {
    let scaled = maps.gate.map(|gate| scale::reference(maps.x, gate));
    let x = scaled.as_ref().unwrap_or(maps.x);
    reference(layer.expect_conv(ConvKind::Pointwise), x, layer.y, maps.residual)
}

/// The layout of [`blocks`].
pub(crate) const PACKING: Packing = Packing::new(|conv, _| pack(conv));

/// Optional inputs of a pointwise convolution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// True if a map is added before the activation.
    pub residual: bool,
    /// True if squeeze-excite's gate scales `x` while it is loaded.
    pub gate: bool,
}

impl Extras {
    /// Returns the optional inputs of a layer.
    pub(super) fn of(layer: &Layer) -> Self {
        Self { residual: layer.residual(), gate: layer.gated }
    }
}

/// Returns whether an invocation's pixels may be of several pictures, which have different gates.
pub(super) fn many_gates(y: Shape, extras: Extras, tile: Tile) -> bool {
    extras.gate && y.n > 1 && !(y.h * y.w).is_multiple_of(tile.pixels as usize)
}

/// Returns the parameters of a kernel that is a product of pixels by channels.
pub(super) fn params(x: Shape, y: Shape) -> Vec<(&'static str, u32)> {
    vec![
        ALARM,
        ("batch_pixels", y.pixels() as u32),
        ("picture_pixels", (y.h * y.w) as u32),
        ("inputs", x.quads() as u32),
        ("outputs", y.quads() as u32),
    ]
}

/// Returns the launch that computes `y` from `x`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, extras: Extras, tile: Tile) -> Launch {
    let grid = grid(tile, y.pixels(), y.quads());
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("QUADS", tile.quads),
            ("DEPTH", tile.depth),
            ("WORKGROUP_O", grid.workgroup_o),
            ("WORKGROUP_P", grid.workgroup_p),
            ("RESIDUAL", extras.residual.into()),
            ("GATED", extras.gate.into()),
            ("MANY_GATES", many_gates(y, extras, tile).into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: params(x, y),
        workgroups: spread(grid.workgroups),
        arithmetic: tile.arithmetic,
        tile: format!("{tile} per invocation"),
    }
    .placeable()
}

/// Packs the weights for the kernel.
pub fn pack(conv: &Conv) -> Vec<f32> {
    blocks(&conv.weight)
}

/// Computes the reference in plain loops over NCHW.
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
