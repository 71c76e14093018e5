//! A layer, and the interface of its kernels.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    launch::{Launch, Shader},
    machine::{Effort, Footprint, Machine},
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind, Int8, Op, Window},
    tensor::Element,
};

/// An operation with the shapes around it, for which a kernel is chosen.
#[derive(Debug, Clone)]
pub struct Layer<'a> {
    /// The operation.
    pub op: &'a Op,
    /// The shapes of its inputs; a convolution's second is the residual.
    pub inputs: Vec<Shape>,
    /// Its output's shape.
    pub y: Shape,
    /// Height and width of the network's picture.
    pub picture: [usize; 2],
    /// True if its input is scaled by squeeze-excite's gate while it is loaded.
    pub gated: bool,
    /// The quantisation of its maps and weights, if it is computed in int8.
    pub int8: Option<Int8>,
}

impl<'a> Layer<'a> {
    /// Returns the shape of its first input.
    pub fn x(&self) -> Shape {
        self.inputs[0]
    }

    /// Returns whether it adds a residual.
    pub fn residual(&self) -> bool {
        matches!(self.op, Op::Conv(_)) && self.inputs.len() > 1
    }

    /// Returns the convolution, if it is one of this kind in floating point.
    pub(super) fn conv(&self, kind: ConvKind) -> Option<&'a Conv> {
        match self.op {
            Op::Conv(conv) if conv.kind() == Some(kind) && self.int8.is_none() => Some(conv),
            _ => None,
        }
    }

    /// Returns the convolution of a layer that a kernel for this kind has tiles for.
    pub(super) fn expect_conv(&self, kind: ConvKind) -> &'a Conv {
        self.conv(kind).expect("a kernel is only launched for layers that it has tiles for")
    }

    /// Returns the convolution's window.
    pub(super) fn window(&self, conv: &Conv) -> Window {
        conv.window(self.x().h, self.x().w).expect("shapes were inferred")
    }
}

/// The outputs of one invocation, or of several together. The meaning of the fields depends on the kernel,
/// which may ignore some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tile {
    /// Pixels of a row.
    pub pixels: u32,
    /// Rows.
    pub rows: u32,
    /// Quads of output channels.
    pub quads: u32,
    /// Invocations that split the inputs (split-K).
    pub split: u32,
    /// Iterations of its loop whose loads are in flight together.
    pub depth: u32,
    /// The type of the accumulators: f16 only if maps and weights are f16.
    pub arithmetic: Element,
}

impl Tile {
    /// One `vec4` of one pixel.
    pub const ONE: Self = Self::new(1, 1);

    /// Returns a tile of one invocation with f32 accumulators.
    pub const fn new(pixels: u32, quads: u32) -> Self {
        Self { pixels, rows: 1, quads, split: 1, depth: 1, arithmetic: Element::F32 }
    }

    /// Returns the number of an invocation's `vec4` accumulators.
    pub fn accumulators(self) -> u32 {
        self.pixels * self.rows * self.quads
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows > 1 {
            write!(f, "{}x", self.rows)?;
        }
        write!(f, "{} px x {} ch", self.pixels, 4 * self.quads)?;
        if self.split > 1 {
            write!(f, " split over {} invocations", self.split)?;
        }
        if self.depth > 1 {
            write!(f, ", depth {}", self.depth)?;
        }
        if self.arithmetic == Element::F16 { write!(f, " in f16") } else { Ok(()) }
    }
}

/// The layout of a convolution's weights for a kernel. It may depend on the side of the device's matrices.
#[derive(Debug, Clone, Copy)]
pub struct Packing {
    /// Packs the weights, given the side.
    pub pack: fn(&Conv, u32) -> Vec<f32>,
    /// The side of the device's matrices; 0 if the layout does not depend on it.
    pub side: u32,
}

impl Packing {
    /// Returns a layout that is the same on every device.
    pub const fn new(pack: fn(&Conv, u32) -> Vec<f32>) -> Self {
        Self { pack, side: 0 }
    }

    /// Packs the weights of `conv`.
    pub fn of(self, conv: &Conv) -> Vec<f32> {
        (self.pack)(conv, self.side)
    }
}

/// The maps that a layer reads, for references, which are plain loops over NCHW.
#[derive(Debug, Clone, Copy)]
pub struct Maps<'a> {
    /// The input.
    pub x: &'a Tensor,
    /// The map that a convolution adds before its activation.
    pub residual: Option<&'a Tensor>,
    /// The gate that scales the input.
    pub gate: Option<&'a Tensor>,
}

/// A kernel for layers of one kind: the interface for planner, tuner and trust check. The names of its
/// shader's bindings select the buffers to bind: `x`, `weight`, `bias`, `residual`, `gate`, `anchor`.
pub trait LayerKernel: Sync {
    /// Returns its shader.
    fn shader(&self) -> &'static Shader;

    /// Returns the tiles with which it can compute `layer` on `machine`, largest first; none for layers of
    /// another kind.
    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile>;

    /// Returns the effort of an invocation.
    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort;

    /// Returns the launch.
    fn launch(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Launch;

    /// Returns the size and the resources of the dispatch.
    fn footprint(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Footprint {
        self.launch(layer, machine, tile).footprint()
    }

    /// Computes the layer in plain loops over NCHW.
    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor;

    /// Returns the layout of its weights, if it has any.
    fn packing(&self, _machine: &Machine) -> Option<Packing> {
        None
    }

    /// Returns the words that it binds for an int8 layer, by the binding's name: weights, output parameters,
    /// and the lookup table of an activation that needs one. Bindings that it does not read are left out.
    fn words(&self, _layer: &Layer, _machine: &Machine, _tile: Tile) -> Vec<(&'static str, Vec<u32>)> {
        Vec::new()
    }

    /// Describes a tile.
    fn describe(&self, tile: Tile) -> String {
        tile.to_string()
    }

    /// Describes its operation. Plans give this as the reason for a step; without it, they give the number of
    /// invocations.
    fn purpose(&self, _layer: &Layer) -> Option<String> {
        None
    }

    /// Returns the reason why it cannot compute a layer of its kind, if it cannot.
    fn refusal(&self, _layer: &Layer) -> Option<String> {
        None
    }
}

/// The epilogue of every convolution's reference: bias, residual, activation. `sum` is called with
/// `[picture, output channel, row, column]`.
pub(super) fn finish(
    conv: &Conv,
    shape: Shape,
    residual: Option<&Tensor>,
    sum: impl Fn([usize; 4]) -> f64,
) -> Tensor {
    Tensor::from_fn([shape.n, shape.c, shape.h, shape.w], |at| {
        let column = at % shape.w;
        let row = at / shape.w % shape.h;
        let channel = at / (shape.w * shape.h) % shape.c;
        let picture = at / (shape.w * shape.h * shape.c);
        let bias = conv.bias.as_ref().map_or(0.0, |b| f64::from(b.data()[channel]));
        let residual = residual.map_or(0.0, |r| f64::from(r.data()[at]));
        conv.activation.apply((sum([picture, channel, row, column]) + bias + residual) as f32)
    })
}
