//! Pointwise and dense convolution in int8: `shaders/product_int8.wgsl`.

use super::{
    ALARM, Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE,
    dense,
    int8::{self, Epilogue, word},
    pointwise, spread,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind, Int8, Integers, Window},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "product_int8",
    source: include_str!("../../shaders/product_int8.wgsl"),
    reads: int8::READS,
    writes: &["y"],
    textures: &[],
    always_32_bit: int8::WORDS,
    tier: Tier::Baseline,
};

/// The sums below which f32 accumulates integers exactly.
const MOST_EXACT: i64 = 1 << 24;

/// Returns the convolution and its quantisation, if the kernel computes such layers.
fn conv<'a, 'b>(layer: &'b Layer<'a>) -> Option<(&'a Conv, &'b Int8)> {
    int8::conv(layer, ConvKind::Pointwise).or_else(|| int8::conv(layer, ConvKind::Dense))
}

fn expect_conv<'a, 'b>(layer: &'b Layer<'a>) -> (&'a Conv, &'b Int8) {
    conv(layer).expect("a kernel is only launched for layers that it has tiles for")
}

/// Returns the shapes of input and output for the kernel: a pointwise layer is a single row of pixels.
fn shapes(conv: &Conv, layer: &Layer) -> [Shape; 2] {
    let row = |shape: Shape| Shape { n: 1, h: 1, w: shape.pixels(), ..shape };
    match conv.kind() {
        Some(ConvKind::Pointwise) => [row(layer.x()), row(layer.y)],
        _ => [layer.x(), layer.y],
    }
}

/// Returns the taps of a window's row that are processed together, because they share pixels.
fn together(conv: &Conv, machine: &Machine) -> u32 {
    if conv.dilation == 1 && !machine.on_cpu() { conv.kernel() as u32 } else { 1 }
}

/// Returns the words that a run loads for these taps.
fn span(conv: &Conv, machine: &Machine, tile: Tile) -> u32 {
    match together(conv, machine) {
        1 => tile.pixels,
        taps => (tile.pixels - 1) * conv.stride as u32 + taps,
    }
}

/// Returns the `vec4` values that an invocation keeps besides its accumulators: words, and packed or unpacked
/// weights.
fn operands(conv: &Conv, machine: &Machine, tile: Tile) -> u32 {
    let (span, together) = (span(conv, machine, tile), together(conv, machine));
    let unpacked = if machine.multiplies_bytes() { 0 } else { span + 4 };
    tile.depth * (span.div_ceil(2) + together * tile.quads) + unpacked
}

/// Returns the iterations of the loop over a tap's inputs.
fn iterations(x: Shape, tile: Tile) -> usize {
    x.quads().div_ceil(tile.depth as usize)
}

/// Returns the tile with the depth of least cost that registers allow.
fn deepened(conv: &Conv, x: Shape, machine: &Machine, tile: Tile) -> Tile {
    let depths = if together(conv, machine) > 1 || machine.on_cpu() { 1..=1 } else { 1..=8 };
    let deep = depths.map(|depth| Tile { depth, ..tile });
    let fits =
        |tile: &Tile| tile.depth == 1 || machine.holds(tile.accumulators() + operands(conv, machine, *tile));
    // Padding after the last input costs multiply-adds too.
    let cost = |tile: &Tile| (8 + tile.depth as usize) * iterations(x, *tile).div_ceil(tile.split as usize);
    deep.filter(fits).min_by_key(cost).unwrap_or(tile)
}

/// The kernel as a [`LayerKernel`].
pub struct ProductInt8;

