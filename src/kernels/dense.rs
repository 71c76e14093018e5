//! Dense convolution: `shaders/dense.wgsl`.

use super::{
    ALARM, CONV_READS, Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier,
    Tile, TileGrid, WORKGROUP_SIZE, depthwise, pointwise, spread,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind, Window},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "dense",
    source: include_str!("../../shaders/dense.wgsl"),
    reads: CONV_READS,
    writes: &["y"],
    textures: &[],
    always_32_bit: &["bias"],
    tier: Tier::Baseline,
};

/// Returns the candidates, largest first: adjacent outputs of a row, quads of output channels, and
/// invocations that split the inputs (split-K). Seven columns divide every map of a 224x224 picture.
pub fn tiles() -> impl Iterator<Item = Tile> {
    let sizes = || [8, 7, 4, 2, 1].into_iter().flat_map(|columns| [4, 3, 2, 1].map(|quads| (columns, quads)));
    let tiles = |split| sizes().map(move |(columns, quads)| Tile { split, ..Tile::new(columns, quads) });
    // Workgroup memory holds at most sixteen accumulators per invocation.
    tiles(1).chain(tiles(8).filter(|tile| tile.accumulators() <= 16))
}

/// Returns the pixels that a run loads per iteration, for the taps that its tile processes together.
fn span(conv: &Conv, tile: Tile) -> u32 {
    if tile.depth == 1 { tile.pixels } else { (tile.pixels - 1) * conv.stride as u32 + tile.depth }
}

/// Returns the `vec4` values that an invocation keeps: its accumulators, the pixels, and the weights of a
/// tap.
fn values(conv: &Conv, tile: Tile) -> u32 {
    tile.accumulators() + span(conv, tile) + 4 * tile.quads
}

/// Returns the `vec4` values that a tile is assumed to need besides its accumulators: the pixels, one per tap
/// for its weights, and one per two pixels that may lie outside the map. The second term avoids spills of
/// Adreno's compiler with seven taps; the third avoids spills of Ada's compiler in tiles of eight columns of
/// which only the first is always inside the map.
fn operands(conv: &Conv, tile: Tile, layer: &Layer) -> u32 {
    let span = span(conv, tile);
    let [before, behind] = edges(conv, tile, layer.x(), layer.y, layer.window(conv));
    let checked = span - behind.min(span).saturating_sub(before);
    span + tile.depth + checked.div_ceil(2)
}

/// Returns the number of runs of columns in `y`.
pub(super) fn runs(tile: Tile, y: Shape) -> usize {
    y.n * y.h * y.w.div_ceil(tile.pixels as usize)
}

/// Returns two indices into the pixels that a run reads from a row: pixels before the first index and from
/// the second index on may lie outside the map.
fn edges(conv: &Conv, tile: Tile, x: Shape, y: Shape, window: Window) -> [u32; 2] {
    depthwise::edges(conv, tile.pixels, x.w, y.w, window.left)
}

/// Returns the layout of the tiles of `y` over workgroups.
pub(super) fn grid(tile: Tile, y: Shape) -> TileGrid {
    TileGrid::new(y.quads().div_ceil(tile.quads as usize), runs(tile, y), tile.split)
}

/// The kernel as a [`LayerKernel`].
pub struct Dense;

