//! The channel with the largest value of a scaled map: `shaders/argmax.wgsl`.

use super::{Effort, LANES, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, resize, spread};
use crate::{
    Shape, Tensor,
    graph::{NO_CLASS, Op, too_many_classes},
    tensor::Element,
};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "argmax",
    source: include_str!("../../shaders/argmax.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &["y"],
    tier: Tier::Baseline,
};

/// Pixels of a word, a byte each.
const PIXELS: usize = 4;

/// Words that the answer of shape `y` takes: each row a whole number.
pub const fn words(y: Shape) -> usize {
    y.n * y.h * y.w.div_ceil(PIXELS)
}

/// The kernel, for the planner.
pub struct Argmax;

impl LayerKernel for Argmax {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if matches!(layer.op, Op::Argmax(_)) { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, layer: &Layer, _: &Machine, _: Tile) -> Effort {
        let loads = 16.0 * layer.x().quads() as f64;
        Effort::of(loads / 4.0, loads)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        launch(layer.x(), layer.y)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        reference(maps.x, layer.y)
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        Some(format!(
            "of {}x{} scores, never stored at {}x{}",
            layer.x().h,
            layer.x().w,
            layer.y.h,
            layer.y.w
        ))
    }

    fn refusal(&self, layer: &Layer) -> Option<String> {
        resize::uncountable(layer.x(), layer.y).or_else(|| too_many_classes(layer.x().c))
    }
}

/// One run over `x`, of [`NO_CLASS`] channels at most, making `y`.
pub fn launch(x: Shape, y: Shape) -> Launch {
    let threads = words(y);
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES), ("NO_CLASS", NO_CLASS.into())],
        params: vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("channels", x.c as u32),
            ("words", y.w.div_ceil(PIXELS) as u32),
            ("threads", threads as u32),
        ],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: format!("{PIXELS} px a thread"),
    }
}

/// The same in plain loops over NCHW: `[n, 1, h, w]`.
pub fn reference(x: &Tensor, y: Shape) -> Tensor {
    let channels = x.dims()[1];
    Tensor::from_fn([y.n, 1, y.h, y.w], |at| {
        let picture = at / (y.w * y.h);
        let value = |channel: usize| {
            resize::value(x, picture * channels + channel, [at / y.w % y.h, at % y.w], [y.h, y.w])
        };
        if !(0..channels).all(|channel| value(channel).is_finite()) {
            return NO_CLASS.into();
        }
        let mut best = 0;
        for channel in 1..channels {
            if value(channel) > value(best) {
                best = channel;
            }
        }
        best as f32
    })
}
