//! Pointwise and dense convolution in integers: `shaders/product_int8.wgsl`.

use super::{
    ALARM, Crowd, Effort, Grid, LANES, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, dense,
    int8::{self, End, word},
    pointwise, spread,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind, Int8, Integers, Window},
    tensor::Element,
};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "product_int8",
    source: include_str!("../../shaders/product_int8.wgsl"),
    reads: int8::READS,
    writes: &["y"],
    textures: &[],
    sums: int8::WORDS,
    tier: Tier::Baseline,
};

/// What is below it f32 adds up exactly.
const MOST_EXACT: i64 = 1 << 24;

/// The convolution with what is around it, if the kernel makes such a layer.
fn conv<'a, 'b>(layer: &'b Layer<'a>) -> Option<(&'a Conv, &'b Int8)> {
    int8::conv(layer, ConvKind::Pointwise).or_else(|| int8::conv(layer, ConvKind::Dense))
}

fn wanted<'a, 'b>(layer: &'b Layer<'a>) -> (&'a Conv, &'b Int8) {
    conv(layer).expect("a kernel is only launched for layers that it has tiles for")
}

/// The shapes of input and output as the kernel has them: what is pointwise is a single row of pixels.
fn shapes(conv: &Conv, layer: &Layer) -> [Shape; 2] {
    let row = |shape: Shape| Shape { n: 1, h: 1, w: shape.pixels(), ..shape };
    match conv.kind() {
        Some(ConvKind::Pointwise) => [row(layer.x()), row(layer.y)],
        _ => [layer.x(), layer.y],
    }
}

/// Taps of a row of the window that are taken at a time: what dense layers share pixels of.
fn together(conv: &Conv, machine: &Machine) -> u32 {
    if conv.dilation == 1 && !machine.on_cpu() { conv.kernel() as u32 } else { 1 }
}

/// Words of a row of the map that a run loads for them.
fn taps(conv: &Conv, machine: &Machine, tile: Tile) -> u32 {
    match together(conv, machine) {
        1 => tile.pixels,
        taps => (tile.pixels - 1) * conv.stride as u32 + taps,
    }
}

/// `vec4` values that an invocation keeps beside its sums: words, and weights in integers or unpacked.
fn beside(conv: &Conv, machine: &Machine, tile: Tile) -> u32 {
    let (taps, together) = (taps(conv, machine, tile), together(conv, machine));
    let unpacked = if machine.multiplies_bytes() { 0 } else { taps + 4 };
    tile.depth * (taps.div_ceil(2) + together * tile.quads) + unpacked
}

/// Turns of the loop over a tap's inputs.
fn turns(x: Shape, tile: Tile) -> usize {
    x.quads().div_ceil(tile.depth as usize)
}

fn runs(y: Shape, tile: Tile) -> usize {
    y.n * y.h * y.w.div_ceil(tile.pixels as usize)
}

fn grid(y: Shape, tile: Tile) -> Grid {
    Grid::new(y.quads().div_ceil(tile.quads as usize), runs(y, tile), tile.split)
}

/// The tile with as many words of inputs at a time as leave the fewest turns, of those that there are registers for.
fn deepened(conv: &Conv, x: Shape, machine: &Machine, tile: Tile) -> Tile {
    let depths = if together(conv, machine) > 1 || machine.on_cpu() { 1..=1 } else { 1..=8 };
    let deep = depths.map(|depth| Tile { depth, ..tile });
    let fits = |tile: &Tile| tile.depth == 1 || machine.holds(tile.sums() + beside(conv, machine, *tile));
    // What is beyond the inputs is multiplied too.
    let cost = |tile: &Tile| (8 + tile.depth as usize) * turns(x, *tile).div_ceil(tile.split as usize);
    deep.filter(fits).min_by_key(cost).unwrap_or(tile)
}

/// The kernel, for the planner.
pub struct ProductInt8;