impl LayerKernel for Dense {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let Some(conv) = layer.conv(ConvKind::Dense) else { return Vec::new() };
        // Dilated taps share no pixels, and compilers of drivers on the CPU would not unroll the loop over
        // taps.
        let together = conv.dilation == 1 && !machine.on_cpu();
        let deep = |tile: Tile| Tile { depth: if together { conv.kernel() as u32 } else { 1 }, ..tile };
        // Every invocation must have inputs.
        let fits = |tile: &Tile| {
            let kept = tile.accumulators() + operands(conv, *tile, layer);
            let holds = tile.accumulators() <= machine.accumulators && machine.holds(kept);
            (holds || tile.accumulators() == 1) && tile.split as usize <= layer.x().quads()
        };
        tiles().map(deep).filter(fits).collect()
    }

    fn effort(&self, layer: &Layer, _: &Machine, tile: Tile) -> Effort {
        let conv = layer.expect_conv(ConvKind::Dense);
        let (side, share) = (conv.kernel(), layer.x().quads().div_ceil(tile.split as usize));
        let each = f64::from(span(conv, tile) + 4 * tile.depth * tile.quads);
        let iteration =
            Effort { macs: f64::from(4 * tile.depth * tile.accumulators()), ..Effort::of(1.0, each) };
        let taps = iteration * (side * side / tile.depth as usize * share) as f64;
        let others = f64::from((tile.split - 1) * tile.accumulators());
        let combine = if tile.split > 1 { 1.0 } else { 0.0 };
        let combine = Effort {
            shared: others + combine * f64::from(tile.accumulators()),
            barriers: combine,
            ..Effort::default()
        };
        taps + combine + pointwise::epilogue_effort(layer, tile)
    }

    fn footprint(&self, layer: &Layer, _: &Machine, tile: Tile) -> Footprint {
        Footprint {
            invocations: grid(tile, layer.y).invocations(),
            values: values(layer.expect_conv(ConvKind::Dense), tile),
            workgroup: WORKGROUP_SIZE,
            memory: 16 * (tile.split - 1) * WORKGROUP_SIZE / tile.split * tile.accumulators(),
        }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        let conv = layer.expect_conv(ConvKind::Dense);
        launch(conv, layer.x(), layer.y, layer.window(conv), layer.residual(), tile)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        let conv = layer.expect_conv(ConvKind::Dense);
        reference(conv, maps.x, layer.y, layer.window(conv), maps.residual)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(Packing::new(|conv, _| pack(conv)))
    }

    fn describe(&self, tile: Tile) -> String {
        format!("1x{tile}")
    }
}

/// Returns the launch that computes `y` from `x`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, window: Window, residual: bool, tile: Tile) -> Launch {
    let grid = grid(tile, y);
    let [before, behind] = edges(conv, tile, x, y, window);
    Launch {
        shader: &SHADER,
        constants: vec![
            ("KERNEL", conv.kernel() as u32),
            ("STRIDE", conv.stride as u32),
            ("DILATION", conv.dilation as u32),
            ("COLUMNS", tile.pixels),
            ("TOGETHER", tile.depth),
            ("BEFORE", before),
            ("BEHIND", behind),
            ("QUADS", tile.quads),
            ("WORKGROUP_O", grid.workgroup_o),
            ("WORKGROUP_P", grid.workgroup_p),
            ("SPLIT", tile.split),
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
            ("inputs", x.quads() as u32),
            ("outputs", y.quads() as u32),
            ("runs", runs(tile, y) as u32),
        ],
        workgroups: spread(grid.workgroups),
        arithmetic: Element::F32,
        tile: if tile.split > 1 { format!("1x{tile}") } else { format!("1x{tile} per invocation") },
    }
    .placeable()
}

/// Packs the weights for the kernel.
pub fn pack(conv: &Conv) -> Vec<f32> {
    super::blocks(&conv.weight)
}

/// Computes the reference in plain loops over NCHW.
pub fn reference(conv: &Conv, x: &Tensor, y: Shape, window: Window, residual: Option<&Tensor>) -> Tensor {
    let &[_, inputs, height, width] = x.dims() else { unreachable!("a feature map has four dimensions") };
    let kernel = conv.kernel();
    super::finish(conv, y, residual, |[n, o, row, column]| {
        let mut sum = 0.0;
        for i in 0..inputs {
            for ky in 0..kernel {
                let Some(iy) = (row * conv.stride + ky * conv.dilation).checked_sub(window.top) else {
                    continue;
                };
                for kx in 0..kernel {
                    let Some(ix) = (column * conv.stride + kx * conv.dilation).checked_sub(window.left)
                    else {
                        continue;
                    };
                    if iy < height && ix < width {
                        let pixel = x.data()[((n * inputs + i) * height + iy) * width + ix];
                        let weight = conv.weight.data()[((o * inputs + i) * kernel + ky) * kernel + kx];
                        sum += f64::from(pixel) * f64::from(weight);
                    }
                }
            }
        }
        sum
    })
}
