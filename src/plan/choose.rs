//! Which kernel, with which tile, for one layer by itself.
//!
//! A large tile saves loads until there are too few invocations to fill the machine; where even
//! the smallest leaves units idle, the inputs of a product are split over invocations as well.

use std::collections::BTreeMap;

use super::{
    blocks::conv,
    draft::{DraftStep, Map, Read},
};
use crate::{
    Shape,
    graph::{Affine, Conv, ConvKind, Graph, Node, NodeId, Op},
    kernels::{Kernel, LAYERS, Layer, LayerKernel, Machine, Work, boxes},
    tensor::{Element, Form},
};

/// Kernels of layers, by their names.
pub type Kernels = BTreeMap<String, Kernel>;

/// How a node's value lies on a device where maps are `element`.
pub fn form(node: &Node, element: Element) -> Form {
    match node.map {
        Some(Affine { scale, zero }) => Form::Bytes { scale, zero },
        None => float_form(&node.op, element),
    }
}

/// The same in floating point. Scores and boxes are f32 whatever maps are: they are compared with one another.
pub fn float_form(op: &Op, element: Element) -> Form {
    match op {
        Op::Argmax(_) => Form::Labels,
        Op::Softmax(_) | Op::Boxes(_) | Op::Select(_) => Form::Map(Element::F32),
        _ => Form::Map(element),
    }
}

/// A node with a kernel of its own: the one of `wanted`, if the machine admits it, or else the
/// one with the least time.
pub fn layer(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    machine: &Machine,
    wanted: &Kernels,
) -> Result<DraftStep, (NodeId, String)> {
    let node = graph.node(id);
    let Some(&input) = node.inputs.first() else { return Err((id, "has no input".into())) };
    Lone { graph, shapes, id, input, gate: None, machine }.step(wanted.get(node.name()))
}

/// The pointwise convolution `id` over the map of `x`, scaled by `gate` as it is loaded.
pub fn gated(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    x: NodeId,
    gate: Map,
    machine: &Machine,
    wanted: &Kernels,
) -> Result<DraftStep, (NodeId, String)> {
    Lone { graph, shapes, id, input: x, gate: Some(gate), machine }.step(wanted.get(graph.node(id).name()))
}

/// The kernels of a layer that are worth measuring with their modelled times, the model's favourite first: `each` of every
/// shader and arithmetic. Empty if it has no input.
pub fn contest(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    machine: &Machine,
    each: usize,
) -> Result<Vec<(Kernel, f64)>, (NodeId, String)> {
    let Some(&input) = graph.node(id).inputs.first() else { return Ok(Vec::new()) };
    Lone { graph, shapes, id, input, gate: None, machine }.contest(each)
}

/// [`contest`] of the pointwise convolution `id` over the map of `x`, scaled by `gate`.
pub fn gated_contest(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    x: NodeId,
    gate: Map,
    machine: &Machine,
    each: usize,
) -> Result<Vec<(Kernel, f64)>, (NodeId, String)> {
    Lone { graph, shapes, id, input: x, gate: Some(gate), machine }.contest(each)
}

/// A node to be given a kernel.
#[derive(Clone, Copy)]
struct Lone<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    id: NodeId,
    /// Where `x` comes from, and what it is scaled by.
    input: NodeId,
    gate: Option<Map>,
    machine: &'a Machine,
}

