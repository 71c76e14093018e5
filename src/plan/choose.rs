//! Kernel and tile selection for single layers.
//!
//! Large tiles save loads, but leave fewer invocations to fill the machine. Where even the smallest
//! tile leaves units idle, split-K divides a product's inputs over invocations.

use std::collections::BTreeMap;

use super::{
    blocks::conv,
    draft::{DraftStep, MapId, Read},
};
use crate::{
    Shape,
    graph::{Affine, Conv, ConvKind, Graph, Node, NodeId, Op},
    kernels::{Kernel, LAYERS, Layer, LayerKernel, Machine, Work, boxes},
    tensor::{Element, Form},
};

/// Kernels by layer name.
pub type Kernels = BTreeMap<String, Kernel>;

/// The device format of a node's value, if floating-point maps are `element`.
pub fn form(node: &Node, element: Element) -> Form {
    match node.quantisation {
        Some(Affine { scale, zero }) => Form::Bytes { scale, zero },
        None => float_form(&node.op, element),
    }
}

/// The format of an operation's floating-point output. Scores and boxes are always f32, since they are
/// compared with one another.
pub fn float_form(op: &Op, element: Element) -> Form {
    match op {
        Op::Argmax(_) => Form::Labels,
        Op::Softmax(_) | Op::Boxes(_) | Op::Select(_) => Form::Map(Element::F32),
        _ => Form::Map(element),
    }
}

/// The unfused step of a node: with the kernel of `tuned`, if the machine supports it, or else the one
/// with the shortest predicted time.
pub fn layer(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    machine: &Machine,
    tuned: &Kernels,
) -> Result<DraftStep, (NodeId, String)> {
    let node = graph.node(id);
    let Some(&input) = node.inputs.first() else { return Err((id, "has no input".into())) };
    LayerContext { graph, shapes, id, input, gate: None, machine }.step(tuned.get(node.name()))
}

/// The step of the pointwise convolution `id` over the map of `x`, which `gate` scales during loading.
pub fn gated(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    x: NodeId,
    gate: MapId,
    machine: &Machine,
    tuned: &Kernels,
) -> Result<DraftStep, (NodeId, String)> {
    LayerContext { graph, shapes, id, input: x, gate: Some(gate), machine }
        .step(tuned.get(graph.node(id).name()))
}

/// The kernels of a layer worth measuring, with their predicted times, fastest first: up to `each` per
/// shader and arithmetic. Empty if the node has no input.
pub fn shortlist(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    machine: &Machine,
    each: usize,
) -> Result<Vec<(Kernel, f64)>, (NodeId, String)> {
    let Some(&input) = graph.node(id).inputs.first() else { return Ok(Vec::new()) };
    LayerContext { graph, shapes, id, input, gate: None, machine }.shortlist(each)
}

/// [`shortlist`] of the pointwise convolution `id` over the map of `x`, scaled by `gate`.
pub fn gated_shortlist(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    x: NodeId,
    gate: MapId,
    machine: &Machine,
    each: usize,
) -> Result<Vec<(Kernel, f64)>, (NodeId, String)> {
    LayerContext { graph, shapes, id, input: x, gate: Some(gate), machine }.shortlist(each)
}

/// A node to select a kernel for.
#[derive(Clone, Copy)]
struct LayerContext<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    id: NodeId,
    /// The node that computes `x`, and the gate that scales it.
    input: NodeId,
    gate: Option<MapId>,
    machine: &'a Machine,
}