impl LayerKernel for ProductInt8 {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let Some((conv, _)) = conv(layer) else { return Vec::new() };
        let fits = |tile: &Tile| {
            let kept = tile.sums() + beside(conv, machine, *tile);
            let holds = tile.sums() <= machine.sums && machine.holds(kept);
            (holds || tile.sums() == 1) && tile.split as usize <= turns(layer.x(), *tile)
        };
        dense::tiles().map(|tile| deepened(conv, layer.x(), machine, tile)).filter(fits).collect()
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let (conv, _) = wanted(layer);
        let (side, together) = (conv.kernel() as u32, together(conv, machine));
        let share = turns(layer.x(), tile).div_ceil(tile.split as usize);
        let (taps, weights) = (taps(conv, machine, tile), together * tile.quads);
        // A word is a quarter of a load, though its address is not; unpacking takes as long as two multiply-adds.
        let macs = match machine.multiplies_bytes() {
            true => f64::from(together * tile.sums()) * machine.rates.dot / machine.rates.mac,
            false => f64::from(4 * together * tile.sums() + 2 * (taps + 4 * weights)),
        };
        let depth = f64::from(tile.depth);
        let loads = depth * (0.5 * f64::from(taps) + f64::from(weights));
        let turn = Effort { macs: depth * macs, ..Effort::of(1.0, loads) };
        let met = if tile.split > 1 { 1.0 } else { 0.0 };
        let others = f64::from((tile.split - 1) * tile.sums());
        let met =
            Effort { shared: others + met * f64::from(tile.sums()), barriers: met, ..Effort::default() };
        turn * f64::from(side * side / together * share as u32) + met + ends(layer, tile)
    }

    fn crowd(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Crowd {
        let (conv, _) = wanted(layer);
        let [_, y] = shapes(conv, layer);
        Crowd {
            invocations: grid(y, tile).threads(),
            values: tile.sums() + beside(conv, machine, tile),
            workgroup: LANES,
            memory: 16 * (tile.split - 1) * LANES / tile.split * tile.sums(),
        }
    }

    fn launch(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Launch {
        let (conv, around) = wanted(layer);
        let end = End::of(conv, around);
        let ([x, y], window) = (shapes(conv, layer), layer.window(conv));
        let Window { top, left, .. } = window;
        let grid = grid(y, tile);
        let mut constants = vec![
            ("KERNEL", conv.kernel() as u32),
            ("STRIDE", conv.stride as u32),
            ("DILATION", conv.dilation as u32),
            ("COLUMNS", tile.pixels),
            ("TOGETHER", together(conv, machine)),
            ("DEPTH", tile.depth),
            ("QUADS", tile.quads),
            ("LANES_O", grid.lanes_o),
            ("LANES_P", grid.lanes_p),
            ("SPLIT", tile.split),
            ("DOT", by_bytes(&end, machine).into()),
        ];
        constants.extend(end.constants());
        let mut params = vec![
            ALARM,
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("top", top as u32),
            ("left", left as u32),
            ("inputs", x.quads() as u32),
            ("turns", turns(x, tile) as u32),
            ("outputs", y.quads() as u32),
            ("runs", runs(y, tile) as u32),
        ];
        params.extend(end.params(around.inputs[0]));
        Launch {
            shader: &SHADER,
            constants,
            params,
            workgroups: spread(grid.workgroups),
            arithmetic: Element::F32,
            tile: if tile.split > 1 { tile.to_string() } else { format!("{tile} a thread") },
        }
        .placeable()
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        int8::reference(layer, maps)
    }

    fn words(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Vec<(&'static str, Vec<u32>)> {
        let (conv, around) = wanted(layer);
        let end = End::of(conv, around);
        let quads = turns(layer.x(), tile) * tile.depth as usize;
        end.words(weights(conv, &end, by_bytes(&end, machine), quads))
    }

    fn refusal(&self, layer: &Layer) -> Option<String> {
        let (conv, around) = conv(layer)?;
        Integers::refusal(conv, around)
    }
}

/// Whether bytes are multiplied as such: devices that cannot do so multiply in f32 what is exact in it.
fn by_bytes(end: &End, machine: &Machine) -> bool {
    machine.multiplies_bytes() || end.integers.products >= MOST_EXACT
}

/// What rescaling a sum takes, and finding a tile's places: in multiply-adds, by AMD's compiler's listings.
const RESCALE: f64 = 24.0;
const PLACES: f64 = 40.0;

/// Biases and numbers, the residual, the answer, and what rescaling takes.
pub(super) fn ends(layer: &Layer, tile: Tile) -> Effort {
    let sums = f64::from(tile.sums());
    let rescaled = if layer.residual() { 2.0 } else { 1.0 } * sums;
    Effort { macs: RESCALE * rescaled + PLACES, ..Effort::default() }
        + pointwise::ends(layer, tile)
        + Effort::of(0.0, 3.0 * f64::from(tile.quads))
}

/// `[taps][quads][outputs / 4][4]` words, of an output's four inputs where bytes are multiplied as such, else of an
/// input's four outputs.
fn weights(conv: &Conv, end: &End, by_bytes: bool, quads: usize) -> Vec<u32> {
    let (inputs, taps) = (conv.inputs(), conv.kernel() * conv.kernel());
    let blocks = conv.outputs().div_ceil(4);
    let weight = |tap: usize, i: usize, o: usize| {
        let there = i < inputs && o < conv.outputs();
        if there { end.integers.weights[(o * inputs + i) * taps + tap] } else { 0 }
    };
    let packed = |at: usize| {
        let (place, block, quad, tap) =
            (at % 4, at / 4 % blocks, at / 4 / blocks % quads, at / 4 / blocks / quads);
        word(std::array::from_fn(|i| match by_bytes {
            true => weight(tap, 4 * quad + i, 4 * block + place),
            false => weight(tap, 4 * quad + place, 4 * block + i),
        }))
    };
    (0..taps * quads * blocks * 4).map(packed).collect()
}
