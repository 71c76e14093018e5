//! Pointwise convolution as a matrix product tiled over registers: `shaders/pointwise.wgsl`.

use super::{LANES, Launch, Shader, spread};
use crate::{Shape, Tensor, graph::Conv};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "pointwise",
    source: include_str!("../../shaders/pointwise.wgsl"),
    reads: &["x", "weight", "bias", "residual", "gate"],
    writes: &["y"],
    sums: &["bias"],
};

/// What one thread makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Pixels.
    pub pixels: u32,
    /// Output channels, in fours.
    pub quads: u32,
}

impl Tile {
    /// Tiles worth choosing from, largest first. Sixteen sums are what registers hold without
    /// spilling on every GPU known to us; a wide tile saves loads of x, a tall one of weights.
    pub const ALL: [Self; 8] = [
        Self { pixels: 4, quads: 4 },
        Self { pixels: 4, quads: 3 },
        Self { pixels: 4, quads: 2 },
        Self { pixels: 2, quads: 2 },
        Self { pixels: 4, quads: 1 },
        Self { pixels: 1, quads: 4 },
        Self { pixels: 2, quads: 1 },
        Self { pixels: 1, quads: 1 },
    ];

    /// Threads along the outputs: as many as there is work for, eight at most.
    fn lanes_o(self, outputs: usize) -> u32 {
        (outputs as u32).div_ceil(self.quads).next_power_of_two().min(8)
    }

    /// Threads that have something to make of `pixels` x `outputs` quads.
    pub fn threads(self, pixels: usize, outputs: usize) -> usize {
        pixels.div_ceil(self.pixels as usize) * outputs.div_ceil(self.quads as usize)
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

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, extras: Extras, tile: Tile) -> Launch {
    let lanes_o = tile.lanes_o(y.quads());
    let lanes_p = LANES / lanes_o;
    let across = y.quads().div_ceil((lanes_o * tile.quads) as usize);
    let down = y.pixels().div_ceil((lanes_p * tile.pixels) as usize);
    Launch {
        shader: &SHADER,
        constants: vec![
            ("PIXELS", tile.pixels),
            ("QUADS", tile.quads),
            ("LANES_O", lanes_o),
            ("LANES_P", lanes_p),
            ("RESIDUAL", extras.residual.into()),
            ("GATED", extras.gate.into()),
            ("ACTIVATION", conv.activation.code()),
        ],
        params: vec![
            ("pixels", y.pixels() as u32),
            ("picture", (y.h * y.w) as u32),
            ("inputs", x.quads() as u32),
            ("outputs", y.quads() as u32),
        ],
        workgroups: spread(across * down),
        tile: format!("{} px x {} ch a thread", tile.pixels, tile.quads * 4),
    }
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
