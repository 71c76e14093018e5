//! A network with its f32 and its int8 parameters, from which a graph with any choice of int8 layers is
//! built.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    measure::{self, Watched},
    ranges::{Extent, Histogram, ends},
    weights::{Rounded, rounded, stored},
};
use crate::{
    Error, Result, Shape, Tensor,
    cpu::Cpu,
    graph::{Activation, Affine, Conv, Graph, Node, NodeId, Op},
    tensor::Element,
    zoo::Network,
};

/// A layer that can be int8: a convolution, or a fully connected layer.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub id: NodeId,
    /// Its int8 weights.
    pub int8: Rounded,
    /// The bias, corrected so that int8 outputs have the correct mean.
    pub bias: Option<Arc<Tensor>>,
    /// Its weights in floating point, as the file stores them.
    pub float: (Arc<Tensor>, Element),
}

#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// The f32 graph, after the passes.
    pub exact: Graph,
    pub layers: Vec<Layer>,
    /// The quantisation of each node's value, if that is int8. None without pictures.
    maps: Vec<Option<Affine>>,
    /// The f32 channel means of each layer's output, once measured.
    means: Vec<Option<Vec<f64>>>,
}

/// The nodes of a network's prepared graph whose weights are in its file. This excludes fixed filters and the
/// nodes that Goldcrest appends to the library's modules.
pub(super) fn layers(graph: &Graph, network: &Network) -> Vec<NodeId> {
    let fixed = |node: &&Node| matches!(node.op, Op::Filter(_)) || node.name().starts_with("postprocess.");
    let fixed: Vec<&str> =
        network.graph.nodes().map(|(_, node)| node).filter(fixed).map(Node::name).collect();
    let is_layer = |node: &Node| matches!(node.op, Op::Conv(_)) && !fixed.contains(&node.name());
    graph.nodes().filter(|(_, node)| is_layer(node)).map(|(id, _)| id).collect()
}

pub(super) fn conv(graph: &Graph, id: NodeId) -> &Conv {
    match &graph.node(id).op {
        Op::Conv(conv) => conv,
        other => unreachable!("{} is no layer", other.name(None)),
    }
}

impl Draft {
    /// Rounds the weights, given the quantisation of maps, on the threads of `cpu` or, without it, on all cores.
    pub fn new(cpu: Option<&Cpu>, exact: Graph, layers: &[NodeId], maps: Vec<Option<Affine>>) -> Self {
        let layer = |&id: &NodeId| {
            let inputs = &exact.node(id).inputs;
            let map = |at: usize| inputs.get(at).and_then(|id| maps[id.index()]);
            let conv = conv(&exact, id);
            let int8 = rounded(conv, map(0), map(1));
            Layer { id, int8, bias: conv.bias.clone(), float: stored(&conv.weight) }
        };
        let means = vec![None; layers.len()];
        let layers = match cpu {
            Some(cpu) => cpu.map(layers, layer),
            None => layers.par_iter().map(layer).collect(),
        };
        Self { exact, layers, maps, means }
    }

    /// The graph in which the layers with `int8` set are int8.
    pub fn graph(&self, int8: &[bool]) -> Graph {
        let mut graph = self.exact.clone();
        let mapped = self.mapped(int8);
        for (layer, &int8) in self.layers.iter().zip(int8) {
            let node = graph.node_mut(layer.id);
            let Op::Conv(conv) = &mut node.op else { continue };
            if int8 {
                conv.weight = layer.int8.weight.clone();
                conv.bias = layer.bias.clone();
                node.weight_scales = Some(layer.int8.scales.clone());
            } else {
                conv.weight = layer.float.0.clone();
            }
        }
        let ids: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
        for id in ids {
            graph.node_mut(id).quantisation = self.maps[id.index()].filter(|_| mapped[id.index()]);
        }
        graph
    }

    /// Returns, for each value, true if it is int8: an input of an int8 layer; an input of an operation
    /// without weights whose output is int8; or the output of an int8 layer with an activation, which is then
    /// an integer clamp or a table lookup.
    fn mapped(&self, int8: &[bool]) -> Vec<bool> {
        let mut of_layer = vec![false; self.exact.nodes().len()];
        self.layers.iter().zip(int8).for_each(|(layer, int8)| of_layer[layer.id.index()] = *int8);
        let mut mapped = vec![false; self.exact.nodes().len()];
        for (id, node) in self.exact.nodes().rev() {
            let at = id.index();
            let reads = match &node.op {
                Op::Conv(conv) => {
                    mapped[at] |= of_layer[at] && conv.activation != Activation::Identity;
                    of_layer[at]
                }
                Op::GlobalPool | Op::Scale | Op::Concat(_) | Op::MaxPool(_) | Op::Resize(_) => mapped[at],
                _ => false,
            };
            node.reads().iter().filter(|_| reads).for_each(|input| mapped[input.index()] = true);
        }
        mapped
    }