impl LayerKernel for ProductInt8 {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let Some((conv, _)) = conv(layer) else { return Vec::new() };
        let fits = |tile: &Tile| {
            let kept = tile.accumulators() + operands(conv, machine, *tile);
            let holds = tile.accumulators() <= machine.accumulators && machine.holds(kept);
            (holds || tile.accumulators() == 1) && tile.split as usize <= iterations(layer.x(), *tile)
        };
        dense::tiles().map(|tile| deepened(conv, layer.x(), machine, tile)).filter(fits).collect()
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let (conv, _) = expect_conv(layer);
        let (side, together) = (conv.kernel() as u32, together(conv, machine));
        let share = iterations(layer.x(), tile).div_ceil(tile.split as usize);
        let (span, weights) = (span(conv, machine, tile), together * tile.quads);
        // A word is a quarter of a `vec4`, but takes as much addressing.
        let macs = word_macs(machine, together * tile.accumulators(), span, weights);
        let depth = f64::from(tile.depth);
        let loads = depth * (0.5 * f64::from(span) + f64::from(weights));
        let iteration = Effort { macs: depth * macs, ..Effort::of(1.0, loads) };
        let combine = if tile.split > 1 { 1.0 } else { 0.0 };
        let others = f64::from((tile.split - 1) * tile.accumulators());
        let combine = Effort {
            shared: others + combine * f64::from(tile.accumulators()),
            barriers: combine,
            ..Effort::default()
        };
        iteration * f64::from(side * side / together * share as u32) + combine + epilogue_effort(layer, tile)
    }

    fn footprint(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Footprint {
        let (conv, _) = expect_conv(layer);
        let [_, y] = shapes(conv, layer);
        Footprint {
            invocations: dense::grid(tile, y).invocations(),
            values: tile.accumulators() + operands(conv, machine, tile),
            workgroup: WORKGROUP_SIZE,
            memory: 16 * (tile.split - 1) * WORKGROUP_SIZE / tile.split * tile.accumulators(),
        }
    }

    fn launch(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Launch {
        let (conv, quantisation) = expect_conv(layer);
        let epilogue = Epilogue::of(conv, quantisation);
        let ([x, y], window) = (shapes(conv, layer), layer.window(conv));
        let Window { top, left, .. } = window;
        let grid = dense::grid(tile, y);
        let mut constants = vec![
            ("KERNEL", conv.kernel() as u32),
            ("STRIDE", conv.stride as u32),
            ("DILATION", conv.dilation as u32),
            ("COLUMNS", tile.pixels),
            ("TOGETHER", together(conv, machine)),
            ("DEPTH", tile.depth),
            ("QUADS", tile.quads),
            ("WORKGROUP_O", grid.workgroup_o),
            ("WORKGROUP_P", grid.workgroup_p),
            ("SPLIT", tile.split),
            ("DOT", packed_dot(&epilogue, machine).into()),
        ];
        constants.extend(epilogue.constants());
        let mut params = vec![
            ALARM,
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("top", top as u32),
            ("left", left as u32),
            ("inputs", x.quads() as u32),
            ("iterations", iterations(x, tile) as u32),
            ("outputs", y.quads() as u32),
            ("runs", dense::runs(tile, y) as u32),
        ];
        params.extend(epilogue.params(quantisation.inputs[0]));
        Launch {
            shader: &SHADER,
            constants,
            params,
            workgroups: spread(grid.workgroups),
            arithmetic: Element::F32,
            tile: if tile.split > 1 { tile.to_string() } else { format!("{tile} per invocation") },
        }
        .placeable()
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        int8::reference(layer, maps)
    }

    fn words(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Vec<(&'static str, Vec<u32>)> {
        let (conv, quantisation) = expect_conv(layer);
        let epilogue = Epilogue::of(conv, quantisation);
        let quads = iterations(layer.x(), tile) * tile.depth as usize;
        epilogue.words(weights(conv, &epilogue, packed_dot(&epilogue, machine), quads))
    }

    fn refusal(&self, layer: &Layer) -> Option<String> {
        let (conv, quantisation) = conv(layer)?;
        Integers::refusal(conv, quantisation)
    }
}

/// Returns whether bytes are multiplied by packed dot products. Devices without them multiply in f32 if that
/// is exact.
pub(super) fn packed_dot(epilogue: &Epilogue, machine: &Machine) -> bool {
    machine.multiplies_bytes() || epilogue.integers.products >= MOST_EXACT
}

/// The costs of rescaling a sum, and of computing a tile's addresses: in multiply-adds, from the assembly of
/// AMD's compiler.
pub(super) const RESCALE: f64 = 24.0;
pub(super) const ADDRESSES: f64 = 40.0;

/// Returns the cost, in multiply-adds, of adding one word of each of `inputs` pixels, times the weights of `weights`
/// quads, to `sums` accumulators. Unpacking a word costs two multiply-adds.
pub(super) fn word_macs(machine: &Machine, sums: u32, inputs: u32, weights: u32) -> f64 {
    match machine.multiplies_bytes() {
        true => f64::from(sums) * machine.rates.dot / machine.rates.mac,
        false => f64::from(4 * sums + 2 * (inputs + 4 * weights)),
    }
}

/// Returns the effort outside the loop: loading the output parameters and the residual, rescaling, and storing the
/// outputs.
pub(super) fn epilogue_effort(layer: &Layer, tile: Tile) -> Effort {
    let sums = f64::from(tile.accumulators());
    let rescaled = if layer.residual() { 2.0 } else { 1.0 } * sums;
    Effort { macs: RESCALE * rescaled + ADDRESSES, ..Effort::default() }
        + pointwise::epilogue_effort(layer, tile)
        + Effort::of(0.0, 3.0 * f64::from(tile.quads))
}

/// Packs `[taps][quads][outputs / 4][4]` words. A word has four inputs of one output for packed dot products,
/// otherwise four outputs of one input.
pub(super) fn weights(conv: &Conv, epilogue: &Epilogue, packed_dot: bool, quads: usize) -> Vec<u32> {
    let (inputs, taps) = (conv.inputs(), conv.kernel() * conv.kernel());
    let blocks = conv.outputs().div_ceil(4);
    let weight = |tap: usize, i: usize, o: usize| {
        let exists = i < inputs && o < conv.outputs();
        if exists { epilogue.integers.weights[(o * inputs + i) * taps + tap] } else { 0 }
    };
    let packed = |at: usize| {
        let (position, block, quad, tap) =
            (at % 4, at / 4 % blocks, at / 4 / blocks % quads, at / 4 / blocks / quads);
        word(std::array::from_fn(|i| match packed_dot {
            true => weight(tap, 4 * quad + i, 4 * block + position),
            false => weight(tap, 4 * quad + position, 4 * block + i),
        }))
    };
    (0..taps * quads * blocks * 4).map(packed).collect()
}
