//! Channels of very different size between two layers, made alike: a channel that is divided in the first layer and
//! multiplied in the second leaves the network as it is, and its map more to tell apart ("Data-Free Quantization Through
//! Weight Equalization and Bias Correction", arXiv 1906.04721, section 4.1). Steps of weights are an output's own here, so
//! that it is the map's channels that are balanced with the weights that read them, as in arXiv 2211.10438. Factors
//! are powers of two: then floating point rounds nowhere, and the network's answer stays the same to the bit.

use std::sync::Arc;

use super::{draft::conv, ranges::Extent};
use crate::{
    Tensor,
    graph::{Activation, ConvKind, Graph, NodeId, Op},
};

/// How far a channel is scaled at most, either way.
const MOST: f32 = 64.0;

/// As far as a channel before a ReLU6 is scaled up: other pictures may reach further than those that were seen, and what
/// reaches 6 is cut off.
const REACH: f32 = 4.5;

/// A layer, and the only one that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub first: NodeId,
    pub second: NodeId,
}

/// The pairs of `layers` whose map may be scaled: nobody else reads it, and the activation between them is the same
/// function of a scaled value.
pub(super) fn pairs(graph: &Graph, layers: &[NodeId]) -> Vec<Pair> {
    let uses = graph.uses();
    let pair = |&second: &NodeId| {
        let first = graph.node(second).inputs[0];
        let scales = matches!(conv(graph, second).kind(), Some(ConvKind::Depthwise | ConvKind::Pointwise));
        let only = uses[first.index()] == 1 && !graph.is_answer(first) && graph.node(first).inputs.len() == 1;
        let Op::Conv(before) = &graph.node(first).op else { return None };
        let linear = matches!(before.activation, Activation::Identity | Activation::Relu | Activation::Relu6);
        (layers.contains(&first) && scales && only && linear).then_some(Pair { first, second })
    };
    layers.iter().filter_map(pair).collect()
}

/// The graph with the channels of these pairs' maps made alike, given the extents of its values.
pub(super) fn equalised(graph: &Graph, pairs: &[Pair], extents: &[Extent]) -> Graph {
    let mut graph = graph.clone();
    for &Pair { first, second } in pairs {
        let factors = factors(&graph, first, second, &extents[first.index()].channels);
        scale(&mut graph, first, second, &factors);
    }
    graph
}

/// What the first layer's channels are divided by.
fn factors(graph: &Graph, first: NodeId, second: NodeId, channels: &[f32]) -> Vec<f32> {
    let (before, behind) = (conv(graph, first), conv(graph, second));
    let of_channel = |c: usize| match behind.kind() {
        // Each has steps of its own, whatever its size is.
        Some(ConvKind::Depthwise) => 1.0,
        _ => {
            let column = behind.weight.data().iter().skip(c).step_by(channels.len());
            column.fold(0.0f32, |largest, weight| largest.max(weight.abs()))
        }
    };
    let weights: Vec<f32> = (0..channels.len()).map(of_channel).collect();
    let largest = |values: &[f32]| values.iter().fold(f32::MIN_POSITIVE, |largest, v| largest.max(*v));
    let (all_channels, all_weights) = (largest(channels), largest(&weights));
    let relu6 = before.activation == Activation::Relu6;
    let factor = |(&channel, &weight): (&f32, &f32)| {
        // What reaches 6 is cut off there, and would be elsewhere; a dead channel has no size.
        if channel == 0.0 || weight == 0.0 || (relu6 && channel >= 6.0) {
            return 1.0;
        }
        let (channel_share, weight_share) = (channel / all_channels, weight / all_weights);
        let wanted = match behind.kind() {
            Some(ConvKind::Depthwise) => channel_share,
            _ => (channel_share / weight_share).sqrt(),
        };
        let mut factor = wanted.log2().round().exp2().clamp(1.0 / MOST, MOST);
        while relu6 && factor < 1.0 && channel / factor > REACH {
            factor *= 2.0;
        }
        factor
    };
    channels.iter().zip(&weights).map(factor).collect()
}

/// Divides what the first layer makes by a factor for each channel, and has the second take that into account.
fn scale(graph: &mut Graph, first: NodeId, second: NodeId, factors: &[f32]) {
    if let Op::Conv(conv) = &mut graph.node_mut(first).op {
        let each = conv.weight.data().len() / factors.len();
        let weight = |i: usize| conv.weight.data()[i] / factors[i / each];
        let bias =
            |bias: &Arc<Tensor>| Arc::new(Tensor::from_fn(bias.dims(), |c| bias.data()[c] / factors[c]));
        conv.weight = Arc::new(Tensor::from_fn(conv.weight.dims(), weight));
        conv.bias = conv.bias.as_ref().map(bias);
    }
    if let Op::Conv(conv) = &mut graph.node_mut(second).op {
        let each = conv.weight.data().len() / factors.len();
        let depthwise = conv.kind() == Some(ConvKind::Depthwise);
        let channel = |i: usize| if depthwise { i / each } else { i % factors.len() };
        let weight = |i: usize| conv.weight.data()[i] * factors[channel(i)];
        conv.weight = Arc::new(Tensor::from_fn(conv.weight.dims(), weight));
    }
}
