//! A layer, and what a kernel for one says of itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    grid::LANES,
    launch::{Launch, Shader},
    machine::{Crowd, Effort, Machine},
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind, Int8, Op, Window},
    tensor::Element,
};

/// An operation with the shapes around it: what is to be given a kernel.
#[derive(Debug, Clone)]
pub struct Layer<'a> {
    /// What it computes.
    pub op: &'a Op,
    /// The shapes of its inputs; a convolution's second is the residual.
    pub inputs: Vec<Shape>,
    /// Its output's shape.
    pub y: Shape,
    /// Rows and columns of the network's picture.
    pub picture: [usize; 2],
    /// Whether squeeze-excite's gate scales its input as that is loaded.
    pub gated: bool,
    /// What the integers around it stand for, if it is computed in them.
    pub int8: Option<Int8>,
}

impl<'a> Layer<'a> {
    /// The shape of its first input.
    pub fn x(&self) -> Shape {
        self.inputs[0]
    }

    /// Whether it adds a residual.
    pub fn residual(&self) -> bool {
        matches!(self.op, Op::Conv(_)) && self.inputs.len() > 1
    }

    /// The convolution, if it is one of this kind in floating point.
    pub(super) fn conv(&self, kind: ConvKind) -> Option<&'a Conv> {
        match self.op {
            Op::Conv(conv) if conv.kind() == Some(kind) && self.int8.is_none() => Some(conv),
            _ => None,
        }
    }

    /// The convolution, which a kernel of this kind has been asked for.
    pub(super) fn wanted(&self, kind: ConvKind) -> &'a Conv {
        self.conv(kind).expect("a kernel is only launched for layers that it has tiles for")
    }

    /// Where the convolution's windows lie.
    pub(super) fn window(&self, conv: &Conv) -> Window {
        conv.window(self.x().h, self.x().w).expect("shapes were inferred")
    }
}

/// What one invocation makes, or several together. A kernel has a meaning for each of these that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tile {
    /// Pixels, of a row.
    pub pixels: u32,
    /// Rows of them.
    pub rows: u32,
    /// Output channels, in fours.
    pub quads: u32,
    /// Invocations that split the inputs between them.
    pub split: u32,
    /// Turns of its loop that it loads for at once.
    pub depth: u32,
    /// What sums are made in: f16 only where maps and weights are.
    pub arithmetic: Element,
}

impl Tile {
    /// One `vec4` of one pixel.
    pub const ONE: Self = Self::new(1, 1);

    /// So many pixels and fours of channels, each by one invocation with f32 sums.
    pub const fn new(pixels: u32, quads: u32) -> Self {
        Self { pixels, rows: 1, quads, split: 1, depth: 1, arithmetic: Element::F32 }
    }

    /// `vec4` sums that an invocation keeps.
    pub fn sums(self) -> u32 {
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
            write!(f, " split over {} threads", self.split)?;
        }
        if self.depth > 1 {
            write!(f, ", {} turns at once", self.depth)?;
        }
        if self.arithmetic == Element::F16 { write!(f, " in f16") } else { Ok(()) }
    }
}

/// How a kernel wants a convolution's weights laid out; some have them in pieces of a size of the device's.
#[derive(Debug, Clone, Copy)]
pub struct Packing {
    /// The weights in their order, given the size.
    pub pack: fn(&Conv, u32) -> Vec<f32>,
    /// The size.
    pub side: u32,
}

impl Packing {
    /// The same on every device.
    pub const fn new(pack: fn(&Conv, u32) -> Vec<f32>) -> Self {
        Self { pack, side: 0 }
    }

    /// The weights of `conv`.
    pub fn of(self, conv: &Conv) -> Vec<f32> {
        (self.pack)(conv, self.side)
    }
}

/// The maps that a layer reads, for references: plain loops over NCHW.
#[derive(Debug, Clone, Copy)]
pub struct Maps<'a> {
    /// Its input.
    pub x: &'a Tensor,
    /// What a convolution adds before its activation.
    pub residual: Option<&'a Tensor>,
    /// What the input is scaled by.
    pub gate: Option<&'a Tensor>,
}

/// A kernel for layers of some kind, in all that planner, tuner and trust check ask of one. What it binds it says
/// by name in its shader: `x`, `weight`, `bias`, `residual`, `gate`, `anchor`.
pub trait LayerKernel: Sync {
    /// Its shader.
    fn shader(&self) -> &'static Shader;

    /// The tiles by which it can make `layer` on `machine`, largest first; none if it makes other layers.
    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile>;

    /// What one invocation does.
    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort;

    /// One run.
    fn launch(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Launch;

    /// What it starts.
    fn crowd(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Crowd {
        let workgroups = self.launch(layer, machine, tile).workgroups;
        Crowd::of(workgroups.iter().product::<u32>() as usize * LANES as usize)
    }

    /// The same in plain loops over NCHW.
    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor;

    /// How it reads weights, if there are any.
    fn packing(&self, _machine: &Machine) -> Option<Packing> {
        None
    }

    /// What it binds of a layer in integers that is no map, by name; what it then does not read is left out.
    fn words(&self, _layer: &Layer, _machine: &Machine, _tile: Tile) -> Vec<(&'static str, Vec<u32>)> {
        Vec::new()
    }

    /// A tile of its own in words.
    fn describe(&self, tile: Tile) -> String {
        tile.to_string()
    }

    /// What it does, where there is nothing to choose.
    fn purpose(&self, _layer: &Layer) -> Option<String> {
        None
    }

    /// Why it cannot make a layer of its kind.
    fn refusal(&self, _layer: &Layer) -> Option<String> {
        None
    }
}

/// What every convolution's reference does with its sums: bias, residual, activation.
/// `sum` is asked for `[picture, output channel, row, column]`.
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
