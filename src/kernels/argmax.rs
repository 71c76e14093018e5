//! The channel with the largest value at each pixel of a map resized bilinearly: `shaders/argmax.wgsl`.

use super::{
    Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE, resize, spread,
};
use crate::{
    Shape, Tensor,
    graph::{NO_CLASS, Op, too_many_classes},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "argmax",
    source: include_str!("../../shaders/argmax.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["y"],
    tier: Tier::Baseline,
};

/// Pixels per word, one byte each.
const PIXELS: usize = 4;

/// Returns the number of words of a label map of shape `y`. Each row starts a new word.
pub const fn words(y: Shape) -> usize {
    y.n * y.h * y.w.div_ceil(PIXELS)
}

/// The kernel as a [`LayerKernel`].
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
            "scales {}x{} scores to {}x{} without storing them",
            layer.x().h,
            layer.x().w,
            layer.y.h,
            layer.y.w
        ))
    }

    fn refusal(&self, layer: &Layer) -> Option<String> {
        resize::position_overflow(layer.x(), layer.y).or_else(|| too_many_classes(layer.x().c))
    }
}

/// Returns the launch that computes `y` from `x`, which has [`NO_CLASS`] channels at most.
pub fn launch(x: Shape, y: Shape) -> Launch {
    let invocations = words(y);
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE), ("NO_CLASS", NO_CLASS.into())],
        params: vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("channels", x.c as u32),
            ("words", y.w.div_ceil(PIXELS) as u32),
            ("invocations", invocations as u32),
        ],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: format!("{PIXELS} px per invocation"),
    }
}

/// Computes the reference in plain loops over NCHW: `[n, 1, h, w]`.
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
