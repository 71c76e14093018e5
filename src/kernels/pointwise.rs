//! Pointwise convolution as a matrix product tiled over registers: `shaders/pointwise.wgsl`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Grid, Launch, Shader, Tier, spread};
use crate::{Shape, Tensor, graph::Conv, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pointwise",
    source: include_str!("../../shaders/pointwise.wgsl"),
    reads: &["x", "weight", "bias", "residual", "gate"],
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Baseline,
};

/// What one thread makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tile {
    /// Pixels.
    pub pixels: u32,
    /// Output channels, in fours.
    pub quads: u32,
    /// What sums are made in: f16 only where maps and weights are.
    pub arithmetic: Element,
}

impl Tile {
    /// Tiles worth choosing from, largest first: many pixels save loads of weights, many quads
    /// loads of x. Seven divides every map of a 224x224 picture. Where maps and weights are f16,
    /// each comes twice: with f32 sums, and with f16 sums.
    pub fn all(element: Element) -> impl Iterator<Item = Self> {
        let arithmetics =
            [Element::F32, Element::F16].into_iter().take(if element == Element::F16 { 2 } else { 1 });
        let sizes =
            || [8, 7, 4, 2, 1].into_iter().flat_map(|pixels| [4, 3, 2, 1].map(|quads| (pixels, quads)));
        arithmetics.flat_map(move |arithmetic| {
            sizes().map(move |(pixels, quads)| Self { pixels, quads, arithmetic })
        })
    }

    /// `vec4` sums that a thread keeps.
    pub fn sums(self) -> u32 {
        self.pixels * self.quads
    }

    fn grid(self, pixels: usize, outputs: usize) -> Grid {
        Grid::new(outputs.div_ceil(self.quads as usize), pixels.div_ceil(self.pixels as usize), 1)
    }

    /// Threads started for `pixels` x `outputs` quads.
    pub fn threads(self, pixels: usize, outputs: usize) -> usize {
        self.grid(pixels, outputs).threads()
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} px x {} ch", self.pixels, 4 * self.quads)?;
        if self.arithmetic == Element::F16 { write!(f, " in f16") } else { Ok(()) }
    }
}

/// What a pointwise convolution reads besides `x`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// A map to add before the activation.
    pub residual: bool,
    /// Squeeze-excite's gate, to scale `x` by as it is loaded.
    pub gate: bool,
}

/// The parameters of every kernel that is a product of pixels by channels.
pub(super) fn params(x: Shape, y: Shape) -> Vec<(&'static str, u32)> {
    vec![
        ("pixels", y.pixels() as u32),
        ("picture", (y.h * y.w) as u32),
        ("inputs", x.quads() as u32),
        ("outputs", y.quads() as u32),
    ]
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, extras: Extras, tile: Tile) -> Launch {
    let grid = tile.grid(y.pixels(), y.quads());
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("QUADS", tile.quads),
            ("LANES_O", grid.lanes_o),
            ("LANES_P", grid.lanes_p),
            ("RESIDUAL", extras.residual.into()),
            ("GATED", extras.gate.into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: params(x, y),
        workgroups: spread(grid.workgroups),
        arithmetic: tile.arithmetic,
        tile: format!("{tile} a thread"),
    }
    .placeable()
}

/// The weights as the kernel reads them.
pub fn pack(conv: &Conv) -> Vec<f32> {
    super::blocks(&conv.weight)
}

/// The same in plain loops over NCHW.
pub fn reference(conv: &Conv, x: &Tensor, y: Shape, residual: Option<&Tensor>) -> Tensor {
    let inputs = conv.inputs();
    let pixels = y.h * y.w;
    super::finish(conv, y, residual, |[n, o, row, column]| {
        (0..inputs)
            .map(|i| {
                let pixel = x.data()[(n * inputs + i) * pixels + row * y.w + column];
                f64::from(pixel) * f64::from(conv.weight.data()[o * inputs + i])
            })
            .sum()
    })
}