impl<'a> Lone<'a> {
    fn layer(&self) -> Layer<'a> {
        let shape = |id: NodeId| self.shapes[id.index()];
        let node = self.graph.node(self.id);
        let others = node.inputs.iter().skip(1).copied();
        Layer {
            op: &node.op,
            inputs: [self.input].into_iter().chain(others).map(shape).collect(),
            y: shape(self.id),
            picture: self.graph.source().map_or([0, 0], |id| [shape(id).h, shape(id).w]),
            gated: self.gate.is_some(),
            int8: self.graph.int8(self.id),
        }
    }

    fn work(&self) -> Work {
        let node = self.graph.node(self.id);
        let bytes = |id: NodeId| {
            let form = form(self.graph.node(id), self.machine.element);
            form.bytes(self.shapes[id.index()]).unwrap_or_default()
        };
        let maps = bytes(self.input) + bytes(self.id);
        conv(node).map_or(Work { bytes: maps, macs: 0 }, |conv| Work {
            bytes: maps + self.weights(conv),
            macs: (self.shapes[self.id.index()].pixels() * conv.weight.data().len()) as u64,
        })
    }

    /// Bytes of its weights.
    fn weights(&self, conv: &Conv) -> u64 {
        match self.graph.node(self.id).steps {
            Some(_) => conv.weight.data().len() as u64,
            None => self.machine.weights(conv),
        }
    }

    /// Whether a kernel leaves weights of 8 bits as they are. Those of a depthwise convolution are too few to matter.
    fn keeps_bytes(&self, kernel: &dyn LayerKernel) -> bool {
        let node = self.graph.node(self.id);
        let few = conv(node).is_none_or(|conv| conv.kind() == Some(ConvKind::Depthwise));
        few || node.steps.is_none()
            || self.graph.int8(self.id).is_some()
            || kernel.shader().takes_bytes("weight")
    }

    /// Every kernel and tile that the machine admits, with its modelled time, quickest first.
    fn candidates(&self, layer: &Layer) -> Result<Vec<(Kernel, f64)>, (NodeId, String)> {
        let (machine, work) = (self.machine, self.work());
        let mut candidates = Vec::new();
        for kernel in LAYERS.into_iter().filter(|kernel| self.keeps_bytes(*kernel)) {
            let tiles = kernel.tiles(layer, machine);
            if let Some(reason) = kernel.refusal(layer).filter(|_| !tiles.is_empty()) {
                return Err((self.id, reason));
            }
            candidates.extend(tiles.into_iter().map(|tile| {
                let effort = kernel.effort(layer, machine, tile);
                let time = machine.time(effort, kernel.crowd(layer, machine, tile), work);
                (Kernel { kernel, tile }, time)
            }));
        }
        // The first of equals stays first: tiles come largest first.
        candidates.sort_by(|a, b| a.1.total_cmp(&b.1));
        Ok(candidates)
    }

    /// Of every shader and arithmetic the `each` first of the candidates.
    fn contest(&self, each: usize) -> Result<Vec<(Kernel, f64)>, (NodeId, String)> {
        let found = self.candidates(&self.layer())?.into_iter();
        Ok(super::foremost(found, each, |(kernel, _)| (kernel.name(), kernel.arithmetic())))
    }

    fn step(&self, wanted: Option<&Kernel>) -> Result<DraftStep, (NodeId, String)> {
        let (layer, machine) = (self.layer(), self.machine);
        let candidates = self.candidates(&layer)?;
        let measured = wanted.and_then(|wanted| candidates.iter().find(|(kernel, _)| kernel == wanted));
        let Some(&(Kernel { kernel, tile }, time)) = measured.or(candidates.first()) else {
            return Err((self.id, self.graph.node(self.id).op.alone()));
        };
        let launch = kernel.launch(&layer, machine, tile);
        let mut words = kernel.words(&layer, machine, tile);
        let made = match layer.int8 {
            Some(_) => form(self.graph.node(self.id), machine.element),
            None => float_form(layer.op, machine.element),
        };
        Ok(DraftStep {
            nodes: vec![self.id],
            reads: launch
                .shader
                .reads
                .iter()
                .map(|name| self.read(name, kernel, &layer, &mut words))
                .collect(),
            writes: vec![(Map::Node(self.id), made.bytes(layer.y).unwrap_or_default())],
            shape: layer.y,
            between: 0,
            work: self.work(),
            time,
            why: kernel.purpose(&layer).unwrap_or_else(|| {
                filled(kernel.crowd(&layer, machine, tile).invocations, machine, measured.is_some())
            }),
            launch,
            block: None,
        })
    }

    /// What a kernel binds under a name; words are taken from those that it has.
    fn read(
        &self,
        name: &str,
        kernel: &dyn LayerKernel,
        layer: &Layer,
        words: &mut Vec<(&'static str, Vec<u32>)>,
    ) -> Read {
        let second =
            || self.graph.node(self.id).inputs.get(1).map_or(Read::Nothing, |&id| Read::Map(Map::Node(id)));
        match name {
            "x" => Read::Map(Map::Node(self.input)),
            "weight" | "numbers" | "curve" if layer.int8.is_some() => {
                let own = words.iter().position(|(of, _)| *of == name);
                own.map_or(Read::Nothing, |at| Read::Words(words.swap_remove(at).1))
            }
            "weight" => {
                kernel.packing(self.machine).map_or(Read::Nothing, |p| Read::Weights(vec![self.id], p))
            }
            "bias" => Read::Biases(vec![self.id]),
            "residual" => second(),
            "gate" if matches!(layer.op, Op::Scale) => second(),
            "gate" => self.gate.map_or(Read::Nothing, Read::Map),
            "anchor" => Read::Values(boxes::anchors(layer).into_flattened()),
            other => unreachable!("no layer has a {other}"),
        }
    }
}

fn filled(invocations: usize, machine: &Machine, measured: bool) -> String {
    let share = 100.0 * invocations as f64 / machine.full() as f64;
    let measured = if measured { ", measured" } else { "" };
    if share < 100.0 {
        format!("{invocations} threads, {share:.0}% of what fills the device{measured}")
    } else {
        format!("{invocations} threads{measured}")
    }
}
