//! Depthwise convolution: `shaders/depthwise.wgsl`.

use super::{
    ALARM, CONV_READS, LANES, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier, Tile, spread,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind, Window},
    tensor::Element,
};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "depthwise",
    source: include_str!("../../shaders/depthwise.wgsl"),
    reads: CONV_READS,
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Baseline,
};

/// Outputs of a row that a thread may make. Seven divides every map of a 224x224 picture.
pub const COLUMNS: [u32; 5] = [8, 7, 4, 2, 1];

/// Threads that `columns` outputs each leaves.
pub fn threads(y: Shape, columns: u32) -> usize {
    y.n * y.h * y.w.div_ceil(columns as usize) * y.quads()
}

/// Input pixels of a row that a thread keeps in registers.
pub fn span(conv: &Conv, columns: u32) -> usize {
    (columns as usize - 1) * conv.stride + (conv.kernel() - 1) * conv.dilation + 1
}

/// The weights as [`pack`] has them.
pub(crate) const PACKING: Packing = Packing::new(|conv, _| pack(conv));

/// The kernel, for the planner. A tile is so many outputs of a row.
pub struct Depthwise;

impl LayerKernel for Depthwise {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let Some(conv) = layer.conv(ConvKind::Depthwise) else { return Vec::new() };
        // A row of the window and the sums are in registers together.
        let fits = |&columns: &u32| columns == 1 || span(conv, columns) as u32 + columns <= 2 * machine.sums;
        COLUMNS.into_iter().filter(fits).map(|columns| Tile::new(columns, 1)).collect()
    }

    fn cost(&self, layer: &Layer, machine: &Machine, tile: Tile) -> f64 {
        let conv = layer.wanted(ConvKind::Depthwise);
        machine.window(conv.kernel(), span(conv, tile.pixels), tile.pixels)
    }

    fn invocations(&self, layer: &Layer, _: &Machine, tile: Tile) -> usize {
        threads(layer.y, tile.pixels)
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        let conv = layer.wanted(ConvKind::Depthwise);
        launch(conv, layer.x(), layer.y, layer.window(conv), layer.residual(), tile.pixels)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        let conv = layer.wanted(ConvKind::Depthwise);
        reference(conv, maps.x, layer.y, layer.window(conv), maps.residual)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(PACKING)
    }
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, window: Window, residual: bool, columns: u32) -> Launch {
    let threads = threads(y, columns);
    Launch {
        shader: &SHADER,
        constants: vec![
            ("KERNEL", conv.kernel() as u32),
            ("STRIDE", conv.stride as u32),
            ("DILATION", conv.dilation as u32),
            ("COLUMNS", columns),
            ("LANES", LANES),
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
            ("threads", threads as u32),
        ],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: format!("1x{columns} px x 4 ch a thread"),
    }
    .placeable()
}

/// The weights as the kernel reads them: `[k, k, channels]`, padded to whole quads.
pub fn pack(conv: &Conv) -> Vec<f32> {
    let (channels, taps) = (conv.outputs(), conv.kernel() * conv.kernel());
    let padded = channels.next_multiple_of(4);
    let mut packed = vec![0.0; taps * padded];
    for (at, &value) in conv.weight.data().iter().enumerate() {
        packed[at % taps * padded + at / taps] = value;
    }
    packed
}

/// The same in plain loops over NCHW.
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
