//! Depthwise convolution: `shaders/depthwise.wgsl`.

use super::{
    ALARM, CONV_READS, Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier,
    Tile, WORKGROUP_SIZE, spread,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind, Window},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "depthwise",
    source: include_str!("../../shaders/depthwise.wgsl"),
    reads: CONV_READS,
    writes: &["y"],
    textures: &[],
    always_32_bit: &["bias"],
    tier: Tier::Baseline,
};

/// Candidates for an invocation's outputs per row. Seven divides the width of every map of a 224x224 picture.
const COLUMNS: [u32; 5] = [8, 7, 4, 2, 1];

/// Candidates for an invocation's rows of outputs.
const ROWS: [u32; 3] = [4, 2, 1];

/// The maximum number of input lines that a tile of several rows reads.
const LINES: usize = 7;

/// Returns the candidates, largest first.
pub fn tiles() -> impl Iterator<Item = Tile> {
    ROWS.into_iter()
        .flat_map(|rows| COLUMNS.into_iter().map(move |columns| Tile { rows, ..Tile::new(columns, 1) }))
}

/// Returns the candidates that `machine` admits.
pub(super) fn fitting(conv: &Conv, y: Shape, machine: &Machine) -> Vec<Tile> {
    let fits = |tile: &Tile| {
        let least = tile.accumulators() == 1;
        // An invocation makes several rows only if they share input lines and the compiler unrolls the loop
        // over lines.
        let shares = conv.dilation == 1 && conv.stride < conv.kernel() && !machine.on_cpu();
        let shares = tile.rows == 1 || shares && span(conv, tile.rows) <= LINES;
        least || shares && tile.rows as usize <= y.h && machine.holds(values(conv, *tile))
    };
    tiles().filter(fits).collect()
}

/// Returns the number of invocations.
pub(super) fn invocations(y: Shape, tile: Tile) -> usize {
    y.n * y.h.div_ceil(tile.rows as usize) * y.w.div_ceil(tile.pixels as usize) * y.quads()
}

/// Returns the input pixels along an axis that `outputs` adjacent outputs read.
pub fn span(conv: &Conv, outputs: u32) -> usize {
    (outputs as usize - 1) * conv.stride + (conv.kernel() - 1) * conv.dilation + 1
}

/// Returns the `vec4` values that an invocation keeps: a row of the input, its accumulators, and the weights
/// of a row of the window, or of all rows if it makes several rows of outputs.
pub(super) fn values(conv: &Conv, tile: Tile) -> u32 {
    let kernel = conv.kernel() as u32;
    let weights = if tile.rows > 1 { kernel * kernel } else { kernel };
    span(conv, tile.pixels) as u32 + tile.accumulators() + weights
}

/// The layout of [`pack`].
pub(crate) const PACKING: Packing = Packing::new(|conv, _| pack(conv));

/// The kernel as a [`LayerKernel`]. A tile is a number of columns by a number of rows.
pub struct Depthwise;

impl LayerKernel for Depthwise {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        layer.conv(ConvKind::Depthwise).map_or_else(Vec::new, |conv| fitting(conv, layer.y, machine))
    }

    fn effort(&self, layer: &Layer, _: &Machine, tile: Tile) -> Effort {
        let conv = layer.expect_conv(ConvKind::Depthwise);
        let residual = if layer.residual() { 1.0 } else { 0.0 };
        window(conv, tile)
            + Effort::of(1.0 + residual, 1.0 + (1.0 + residual) * f64::from(tile.accumulators()))
    }

    fn footprint(&self, layer: &Layer, _: &Machine, tile: Tile) -> Footprint {
        let values = values(layer.expect_conv(ConvKind::Depthwise), tile);
        Footprint { values, ..Footprint::of(invocations(layer.y, tile)) }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        let conv = layer.expect_conv(ConvKind::Depthwise);
        launch(conv, layer.x(), layer.y, layer.window(conv), layer.residual(), tile)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        let conv = layer.expect_conv(ConvKind::Depthwise);
        reference(conv, maps.x, layer.y, layer.window(conv), maps.residual)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(PACKING)
    }
}

/// Returns an invocation's effort for the windows of a tile, whose loads are all in flight together.
pub(super) fn window(conv: &Conv, tile: Tile) -> Effort {
    let kernel = conv.kernel() as f64;
    let lines = span(conv, tile.rows) as f64;
    let loads = lines * span(conv, tile.pixels) as f64 + kernel * kernel;
    Effort { macs: kernel * kernel * f64::from(tile.accumulators()), ..Effort::of(1.0, loads) }
}

/// Returns two indices into the pixels that a tile reads along an axis: pixels before the first index may lie
/// before the map, and pixels from the second index on may lie after it.
pub(super) fn edges(conv: &Conv, outputs: u32, size: usize, made: usize, before: usize) -> [u32; 2] {
    let last = (made.div_ceil(outputs as usize) - 1) * outputs as usize * conv.stride;
    let span = span(conv, outputs);
    [before.min(span), (size + before).saturating_sub(last).min(span)].map(|index| index as u32)
}

/// Returns the launch that computes `y` from `x`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, window: Window, residual: bool, tile: Tile) -> Launch {
    let invocations = invocations(y, tile);
    let [above, below] = edges(conv, tile.rows, x.h, y.h, window.top);
    let [before, behind] = edges(conv, tile.pixels, x.w, y.w, window.left);
    Launch {
        shader: &SHADER,
        constants: vec![
            ("KERNEL", conv.kernel() as u32),
            ("STRIDE", conv.stride as u32),
            ("DILATION", conv.dilation as u32),
            ("ROWS", tile.rows),
            ("COLUMNS", tile.pixels),
            ("ABOVE", above),
            ("BELOW", below),
            ("BEFORE", before),
            ("BEHIND", behind),
            ("WORKGROUP_SIZE", WORKGROUP_SIZE),
            ("RESIDUAL", residual.into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: vec![
            ALARM,
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("top", window.top as u32),
            ("left", window.left as u32),
            ("outputs", y.quads() as u32),
            ("invocations", invocations as u32),
        ],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: format!("{}x{} px x 4 ch per invocation", tile.rows, tile.pixels),
    }
    .placeable()
}

/// Packs the weights for the kernel: `[k, k, channels]`, padded to whole quads.
pub fn pack(conv: &Conv) -> Vec<f32> {
    let (channels, taps) = (conv.outputs(), conv.kernel() * conv.kernel());
    let padded = channels.next_multiple_of(4);
    let mut packed = vec![0.0; taps * padded];
    for (at, &value) in conv.weight.data().iter().enumerate() {
        packed[at % taps * padded + at / taps] = value;
    }
    packed
}

/// Computes the reference in plain loops over NCHW.
pub fn reference(conv: &Conv, x: &Tensor, y: Shape, window: Window, residual: Option<&Tensor>) -> Tensor {
    let &[_, channels, height, width] = x.dims() else { unreachable!("a feature map has four dimensions") };
    let kernel = conv.kernel();
    super::finish(conv, y, residual, |[n, c, row, column]| {
        let mut sum = 0.0;
        for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
            let iy = (row * conv.stride + ky * conv.dilation).checked_sub(window.top);
            let ix = (column * conv.stride + kx * conv.dilation).checked_sub(window.left);
            if let (Some(iy), Some(ix)) = (iy.filter(|&iy| iy < height), ix.filter(|&ix| ix < width)) {
                let pixel = x.data()[((n * channels + c) * height + iy) * width + ix];
                sum += f64::from(pixel) * f64::from(conv.weight.data()[(c * kernel + ky) * kernel + kx]);
            }
        }
        sum
    })
}