    /// Subtracts each channel's mean error, measured on `inputs`, from the biases. Layers are corrected in
    /// order, so that preceding layers are already corrected. See section 4.2 of arXiv 1906.04721; here the
    /// means are measured.
    pub fn correct(
        &mut self,
        cpu: &Cpu,
        int8: &[bool],
        inputs: &[&Tensor],
        mut done: impl FnMut(usize),
    ) -> Result<()> {
        for at in 0..self.layers.len() {
            done(at);
            let id = self.layers[at].id;
            let Some(bias) = conv(&self.exact, id).bias.clone().filter(|_| int8[at]) else { continue };
            self.layers[at].bias = Some(bias.clone());
            let found = means(cpu, &self.graph(int8), id, inputs)?;
            let wanted = match self.means[at].take() {
                Some(wanted) => wanted,
                None => means(cpu, &self.exact, id, inputs)?,
            };
            let corrected = |c: usize| (f64::from(bias.data()[c]) - (found[c] - wanted[c])) as f32;
            self.layers[at].bias = Some(Arc::new(Tensor::from_fn(bias.dims(), corrected)));
            self.means[at] = Some(wanted);
        }
        Ok(())
    }

    /// A copy without the corrections of [`Draft::correct`], but with the f32 means that it measured.
    pub fn uncorrected(&self) -> Self {
        let mut draft = self.clone();
        draft.layers.iter_mut().for_each(|layer| layer.bias = conv(&self.exact, layer.id).bias.clone());
        draft
    }
}

/// Measures the mean of each channel of a layer's output, before its activation.
fn means(cpu: &Cpu, graph: &Graph, id: NodeId, inputs: &[&Tensor]) -> Result<Vec<f64>> {
    let mut graph = graph.with_outputs(vec![("layer".into(), id)]);
    let node = graph.node_mut(id);
    node.quantisation = None;
    if let Op::Conv(conv) = &mut node.op {
        conv.activation = Activation::Identity;
    }
    let mut sums = vec![0.0; conv(&graph, id).outputs()];
    let mut count = 0;
    for output in measure::outputs(cpu, &graph, inputs)? {
        let values = output[0].data();
        let plane = values.len() / sums.len();
        for (sum, plane) in sums.iter_mut().zip(values.chunks_exact(plane)) {
            *sum += plane.iter().map(|v| f64::from(*v)).sum::<f64>();
        }
        count += plane;
    }
    sums.iter_mut().for_each(|sum| *sum /= count.max(1) as f64);
    Ok(sums)
}

/// Measures the extents of all nodes' values.
pub(super) fn extents(
    cpu: &Cpu,
    graph: &Graph,
    inputs: &[&Tensor],
    mut done: impl FnMut(usize),
) -> Result<Vec<Extent>> {
    let shapes = graph.shapes(inputs[0].shape()?)?;
    let mut extents: Vec<Extent> = shapes.iter().map(|shape: &Shape| Extent::new(shape.c)).collect();
    let mut watched = Watched::new(cpu, graph, inputs[0])?;
    for (at, input) in inputs.iter().enumerate() {
        done(at);
        watched.values(input)?.iter().for_each(|(id, value)| extents[id.index()].add(value.data()));
    }
    let odd = extents.iter().position(|extent| !(extent.most - extent.least).is_finite());
    match odd.and_then(|at| graph.nodes().nth(at)) {
        Some((_, node)) => Err(Error::Overflow { layer: node.name().into(), element: Element::F32 }),
        None => Ok(extents),
    }
}

