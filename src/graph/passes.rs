//! Graph rewrites that remove nodes but do not change the outputs. A node that absorbs another also takes
//! over its layer names.

use std::sync::Arc;

use super::{Activation, BatchNorm, Conv, Graph, Node, NodeId, Op};
use crate::Tensor;

/// The graph as it runs: nodes that no output depends on are removed, and the others are lowered and fused.
/// With `whole`, nodes that no output depends on are kept, unless they are post-processing.
pub fn prepared(graph: &Graph, whole: bool) -> Graph {
    optimise(&keep(graph, |id, op| graph.is_output(id) || (whole && !op.is_post_processing())))
}

/// Runs all lowering and fusion passes, in an order in which each enables the next.
pub fn optimise(graph: &Graph) -> Graph {
    let graph = fold_batch_norm(&lower(graph));
    // Activations between a convolution and a sum must be fused before the sum, and activations after the sum
    // only after it.
    let graph = fuse_activation(&graph);
    let graph = fuse_residual(&graph);
    fuse_activation(&graph)
}

/// Removes nodes that no output depends on.
pub fn prune(graph: &Graph) -> Graph {
    keep(graph, |id, _| graph.is_output(id))
}

/// Keeps the `wanted` nodes and those that they depend on.
fn keep(graph: &Graph, wanted: impl Fn(NodeId, &Op) -> bool) -> Graph {
    let mut needed = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes().rev() {
        // The input stays, even if nothing reads it.
        needed[id.index()] |= wanted(id, &node.op) || matches!(node.op, Op::Input(_));
        if needed[id.index()] {
            node.inputs.iter().for_each(|input| needed[input.index()] = true);
        }
    }
    let (mut kept, mut new_index) = (Vec::new(), Vec::new());
    for ((_, node), needed) in graph.nodes().zip(needed) {
        new_index.push(kept.len());
        if needed {
            kept.push(node.clone());
        }
    }
    rebuilt(graph, kept, &new_index)
}

/// Lowers fixed filters to depthwise convolutions.
pub fn lower(graph: &Graph) -> Graph {
    let mut lowered = graph.clone();
    for node in &mut lowered.nodes {
        if let Op::Filter(filter) = &node.op {
            node.op = Op::Conv(filter.conv());
        }
    }
    lowered
}

/// Folds batch norm into the preceding convolution's weights and bias.
pub fn fold_batch_norm(graph: &Graph) -> Graph {
    absorb(graph, |node, _, conv, inputs| match &node.op {
        // The norm would also apply to a residual.
        Op::BatchNorm(norm) if conv.activation == Activation::Identity && inputs.len() == 1 => {
            fold(conv, norm)
        }
        _ => None,
    })
}

/// Fuses activations into the preceding convolution.
pub fn fuse_activation(graph: &Graph) -> Graph {
    absorb(graph, |node, _, conv, _| match node.op {
        Op::Activation(activation) if conv.activation == Activation::Identity => {
            Some(Conv { activation, ..conv.clone() })
        }
        _ => None,
    })
}

/// Fuses a sum into the convolution that computes its later operand; the other operand becomes
/// that convolution's second input.
pub fn fuse_residual(graph: &Graph) -> Graph {
    absorb(graph, |node, producer, conv, inputs| match node.op {
        Op::Add if conv.activation == Activation::Identity && inputs.len() == 1 => {
            let other = node.inputs.iter().find(|&&id| id != producer)?;
            inputs.push(*other);
            Some(conv.clone())
        }
        _ => None,
    })
}

/// Rebuilds `graph`, trying to merge each node into the convolution that computes its latest input, if that
/// convolution has no other reader. `merge` receives the node, its producer's id, the convolution, and the
/// convolution's inputs (ids of `graph`), and returns the merged convolution.
fn absorb(
    graph: &Graph,
    mut merge: impl FnMut(&Node, NodeId, &Conv, &mut Vec<NodeId>) -> Option<Conv>,
) -> Graph {
    let uses = graph.uses();
    // The inputs of `kept` nodes are still ids of `graph`.
    let mut kept: Vec<Node> = Vec::new();
    let mut new_index: Vec<usize> = Vec::new();
    for (_, node) in graph.nodes() {
        let producer = node.inputs.iter().max().copied().filter(|id| uses[id.index()] == 1);
        let merged = producer.and_then(|id| {
            let target = &mut kept[new_index[id.index()]];
            let Op::Conv(conv) = &target.op else { return None };
            let merged = merge(node, id, conv, &mut target.inputs)?;
            // The scales do not apply to folded weights.
            target.weight_scales.take_if(|_| !Arc::ptr_eq(&merged.weight, &conv.weight));
            target.op = Op::Conv(merged);
            target.layers.extend(node.layers.iter().cloned());
            target.quantisation = node.quantisation;
            Some(new_index[id.index()])
        });
        new_index.push(merged.unwrap_or_else(|| {
            kept.push(node.clone());
            kept.len() - 1
        }));
    }
    rebuilt(graph, kept, &new_index)
}

/// Builds a graph from `nodes`, whose inputs are still ids of `graph`; `new_index` maps these ids to
/// indices in `nodes`.
fn rebuilt(graph: &Graph, nodes: Vec<Node>, new_index: &[usize]) -> Graph {
    let moved = |id: NodeId| NodeId(new_index[id.index()]);
    let mut rebuilt = Graph::default();
    for mut node in nodes {
        node.inputs.iter_mut().for_each(|input| *input = moved(*input));
        rebuilt.push_node(node);
    }
    rebuilt.flat = graph.flat;
    // Made explicit: the last node of `nodes` may be another.
    rebuilt.outputs = graph.outputs().into_iter().map(|(name, id)| (name.to_owned(), moved(id))).collect();
    rebuilt
}

