//! Softmax over runs of channels: `shaders/softmax.wgsl`.

use super::{LANES, Launch, Shader, Tier, spread};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "softmax",
    source: include_str!("../../shaders/softmax.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    sums: &["y"],
    tier: Tier::Baseline,
};

/// One run over `x`, making `y`: `[n, anchors, 1, classes]`.
pub fn launch(x: Shape, y: Shape) -> Launch {
    let padded = 4 * y.quads();
    let threads = y.n * padded;
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES)],
        params: vec![
            ("pixels", (x.h * x.w) as u32),
            ("quads", x.quads() as u32),
            ("classes", y.w as u32),
            ("each", (x.c / y.w) as u32),
            ("padded", padded as u32),
            ("threads", threads as u32),
        ],
        workgroups: spread(threads.div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "1 anchor a thread".into(),
    }
}

/// The same in plain loops over NCHW, of runs of `classes`: `[n, anchors, 1, classes]`.
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
