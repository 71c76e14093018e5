//! Channels of very different size before a depthwise layer, made more alike: a channel that is divided in the layer before it and
//! multiplied in its own leaves the network as it is, and the map between them more to tell apart ("Data-Free
//! Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721, section 4.1). Every output's weights
//! have steps of their own here, so that it costs nothing and is the map's channels, not the weights, that are made alike.
//! Halfway, by the square root of what they differ: a channel that was made as large as the largest would be cut off
//! wherever another picture has it larger. Before a pointwise layer, whose outputs read all channels with the same steps,
//! it costs more than it saves: on pictures that were not looked at torchvision's V2 was 0.088 off with the depthwise
//! layers alone, and 0.108 with both.
//!
//! Factors are powers of two: then floating point rounds nowhere, and the network's answer stays the same to the bit.

use std::sync::Arc;

use super::{draft::conv, ranges::Extent};
use crate::{
    Tensor,
    graph::{Activation, ConvKind, Graph, NodeId, Op},
};

/// How much a channel is made larger at most.
const MOST: f32 = 64.0;

/// As far as a channel before a ReLU6 is scaled up: other pictures may reach further than those that were seen, and what
/// reaches 6 is cut off.
const REACH: f32 = 3.0;

/// A layer, and the depthwise one that alone reads it.
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
        let depthwise = conv(graph, second).kind() == Some(ConvKind::Depthwise);
        let only = uses[first.index()] == 1 && !graph.is_answer(first) && graph.node(first).inputs.len() == 1;
        let Op::Conv(before) = &graph.node(first).op else { return None };
        let linear = matches!(before.activation, Activation::Identity | Activation::Relu | Activation::Relu6);
        (layers.contains(&first) && depthwise && only && linear).then_some(Pair { first, second })
    };
    layers.iter().filter_map(pair).collect()
}

/// The graph with the channels of these pairs' maps made alike, given the extents of its values.
pub(super) fn equalised(graph: &Graph, pairs: &[Pair], extents: &[Extent]) -> Graph {
    let mut graph = graph.clone();
    for &Pair { first, second } in pairs {
        let factors = factors(&graph, first, &extents[first.index()].channels);
        scale(&mut graph, first, second, &factors);
    }
    graph
}

/// What the first layer's channels are divided by.
fn factors(graph: &Graph, first: NodeId, channels: &[f32]) -> Vec<f32> {
    let largest = channels.iter().fold(f32::MIN_POSITIVE, |largest, channel| largest.max(*channel));
    let relu6 = conv(graph, first).activation == Activation::Relu6;
    let factor = |&channel: &f32| {
        // What reaches 6 is cut off there, and would be elsewhere; a dead channel has no size.
        if channel == 0.0 || (relu6 && channel >= 6.0) {
            return 1.0;
        }
        let mut factor = ((channel / largest).log2() / 2.0).round().exp2().max(1.0 / MOST);
        while relu6 && factor < 1.0 && channel / factor > REACH {
            factor *= 2.0;
        }
        factor
    };
    channels.iter().map(factor).collect()
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
        let weight = |i: usize| conv.weight.data()[i] * factors[i / each];
        conv.weight = Arc::new(Tensor::from_fn(conv.weight.dims(), weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Shape,
        cpu::{Cpu, Executor},
        graph::{Conv, Padding},
        quantize::draft,
        random::Random,
    };

    const SHAPE: Shape = Shape::new(1, 4, 6, 6);

    /// A layer whose output `o` is as large as `size(o)` says.
    fn layer(shape: [usize; 4], activation: Activation, size: impl Fn(usize) -> f32) -> Op {
        let [outputs, inputs, k, _] = shape;
        let mut random = Random::new(outputs as u64);
        let each = inputs * k * k;
        let weight = |i: usize| (random.unit() - 0.3) * size(i / each);
        let groups = if inputs == 1 { outputs } else { 1 };
        Op::Conv(Conv {
            weight: Arc::new(Tensor::from_fn(shape, weight)),
            bias: Some(Arc::new(Tensor::from_fn([outputs], |o| 0.05 * size(o)))),
            stride: 1,
            dilation: 1,
            padding: Padding::Symmetric,
            groups,
            activation,
            linear: false,
        })
    }

    /// An inverted residual with channels of very different size, and its layers.
    fn block(activation: Activation) -> (Graph, Vec<NodeId>) {
        let mut graph = Graph::default();
        let x = graph.push("x", Op::Input(4), &[]);
        let size = |o: usize| [1.0, 0.02, 0.3, 0.001, 2.0, 0.09, 0.5, 0.004][o];
        let expand = graph.push("expand", layer([8, 4, 1, 1], activation, size), &[x]);
        let depthwise = graph.push("depthwise", layer([8, 1, 3, 3], activation, |_| 0.4), &[expand]);
        let project = graph.push("project", layer([4, 8, 1, 1], Activation::Identity, |_| 1.0), &[depthwise]);
        (graph, vec![expand, depthwise, project])
    }

    fn answer(graph: &Graph, input: &Tensor) -> Tensor {
        let mut executor = Executor::new(&Cpu::new(Some(1)).unwrap(), graph, SHAPE, false).unwrap();
        executor.run(input).unwrap().remove(0)
    }

    #[test]
    fn answers_stay_the_same_to_the_bit_and_channels_become_alike() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let input = Tensor::wave(SHAPE, 0.37);
        for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
            let (graph, layers) = block(activation);
            let pairs = pairs(&graph, &layers);
            assert_eq!(pairs, [Pair { first: layers[0], second: layers[1] }], "{activation}");
            let before = draft::extents(&cpu, &graph, &[&input], |_| {}).unwrap();
            let alike = equalised(&graph, &pairs, &before);
            assert_eq!(answer(&alike, &input).data(), answer(&graph, &input).data(), "{activation}");
            let after = draft::extents(&cpu, &alike, &[&input], |_| {}).unwrap();
            let spread = |extents: &[Extent]| {
                let channels = extents[layers[0].index()].channels.iter().filter(|channel| **channel > 0.0);
                let (least, most) = channels.fold((f32::MAX, 0.0f32), |(a, b), c| (a.min(*c), b.max(*c)));
                most / least
            };
            // Halfway, to a factor of two by which two channels are rounded apart.
            assert!(spread(&after) <= 2.0 * spread(&before).sqrt(), "{activation}: {}", spread(&after));
            if activation == Activation::Relu6 {
                let most = after[layers[0].index()].channels.iter().fold(0.0f32, |most, c| most.max(*c));
                assert!(most <= 6.0);
            }
        }
    }

    #[test]
    fn maps_that_others_read_or_that_bend_are_left_alone() {
        let (graph, layers) = block(Activation::HardSwish);
        assert!(pairs(&graph, &layers).is_empty());
        let (mut graph, layers) = block(Activation::Relu);
        graph.answer("expanded", layers[0]);
        graph.answer("output", layers[2]);
        assert!(pairs(&graph, &layers).is_empty());
    }
}
