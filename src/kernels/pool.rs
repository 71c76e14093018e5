//! Global average pool: `shaders/pool.wgsl`.

use super::{Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE, spread};
use crate::{Shape, Tensor, graph::Op, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "pool",
    source: include_str!("../../shaders/pool.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &[],
    tier: Tier::Baseline,
};

/// Invocations along the channels; the rest of the workgroup splits the pixels.
const WORKGROUP_Q: u32 = 8;

/// Pixels whose loads an invocation has in flight together.
const DEPTH: u32 = 4;

/// The kernel as a [`LayerKernel`].
pub struct Pool;

impl LayerKernel for Pool {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if matches!(layer.op, Op::GlobalPool) && layer.int8.is_none() { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, layer: &Layer, _: &Machine, _: Tile) -> Effort {
        let share = (layer.x().h * layer.x().w).div_ceil((WORKGROUP_SIZE / WORKGROUP_Q) as usize) as f64;
        let combine = Effort {
            shared: 1.0 + f64::from(WORKGROUP_SIZE / WORKGROUP_Q),
            barriers: 1.0,
            ..Effort::default()
        };
        combine + Effort::of((share / f64::from(DEPTH)).ceil(), 1.0 + share)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        launch(layer.x())
    }

    fn reference(&self, _: &Layer, maps: Maps) -> Tensor {
        reference(maps.x)
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        Some(format!("{} pixels to one", layer.x().h * layer.x().w))
    }
}

/// Returns the launch over `x`.
pub fn launch(x: Shape) -> Launch {
    let workgroup_p = WORKGROUP_SIZE / WORKGROUP_Q;
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_Q", WORKGROUP_Q), ("WORKGROUP_P", workgroup_p), ("DEPTH", DEPTH)],
        params: vec![
            ("pictures", x.n as u32),
            ("picture_pixels", (x.h * x.w) as u32),
            ("quads", x.quads() as u32),
        ],
        workgroups: spread(x.n * x.quads().div_ceil(WORKGROUP_Q as usize)),
        arithmetic: Element::F32,
        tile: format!("4 ch split over {workgroup_p} invocations"),
    }
}

/// Computes the reference in plain loops over NCHW.
pub fn reference(x: &Tensor) -> Tensor {
    let &[n, c, h, w] = x.dims() else { unreachable!("a feature map has four dimensions") };
    Tensor::from_fn([n, c, 1, 1], |at| {
        let channel = &x.data()[at * h * w..(at + 1) * h * w];
        (channel.iter().map(|&v| f64::from(v)).sum::<f64>() / (h * w) as f64) as f32
    })
}
