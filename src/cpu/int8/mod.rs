//! Int8 operations, bit-exact with the arithmetic of [`crate::graph::Affine`] and related types.

mod depthwise;
mod epilogue;
mod maps;
#[cfg(target_arch = "aarch64")]
mod neon;
mod numbers;
mod product;
mod vectors;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use maps::{quantise, value};
pub use vectors::Isa;

use super::{memory::Memory, pixelwise};
use crate::{
    Shape,
    graph::{Affine, ConcatAxis, ConvKind, Int8, MaxPool, Node, Op, Window},
};
use depthwise::Depthwise;
use maps::{Scale, Table};
use numbers::Numbers;
use product::Product;

/// An operation on int8 maps, or a conversion between int8 and f32.
pub enum Kernel {
    Product(Product),
    Depthwise(Depthwise),
    Mean([Affine; 2]),
    MaxPool(MaxPool, Window, Table),
    Scale(Scale),
    Concat(ConcatAxis, Vec<Table>),
    Quantise(Affine),
    Dequantise(Affine),
}

impl Kernel {
    /// Returns the kernel for `node` and its name, for this quantisation and inputs of these shapes.
    pub fn new(
        isa: Isa,
        node: &Node,
        inputs: &[Shape],
        quantisation: &Int8,
        memory: &mut Memory,
    ) -> Result<(Self, &'static str), String> {
        let (x, from, maps) = (inputs[0], quantisation.inputs[0], &quantisation.inputs);
        match (&node.op, quantisation.output) {
            (Op::Conv(conv), _) => {
                let window = conv.window(x.h, x.w).ok_or("its window does not fit the map")?;
                let kind = conv.kind().ok_or_else(|| node.op.unfused_error())?;
                let numbers = Numbers::new(isa, conv, quantisation)?;
                Ok(match kind {
                    ConvKind::Depthwise => {
                        let kernel = Depthwise::new(isa, conv, window, from, numbers, memory);
                        (Self::Depthwise(kernel), "depthwise int8")
                    }
                    ConvKind::Pointwise | ConvKind::Dense => {
                        let name = match kind {
                            ConvKind::Dense => "dense int8",
                            _ if x.h * x.w == 1 => "connected int8",
                            _ => "pointwise int8",
                        };
                        (Self::Product(Product::new(isa, conv, window, from, numbers, memory)), name)
                    }
                })
            }
            (Op::GlobalPool, Some(to)) => Ok((Self::Mean([from, to]), "pool int8")),
            (Op::MaxPool(pool), Some(to)) => {
                let window = pool.window(x.h, x.w).ok_or("its window does not fit the map")?;
                Ok((Self::MaxPool(*pool, window, Table::new(from, to)), "max_pool int8"))
            }
            (Op::Scale, Some(to)) => Ok((Self::Scale(Scale::new(isa, [from, maps[1], to])), "scale int8")),
            (Op::Concat(axis), Some(to)) => {
                let tables = maps.iter().map(|from| Table::new(*from, to)).collect();
                Ok((Self::Concat(*axis, tables), "concat int8"))
            }
            (op, _) => Err(op.unfused_error()),
        }
    }

