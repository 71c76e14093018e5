//! Max pool: `shaders/max_pool.wgsl`.

use super::{Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE, spread};
use crate::{
    Shape, Tensor,
    graph::{MaxPool, Op, Window},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "max_pool",
    source: include_str!("../../shaders/max_pool.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &[],
    tier: Tier::Baseline,
};

/// Returns the operation and its window, of a layer that the kernel has tiles for.
pub(super) fn expect_pool(layer: &Layer) -> (MaxPool, Window) {
    let Op::MaxPool(op) = *layer.op else { unreachable!("the kernel has no tiles for other operations") };
    (op, op.window(layer.x().h, layer.x().w).expect("shapes were inferred"))
}

/// The kernel as a [`LayerKernel`].
pub struct MaxPooling;

impl LayerKernel for MaxPooling {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if matches!(layer.op, Op::MaxPool(_)) && layer.int8.is_none() { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, layer: &Layer, _: &Machine, _: Tile) -> Effort {
        let side = expect_pool(layer).0.kernel;
        Effort::of(side as f64, (side * side) as f64)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        let (op, window) = expect_pool(layer);
        launch(op, layer.x(), layer.y, window)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        let (op, window) = expect_pool(layer);
        reference(op, maps.x, layer.y, window)
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        Some(format!("the largest of {0}x{0}", expect_pool(layer).0.kernel))
    }
}

/// Returns the launch that computes `y` from `x`.
pub fn launch(pool: MaxPool, x: Shape, y: Shape, window: Window) -> Launch {
    let invocations = y.pixels() * y.quads();
    Launch {
        shader: &SHADER,
        constants: vec![
            ("KERNEL", pool.kernel as u32),
            ("STRIDE", pool.stride as u32),
            ("WORKGROUP_SIZE", WORKGROUP_SIZE),
        ],
        params: vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("top", window.top as u32),
            ("left", window.left as u32),
            ("quads", y.quads() as u32),
            ("invocations", invocations as u32),
        ],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch per invocation".into(),
    }
}

/// Computes the reference in plain loops over NCHW.
pub fn reference(pool: MaxPool, x: &Tensor, y: Shape, window: Window) -> Tensor {
    let &[_, _, height, width] = x.dims() else { unreachable!("a feature map has four dimensions") };
    Tensor::from_fn([y.n, y.c, y.h, y.w], |at| {
        let (column, row, map) = (at % y.w, at / y.w % y.h, at / (y.w * y.h));
        let mut most = f32::MIN;
        for ky in 0..pool.kernel {
            for kx in 0..pool.kernel {
                let iy = (row * pool.stride + ky).checked_sub(window.top).filter(|iy| *iy < height);
                let ix = (column * pool.stride + kx).checked_sub(window.left).filter(|ix| *ix < width);
                if let (Some(iy), Some(ix)) = (iy, ix) {
                    most = most.max(x.data()[(map * height + iy) * width + ix]);
                }
            }
        }
        most
    })
}
