//! Operation counts of a graph: the figures that papers quote.

use std::ops::{Add, AddAssign};

use super::{Graph, NodeId, Op};
use crate::Shape;

/// The counts of one node, or their sum over several nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Multiply-adds of convolutions and fully connected layers, including those of squeeze-excite.
    pub macs: u64,
    /// Learnt values: weights, biases, batch norm's scale and offset.
    pub parameters: u64,
    /// Compulsory memory traffic in bytes: inputs, learnt values and output, in f32 or int8.
    pub bytes: u64,
}

impl Add for Cost {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self {
            macs: self.macs + o.macs,
            parameters: self.parameters + o.parameters,
            bytes: self.bytes + o.bytes,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Self::add)
    }
}

impl Graph {
    /// The cost of every node, given every node's shape ([`Graph::shapes`]).
    pub fn costs(&self, shapes: &[Shape]) -> Vec<Cost> {
        self.nodes()
            .map(|(id, node)| {
                let y = shapes[id.index()];
                let (macs, parameters) = match &node.op {
                    Op::Conv(conv) => {
                        let weights = conv.weight.data().len();
                        let biases = conv.bias.as_ref().map_or(0, |b| b.data().len());
                        (y.pixels() * weights, weights + biases)
                    }
                    Op::BatchNorm(norm) => (0, 2 * norm.gamma.data().len()),
                    _ => (0, 0),
                };
                let map = |id: NodeId| {
                    shapes[id.index()].len() * if self.node(id).quantisation.is_some() { 1 } else { 4 }
                };
                let maps: usize = node.reads().iter().map(|id| map(*id)).sum::<usize>() + map(id);
                let parameter = if self.int8(id).is_some() { 1 } else { 4 };
                Cost {
                    macs: macs as u64,
                    parameters: parameters as u64,
                    bytes: (maps + parameter * parameters) as u64,
                }
            })
            .collect()
    }
}