/// Chooses the quantisation of all nodes' values.
pub(super) fn maps(
    cpu: &Cpu,
    graph: &Graph,
    extents: &[Extent],
    inputs: &[&Tensor],
    mut done: impl FnMut(usize),
) -> Result<Vec<Option<Affine>>> {
    let of_node = |((_, node), extent): ((NodeId, &Node), &Extent)| {
        let activation = if let Op::Conv(conv) = &node.op { conv.activation } else { Activation::Identity };
        let [least, most] = ends(extent, activation);
        Histogram::new(least, most)
    };
    let mut histograms: Vec<Histogram> = graph.nodes().zip(extents).map(of_node).collect();
    let mut watched = Watched::new(cpu, graph, inputs[0])?;
    for (at, input) in inputs.iter().enumerate() {
        done(at);
        watched.values(input)?.iter().for_each(|(id, value)| histograms[id.index()].add(value.data()));
    }
    let mut maps: Vec<Option<Affine>> = histograms.iter().map(|histogram| Some(histogram.best())).collect();
    for (id, node) in graph.nodes() {
        // Max pooling selects values, so that its output has its input's quantisation.
        if let Op::MaxPool(_) = node.op {
            maps[id.index()] = maps[node.inputs[0].index()];
        }
    }
    Ok(maps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Padding;

    fn conv(outputs: usize, activation: Activation, weight: impl FnMut(usize) -> f32) -> Op {
        Op::Conv(Conv {
            weight: Arc::new(Tensor::from_fn([outputs, 4, 1, 1], weight)),
            bias: Some(Arc::new(Tensor::from_fn([outputs], |_| 0.1))),
            stride: 1,
            dilation: 1,
            padding: Padding::Symmetric,
            groups: 1,
            activation,
            linear: false,
        })
    }

    #[test]
    fn means_are_correct_after_the_correction() {
        let mut graph = Graph::default();
        let x = graph.push("x", Op::Input(4), &[]);
        // All weights of an output except one are less than half their scale: their sum is lost.
        let lost = |i: usize| if i.is_multiple_of(4) { 1.0 } else { 0.003 };
        let first = graph.push("first", conv(4, Activation::Relu, lost), &[x]);
        let second = graph.push("second", conv(3, Activation::Identity, lost), &[first]);
        let cpu = Cpu::new(Some(1)).unwrap();
        let input = Tensor::from_fn([1, 4, 5, 5], |i| 2.0 + (i as f32 * 0.7).sin());
        let inputs = [&input];
        let extents = extents(&cpu, &graph, &inputs, |_| {}).unwrap();
        let maps = maps(&cpu, &graph, &extents, &inputs, |_| {}).unwrap();
        let mut draft = Draft::new(Some(&cpu), graph.clone(), &[first, second], maps);
        let int8 = [true; 2];
        let off = |draft: &Draft, id: NodeId| {
            let found = means(&cpu, &draft.graph(&int8), id, &inputs).unwrap();
            let wanted = means(&cpu, &graph, id, &inputs).unwrap();
            found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        assert!(off(&draft, first) > 0.01 && off(&draft, second) > 0.02);
        draft.correct(&cpu, &int8, &inputs, |_| {}).unwrap();
        // A bias is rounded to an integer multiple of the sum's scale, before and after its correction.
        for (at, id) in [first, second].into_iter().enumerate() {
            let input = draft.maps[graph.node(id).inputs[0].index()].unwrap().scale;
            let scales = draft.layers[at].int8.scales.iter();
            let scale = input * scales.fold(0.0f32, |most, scale| most.max(*scale));
            assert!(off(&draft, id) <= f64::from(scale), "{}: {scale}", off(&draft, id));
        }
        assert!(off(&draft.uncorrected(), second) > 0.02);
    }

    #[test]
    fn inputs_of_int8_layers_are_int8_and_heads_are_not() {
        let mut graph = Graph::default();
        let x = graph.push("x", Op::Input(4), &[]);
        let stem = graph.push("stem", conv(4, Activation::Relu, |_| 0.1), &[x]);
        let gate = graph.push("gate", Op::GlobalPool, &[stem]);
        let scaled = graph.push("scaled", Op::Scale, &[stem, gate]);
        let head = graph.push("head", conv(3, Activation::Identity, |_| 0.1), &[scaled]);
        let maps = vec![Some(Affine::over(-1.0, 1.0)); 5];
        let draft = Draft::new(None, graph, &[stem, head], maps);
        let mapped = |int8: [bool; 2]| {
            let graph = draft.graph(&int8);
            graph.nodes().map(|(_, node)| node.quantisation.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(mapped([true, true]), [true, true, true, true, false]);
        assert_eq!(mapped([false, true]), [false, true, true, true, false]);
        assert_eq!(mapped([true, false]), [true, true, false, false, false]);
        assert_eq!(mapped([false, false]), [false; 5]);
        assert!(draft.graph(&[true, false]).node(head).weight_scales.is_none());
    }
}
