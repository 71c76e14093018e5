//! Depthwise convolution in int8: `shaders/depthwise_int8.wgsl`.

use super::{
    ALARM, Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE,
    depthwise,
    int8::{self, Epilogue, word},
    product_int8, spread,
};
use crate::{
    Tensor,
    graph::{Conv, ConvKind, Int8, Integers},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "depthwise_int8",
    source: include_str!("../../shaders/depthwise_int8.wgsl"),
    reads: int8::READS,
    writes: &["y"],
    textures: &[],
    always_32_bit: int8::WORDS,
    tier: Tier::Baseline,
};

/// The largest window whose sums are exact in f32.
const MOST_TAPS: usize = 1 << 10;

fn expect_conv<'a, 'b>(layer: &'b Layer<'a>) -> (&'a Conv, &'b Int8) {
    int8::conv(layer, ConvKind::Depthwise)
        .expect("a kernel is only launched for layers that it has tiles for")
}

/// The kernel as a [`LayerKernel`]. A tile is a number of columns by a number of rows.
pub struct DepthwiseInt8;

impl LayerKernel for DepthwiseInt8 {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let conv = int8::conv(layer, ConvKind::Depthwise);
        conv.map_or_else(Vec::new, |(conv, _)| depthwise::fitting(conv, layer.y, machine))
    }

    fn effort(&self, layer: &Layer, _: &Machine, tile: Tile) -> Effort {
        let (conv, _) = expect_conv(layer);
        let Effort { waits, loads, macs, .. } = depthwise::window(conv, tile);
        // A word is a quarter of a `vec4`, but takes as much addressing; unpacking takes as long as two
        // multiply-adds.
        let window = Effort { macs: macs + 2.0 * loads, ..Effort::of(waits, 0.5 * loads) };
        window + product_int8::epilogue_effort(layer, tile)
    }

    fn footprint(&self, layer: &Layer, _: &Machine, tile: Tile) -> Footprint {
        let (conv, _) = expect_conv(layer);
        let values = depthwise::values(conv, tile) + tile.accumulators();
        Footprint { values, ..Footprint::of(depthwise::invocations(layer.y, tile)) }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        let (conv, quantisation) = expect_conv(layer);
        let (x, y, window) = (layer.x(), layer.y, layer.window(conv));
        let epilogue = Epilogue::of(conv, quantisation);
        let invocations = depthwise::invocations(y, tile);
        let mut constants = vec![
            ("KERNEL", conv.kernel() as u32),
            ("STRIDE", conv.stride as u32),
            ("DILATION", conv.dilation as u32),
            ("ROWS", tile.rows),
            ("COLUMNS", tile.pixels),
            ("WORKGROUP_SIZE", WORKGROUP_SIZE),
        ];
        constants.extend(epilogue.constants());
        let mut params = vec![
            ALARM,
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("top", window.top as u32),
            ("left", window.left as u32),
            ("outputs", y.quads() as u32),
            ("invocations", invocations as u32),
        ];
        params.extend(epilogue.params(quantisation.inputs[0]));
        Launch {
            shader: &SHADER,
            constants,
            params,
            workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
            arithmetic: Element::F32,
            tile: format!("{}x{} px x 4 ch per invocation", tile.rows, tile.pixels),
        }
        .placeable()
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        int8::reference(layer, maps)
    }

    fn words(&self, layer: &Layer, _: &Machine, _: Tile) -> Vec<(&'static str, Vec<u32>)> {
        let (conv, quantisation) = expect_conv(layer);
        let epilogue = Epilogue::of(conv, quantisation);
        epilogue.words(weights(conv, &epilogue))
    }

    fn refusal(&self, layer: &Layer) -> Option<String> {
        let (conv, quantisation) = int8::conv(layer, ConvKind::Depthwise)?;
        let taps = conv.kernel() * conv.kernel();
        let large = taps > MOST_TAPS;
        let reason = || format!("a window of {taps} taps is too large for exact sums");
        Integers::refusal(conv, quantisation).or_else(|| large.then(reason))
    }
}

/// Packs `[taps][channels / 4]` words of four channels.
pub(super) fn weights(conv: &Conv, epilogue: &Epilogue) -> Vec<u32> {
    let (channels, taps) = (conv.outputs(), conv.kernel() * conv.kernel());
    let blocks = channels.div_ceil(4);
    let packed = |at: usize| {
        let (block, tap) = (at % blocks, at / blocks);
        word(std::array::from_fn(|i| {
            let c = 4 * block + i;
            if c < channels { epilogue.integers.weights[c * taps + tap] } else { 0 }
        }))
    };
    (0..taps * blocks).map(packed).collect()
}