impl<'a> LayerContext<'a> {
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
        // `input` stands for the node's first input; another input may be the same map.
        let others = node.inputs.iter().skip(1).filter(|id| **id != self.input).copied();
        let maps: u64 = [self.input, self.id].into_iter().chain(others).map(bytes).sum();
        conv(node).map_or(Work { bytes: maps, macs: 0 }, |conv| Work {
            bytes: maps + self.weight_bytes(conv),
            macs: (self.shapes[self.id.index()].pixels() * conv.weight.data().len()) as u64,
        })
    }

    /// The size of its weights in bytes.
    fn weight_bytes(&self, conv: &Conv) -> u64 {
        match self.graph.node(self.id).weight_scales {
            Some(_) => conv.weight.data().len() as u64,
            None => self.machine.weight_bytes(conv),
        }
    }

    /// Returns false if a kernel needs a layer's int8 weights in floating point. Depthwise weights may be
    /// converted: they are too few to matter.
    fn keeps_int8(&self, kernel: &dyn LayerKernel) -> bool {
        let node = self.graph.node(self.id);
        let few = conv(node).is_none_or(|conv| conv.kind() == Some(ConvKind::Depthwise));
        few || node.weight_scales.is_none()
            || self.graph.int8(self.id).is_some()
            || kernel.shader().accepts_int8_weights("weight")
    }

    /// Every kernel and tile that the machine supports, with its predicted time, fastest first.
    fn candidates(&self, layer: &Layer) -> Result<Vec<(Kernel, f64)>, (NodeId, String)> {
        let (machine, work) = (self.machine, self.work());
        let mut candidates = Vec::new();
        for kernel in LAYERS.into_iter().filter(|kernel| self.keeps_int8(*kernel)) {
            let tiles = kernel.tiles(layer, machine);
            if let Some(reason) = kernel.refusal(layer).filter(|_| !tiles.is_empty()) {
                return Err((self.id, reason));
            }
            candidates.extend(tiles.into_iter().map(|tile| {
                let effort = kernel.effort(layer, machine, tile);
                let time = machine.time(effort, kernel.footprint(layer, machine, tile), work);
                (Kernel { kernel, tile }, time)
            }));
        }
        // The sort is stable and tiles come largest first, so the largest wins a tie.
        candidates.sort_by(|a, b| a.1.total_cmp(&b.1));
        Ok(candidates)
    }

    /// The fastest `each` candidates per shader and arithmetic.
    fn shortlist(&self, each: usize) -> Result<Vec<(Kernel, f64)>, (NodeId, String)> {
        let found = self.candidates(&self.layer())?.into_iter();
        Ok(super::first_of_kind(found, each, |(kernel, _)| (kernel.name(), kernel.arithmetic())))
    }

    fn step(&self, tuned: Option<&Kernel>) -> Result<DraftStep, (NodeId, String)> {
        let (layer, machine) = (self.layer(), self.machine);
        let candidates = self.candidates(&layer)?;
        let measured = tuned.and_then(|tuned| candidates.iter().find(|(kernel, _)| kernel == tuned));
        let Some(&(Kernel { kernel, tile }, time)) = measured.or(candidates.first()) else {
            return Err((self.id, self.graph.node(self.id).op.unfused_error()));
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
            writes: vec![(MapId::Node(self.id), made.bytes(layer.y).unwrap_or_default())],
            shape: layer.y,
            workgroup_memory: 0,
            work: self.work(),
            time,
            why: kernel.purpose(&layer).unwrap_or_else(|| {
                filled(kernel.footprint(&layer, machine, tile).invocations, machine, measured.is_some())
            }),
            launch,
            block: None,
        })
    }

    /// The input that a kernel binds as `name`. Words are moved out of `words`.
    fn read(
        &self,
        name: &str,
        kernel: &dyn LayerKernel,
        layer: &Layer,
        words: &mut Vec<(&'static str, Vec<u32>)>,
    ) -> Read {
        let second =
            || self.graph.node(self.id).inputs.get(1).map_or(Read::Nothing, |&id| Read::Map(MapId::Node(id)));
        match name {
            "x" => Read::Map(MapId::Node(self.input)),
            "weight" | "output_params" | "table" if layer.int8.is_some() => Read::words(words, name),
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
    let percent = 100.0 * invocations as f64 / machine.full() as f64;
    let measured = if measured { ", measured" } else { "" };
    if percent < 100.0 {
        format!("{invocations} invocations fill {percent:.0}% of the device{measured}")
    } else {
        format!("{invocations} invocations{measured}")
    }
}