    /// Bytes of its weights, biases and tables.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Product(product) => product.bytes(),
            Self::Depthwise(depthwise) => depthwise.bytes(),
            Self::MaxPool(..) => 256,
            Self::Concat(_, tables) => 256 * tables.len(),
            _ => 0,
        }
    }

    /// Computes the map of shape `y` on `threads` threads. Every map is at the start of its slot's bytes.
    pub fn run(&self, reads: &[(Shape, &[u8])], y: Shape, output: &mut [u8], threads: usize) {
        let read = |at: usize| {
            let (shape, slot) = reads[at];
            (shape, &slot[..shape.len() * if matches!(self, Self::Quantise(_)) { 4 } else { 1 }])
        };
        let output = &mut output[..y.len() * self.size()];
        let (x, input) = read(0);
        let residual = (reads.len() > 1).then(|| read(1).1);
        match self {
            Self::Product(product) => product.run(x, input, y, output, residual, threads),
            Self::Depthwise(depthwise) => depthwise.run(x, input, y, output, residual, threads),
            Self::Mean(maps) => maps::mean(*maps, x, input, output),
            Self::MaxPool(pool, window, table) => {
                pixelwise::max_pool(*pool, *window, x, input, y, output, 0, threads);
                table.apply(output);
            }
            Self::Scale(scale) => scale.run(x, input, read(1).1, output, threads),
            Self::Concat(axis, tables) => {
                let reads = (0..reads.len()).map(read);
                pixelwise::concat(*axis, reads, y, output, |at, part| tables[at].apply(part));
            }
            Self::Quantise(map) => maps::quantise(*map, bytemuck::cast_slice(input), output, threads),
            Self::Dequantise(map) => maps::dequantise(*map, input, bytemuck::cast_slice_mut(output), threads),
        }
    }

    /// Bytes per output value.
    fn size(&self) -> usize {
        match self {
            Self::Product(product) => product.size(),
            Self::Depthwise(depthwise) => depthwise.size(),
            Self::Dequantise(_) => 4,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Tensor,
        cpu::{Cpu, Executor},
        graph::{Activation, Conv, Graph, Padding},
        random::Random,
    };

    /// A random graph: a convolution with a residual, scaled by its mean.
    fn graph(random: &mut Random) -> (Graph, Shape) {
        let mut below = |n: usize| (random.unit() * n as f32) as usize;
        let (channels, by_channel, mapped) = (1 + below(100), below(2) == 0, below(4) > 0);
        let (kernel, stride) = ([1, 3, 5][below(3)], 1 + below(2));
        let shape = Shape::new(1 + below(2), channels, 1 + below(16), 1 + below(16));
        let activation =
            if mapped { Activation::ALL[below(Activation::ALL.len())] } else { Activation::Identity };
        let (outputs, groups) = if by_channel { (channels, channels) } else { (1 + below(100), 1) };
        let mut conv = |activation: Activation| {
            let weight = Tensor::from_fn([outputs, channels / groups, kernel, kernel], |_| {
                (random.unit() * 255.0).floor() - 127.0
            });
            Op::Conv(Conv {
                weight: Arc::new(weight),
                bias: Some(Arc::new(Tensor::from_fn([outputs], |i| 3.0 * i as f32))),
                stride,
                dilation: 1,
                padding: Padding::Symmetric,
                groups,
                activation,
                linear: false,
            })
        };
        let mut graph = Graph::default();
        let picture = graph.push("picture", Op::Input(channels), &[]);
        let side = graph.push("side", conv(Activation::Relu), &[picture]);
        let made = graph.push("made", conv(activation), &[picture, side]);
        let mean = graph.push("mean", Op::GlobalPool, &[made]);
        let gated = graph.push("gated", Op::Scale, &[made, mean]);
        // Scales for values that are not all zero and not all clamped.
        let reach = 30.0 * (kernel * kernel * channels / groups) as f32;
        for (id, scale, zero) in [
            (picture, 1.0 / 127.0, 3),
            (side, reach.sqrt(), -128),
            (made, reach.sqrt(), -20),
            (mean, 0.2 * reach.sqrt(), -10),
            (gated, 0.2 * reach, 7),
        ] {
            graph.node_mut(id).quantisation = Some(Affine { scale, zero });
        }
        for id in [side, made] {
            graph.node_mut(id).weight_scales = Some((0..outputs).map(|o| 1.0 + 0.1 * o as f32).collect());
        }
        if !mapped {
            graph.node_mut(made).quantisation = None;
        }
        graph.add_output("made", made);
        graph.add_output("gated", gated);
        (graph, shape)
    }

    #[test]
    fn instruction_sets_give_the_same_bits() {
        let mut random = Random::new(1);
        let cpu = Cpu::new(Some(2)).unwrap();
        for case in 0..200 {
            let (graph, shape) = graph(&mut random);
            let input = Tensor::wave(shape, 0.37 + case as f32);
            let run = |isa: Isa| {
                let cpu = Cpu { isa, ..cpu.clone() };
                Executor::new(&cpu, &graph, shape, false).unwrap().run(&input).unwrap()
            };
            let expected = run(Isa::Plain);
            for isa in Isa::all() {
                assert!(run(isa) == expected, "case {case}, {isa} of {shape}");
            }
        }
    }
}