/// `gamma (conv(x) + b - mean) / sqrt(variance + eps) + beta` as one convolution. Computed
/// in f64, so that the only error is the final rounding. None if they have different numbers of channels.
fn fold(conv: &Conv, norm: &BatchNorm) -> Option<Conv> {
    let outputs = conv.outputs();
    if norm.channels() != Some(outputs) {
        return None;
    }
    let scale: Vec<f64> = (0..outputs)
        .map(|o| f64::from(norm.gamma.data()[o]) / (f64::from(norm.variance.data()[o]) + norm.epsilon).sqrt())
        .collect();
    let per_output = conv.weight.data().len() / outputs;
    let weight = Tensor::from_fn(conv.weight.dims(), |i| {
        (f64::from(conv.weight.data()[i]) * scale[i / per_output]) as f32
    });
    let bias = Tensor::from_fn([outputs], |o| {
        let bias = conv.bias.as_ref().map_or(0.0, |b| f64::from(b.data()[o]));
        (f64::from(norm.beta.data()[o]) + (bias - f64::from(norm.mean.data()[o])) * scale[o]) as f32
    });
    Some(Conv { weight: Arc::new(weight), bias: Some(Arc::new(bias)), ..conv.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Padding;

    fn conv(outputs: usize, inputs: usize) -> Op {
        Op::Conv(Conv {
            weight: Arc::new(Tensor::from_fn([outputs, inputs, 1, 1], |i| i as f32 + 1.0)),
            bias: None,
            stride: 1,
            dilation: 1,
            padding: Padding::Symmetric,
            groups: 1,
            activation: Activation::Identity,
            linear: false,
        })
    }

    fn vector(values: &[f32]) -> Arc<Tensor> {
        Arc::new(Tensor::from_fn([values.len()], |i| values[i]))
    }

    #[test]
    fn an_inverted_residual_becomes_two_convolutions_and_keeps_every_name() {
        let mut g = Graph::default();
        let x = g.push("x", Op::Input(2), &[]);
        let expand = g.push("expand", conv(3, 2), &[x]);
        let act = g.push("act", Op::Activation(Activation::Relu6), &[expand]);
        let project = g.push("project", conv(2, 3), &[act]);
        let norm = BatchNorm {
            gamma: vector(&[2.0, 1.0]),
            beta: vector(&[0.5, 0.0]),
            mean: vector(&[1.0, 0.0]),
            variance: vector(&[3.0, 0.0]),
            epsilon: 1.0,
        };
        let bn = g.push("bn", Op::BatchNorm(norm), &[project]);
        g.push("block", Op::Add, &[x, bn]);

        let g = optimise(&g);
        let nodes: Vec<&Node> = g.nodes().map(|(_, n)| n).collect();
        assert_eq!(nodes.len(), 3);
        assert_eq!(nodes[1].layers, ["expand", "act"]);
        assert_eq!(nodes[2].layers, ["project", "bn", "block"]);
        assert_eq!(nodes[2].inputs, [NodeId(1), NodeId(0)]);
        let Op::Conv(project) = &nodes[2].op else { panic!("not a convolution") };
        // gamma / sqrt(var + eps) is 1 for both channels; the bias is beta - mean.
        assert_eq!(project.weight.data(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(project.bias.as_ref().unwrap().data(), [-0.5, 0.0]);
    }

    fn norm(gamma: f32, channels: usize) -> Op {
        let of = |value: f32| vector(&vec![value; channels]);
        let (gamma, beta, mean, variance) = (of(gamma), of(0.0), of(0.0), of(1.0));
        Op::BatchNorm(BatchNorm { gamma, beta, mean, variance, epsilon: 0.0 })
    }

    #[test]
    fn batch_norm_after_a_sum_or_of_other_channels_is_left_alone() {
        let mut g = Graph::default();
        let x = g.push("x", Op::Input(2), &[]);
        let sum = g.push("sum", conv(2, 2), &[x, x]);
        g.push("bn", norm(2.0, 2), &[sum]);
        assert_eq!(optimise(&g).nodes().len(), 3);

        let mut g = Graph::default();
        let x = g.push("x", Op::Input(2), &[]);
        let wide = g.push("wide", conv(3, 2), &[x]);
        g.push("bn", norm(2.0, 2), &[wide]);
        assert_eq!(optimise(&g).nodes().len(), 3);
    }

    #[test]
    fn the_last_node_stays_the_output() {
        let mut g = Graph::default();
        let x = g.push("x", Op::Input(2), &[]);
        let a = g.push("a", conv(2, 2), &[x]);
        g.push("unread", Op::GlobalPool, &[x]);
        g.push("relu", Op::Activation(Activation::Relu), &[a]);
        let g = prepared(&g, true);
        let (name, id) = g.outputs()[0];
        assert_eq!((name, &g.node(id).layers[..]), ("output", &["a".into(), "relu".into()][..]));
    }

    #[test]
    fn a_value_read_twice_is_left_alone() {
        let mut g = Graph::default();
        let x = g.push("x", Op::Input(2), &[]);
        let a = g.push("a", conv(2, 2), &[x]);
        let relu = g.push("relu", Op::Activation(Activation::Relu), &[a]);
        g.push("sum", Op::Add, &[a, relu]);
        assert_eq!(optimise(&g).nodes().len(), 4);
    }
}
