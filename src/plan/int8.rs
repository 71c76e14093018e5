//! Conversions between int8 and floating point. A node's value is stored in one of the two.
//! Floating-point layers read dequantised copies of int8 values, and an extra step quantises their
//! output if it is stored as int8.

use super::{
    choose::{float_form, form},
    draft::{DraftStep, MapId, Read},
};
use crate::{
    Shape,
    graph::{Affine, Graph, NodeId, Op},
    kernels::{Effort, Launch, Machine, Work, dequantise, quantise},
};

/// Inserts the conversion steps between the steps of a draft.
pub fn converted(
    graph: &Graph,
    shapes: &[Shape],
    machine: &Machine,
    drafts: Vec<DraftStep>,
) -> Vec<DraftStep> {
    let conversions = Conversions { graph, shapes, machine };
    // The last step that writes each map: several steps write a concatenated one.
    let last = |id: NodeId| {
        let writes = |draft: &DraftStep| draft.writes.iter().any(|(to, _)| *to == MapId::Node(id));
        drafts.iter().rposition(writes)
    };
    let lasts: Vec<Option<usize>> = graph.nodes().map(|(id, _)| last(id)).collect();
    let mut all = Vec::with_capacity(drafts.len());
    for (id, node) in graph.nodes() {
        if let (Op::Input(_), Some(affine)) = (&node.op, node.quantisation) {
            all.push(conversions.to_int8(id, affine));
        }
    }
    let mut copied = Vec::new();
    for (at, mut draft) in drafts.into_iter().enumerate() {
        if graph.int8(draft.nodes[0]).is_some() {
            all.push(draft);
            continue;
        }
        for read in &mut draft.reads {
            let Read::Map(from) = read else { continue };
            if let Some((id, affine)) = conversions.as_int8(*from) {
                if !copied.contains(&id) {
                    copied.push(id);
                    all.push(conversions.to_float(id, affine));
                }
                *from = MapId::Dequantised(id);
            }
        }
        let mut made = None;
        for (to, bytes) in &mut draft.writes {
            if let Some((id, affine)) = conversions.as_int8(*to) {
                (*to, *bytes) = (MapId::Unquantised(id), conversions.bytes(id)[0]);
                made = Some((id, affine));
            }
        }
        all.push(draft);
        if let Some((id, affine)) = made.filter(|(id, _)| lasts[id.index()] == Some(at)) {
            all.push(conversions.to_int8(id, affine));
        }
    }
    all
}

/// Makes conversion steps.
struct Conversions<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    machine: &'a Machine,
}

impl Conversions<'_> {
    /// The node and the quantisation of a map, if it is stored as int8.
    fn as_int8(&self, map: MapId) -> Option<(NodeId, Affine)> {
        let MapId::Node(id) = map else { return None };
        Some((id, self.graph.node(id).quantisation?))
    }

    /// The size of a node's value in bytes: in floating point, and as stored.
    fn bytes(&self, id: NodeId) -> [u64; 2] {
        let node = self.graph.node(id);
        let forms = [float_form(&node.op, self.machine.element), form(node, self.machine.element)];
        forms.map(|form| form.bytes(self.shapes[id.index()]).unwrap_or_default())
    }

    fn to_int8(&self, id: NodeId, affine: Affine) -> DraftStep {
        let (shape, [_, bytes]) = (self.shapes[id.index()], self.bytes(id));
        let launch = quantise::launch(shape, affine);
        self.step(id, launch, MapId::Unquantised(id), (MapId::Node(id), bytes), "quantises to int8")
    }

    fn to_float(&self, id: NodeId, affine: Affine) -> DraftStep {
        let (shape, [bytes, _]) = (self.shapes[id.index()], self.bytes(id));
        let launch = dequantise::launch(shape, affine);
        self.step(id, launch, MapId::Node(id), (MapId::Dequantised(id), bytes), "converts to floating point")
    }

    fn step(&self, id: NodeId, launch: Launch, from: MapId, to: (MapId, u64), why: &str) -> DraftStep {
        let work = Work { bytes: self.bytes(id).into_iter().sum(), macs: 0 };
        let time = self.machine.time(Effort::of(1.0, 2.0), launch.footprint(), work);
        DraftStep {
            nodes: vec![id],
            launch,
            reads: vec![Read::Map(from)],
            writes: vec![to],
            shape: self.shapes[id.index()],
            workgroup_memory: 0,
            work,
            time,
            why: why.into(),
            block: None,
        }
    }
}
