//! Softmax over runs of channels: `shaders/softmax.wgsl`.

use super::{Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE, spread};
use crate::{Shape, Tensor, graph::Op, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "softmax",
    source: include_str!("../../shaders/softmax.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["y"],
    tier: Tier::Baseline,
};

/// The kernel as a [`LayerKernel`].
pub struct Softmax;

impl LayerKernel for Softmax {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if matches!(layer.op, Op::Softmax(_)) { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, layer: &Layer, _: &Machine, _: Tile) -> Effort {
        let loads = 3.0 * layer.y.w as f64;
        Effort::of(loads, loads)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        launch(layer.x(), layer.y)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        reference(maps.x, layer.y.w)
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        Some(format!("runs of {} classes", layer.y.w))
    }
}

/// Returns the launch that computes `y`, `[n, anchors, 1, classes]`, from `x`.
pub fn launch(x: Shape, y: Shape) -> Launch {
    let padded = 4 * y.quads();
    let invocations = y.n * padded;
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![
            ("picture_pixels", (x.h * x.w) as u32),
            ("quads", x.quads() as u32),
            ("classes", y.w as u32),
            ("each", (x.c / y.w) as u32),
            ("padded", padded as u32),
            ("invocations", invocations as u32),
        ],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 anchor per invocation".into(),
    }
}

/// Computes the reference in plain loops over NCHW, for runs of `classes`: `[n, anchors, 1, classes]`.
pub fn reference(x: &Tensor, classes: usize) -> Tensor {
    let &[n, c, h, w] = x.dims() else { unreachable!("a feature map has four dimensions") };
    let (pixels, each) = (h * w, c / classes);
    Tensor::from_fn([n, pixels * each, 1, classes], |at| {
        let (class, anchor, picture) =
            (at % classes, at / classes % (pixels * each), at / (classes * pixels * each));
        let value = |class: usize| {
            let channel = anchor % each * classes + class;
            f64::from(x.data()[(picture * c + channel) * pixels + anchor / each])
        };
        let most = (0..classes).map(value).fold(f64::MIN, f64::max);
        let sum: f64 = (0..classes).map(|class| (value(class) - most).exp()).sum();
        ((value(class) - most).exp() / sum) as f32
    })
}
