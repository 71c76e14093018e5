//! Dense convolution: `shaders/dense.wgsl`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CONV_READS, Grid, Launch, Shader, Tier, spread};
use crate::{
    Shape, Tensor,
    graph::{Conv, Window},
    tensor::Element,
};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "dense",
    source: include_str!("../../shaders/dense.wgsl"),
    reads: CONV_READS,
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Baseline,
};

/// What one thread makes, or several together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tile {
    /// Neighbouring outputs of a row.
    pub columns: u32,
    /// Output channels, in fours.
    pub quads: u32,
    /// Threads that split the inputs between them; their sums meet in workgroup memory.
    pub split: u32,
}

impl Tile {
    /// Tiles worth choosing from, largest first. Seven divides every map of a 224x224 picture.
    pub fn all() -> impl Iterator<Item = Self> {
        let sizes =
            || [8, 7, 4, 2, 1].into_iter().flat_map(|columns| [4, 3, 2, 1].map(|quads| (columns, quads)));
        let tiles = |split| sizes().map(move |(columns, quads)| Self { columns, quads, split });
        // A workgroup's memory holds no more than sixteen sums of each thread.
        tiles(1).chain(tiles(8).filter(|tile| tile.sums() <= 16))
    }

    /// `vec4` sums that a thread keeps.
    pub fn sums(self) -> u32 {
        self.columns * self.quads
    }

    /// Runs of columns in `y`.
    fn runs(self, y: Shape) -> usize {
        y.n * y.h * y.w.div_ceil(self.columns as usize)
    }

    fn grid(self, y: Shape) -> Grid {
        Grid::new(y.quads().div_ceil(self.quads as usize), self.runs(y), self.split)
    }

    /// Threads started for `y`.
    pub fn threads(self, y: Shape) -> usize {
        self.grid(y).threads()
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1x{} px x {} ch", self.columns, 4 * self.quads)?;
        if self.split > 1 { write!(f, " split over {} threads", self.split) } else { Ok(()) }
    }
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, window: Window, residual: bool, tile: Tile) -> Launch {
    let grid = tile.grid(y);
    Launch {
        shader: &SHADER,
        constants: vec![
            ("KERNEL", conv.kernel() as u32),
            ("STRIDE", conv.stride as u32),
            ("DILATION", conv.dilation as u32),
            ("COLUMNS", tile.columns),
            ("QUADS", tile.quads),
            ("LANES_O", grid.lanes_o),
            ("LANES_P", grid.lanes_p),
            ("SPLIT", tile.split),
            ("RESIDUAL", residual.into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("top", window.top as u32),
            ("left", window.left as u32),
            ("inputs", x.quads() as u32),
            ("outputs", y.quads() as u32),
            ("runs", tile.runs(y) as u32),
        ],
        workgroups: spread(grid.workgroups),
        arithmetic: Element::F32,
        tile: if tile.split > 1 { tile.to_string() } else { format!("{tile} a thread") },
    }
    .placeable()
}

/// The weights as the kernel reads them.
pub fn pack(conv: &Conv) -> Vec<f32> {
    super::blocks(&conv.weight)
}

/// The same in plain loops over NCHW.
pub fn reference(conv: &Conv, x: &Tensor, y: Shape, window: Window, residual: Option<&Tensor>) -> Tensor {
    let &[_, inputs, height, width] = x.dims() else { unreachable!("a feature map has four dimensions") };
    let kernel = conv.kernel();
    super::finish(conv, y, residual, |[n, o, row, column]| {
        let mut sum = 0.0;
        for i in 0..inputs {
            for ky in 0..kernel {
                let Some(iy) = (row * conv.stride + ky * conv.dilation).checked_sub(window.top) else {
                    continue;
                };
                for kx in 0..kernel {
                    let Some(ix) = (column * conv.stride + kx * conv.dilation).checked_sub(window.left)
                    else {
                        continue;
                    };
                    if iy < height && ix < width {
                        let pixel = x.data()[((n * inputs + i) * height + iy) * width + ix];
                        let weight = conv.weight.data()[((o * inputs + i) * kernel + ky) * kernel + kx];
                        sum += f64::from(pixel) * f64::from(weight);
                    }
                }
            }
        }
        sum
    })
}
