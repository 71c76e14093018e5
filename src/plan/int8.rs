//! Between 8 bits and floating point. A node's value lies in one of them. What computes in floating point reads copies of
//! values in 8 bits, and what it makes goes there in a step more if it is to lie there.

use super::{
    choose::{float_form, form},
    draft::{DraftStep, Map, Read},
};
use crate::{
    Shape,
    graph::{Affine, Graph, NodeId, Op},
    kernels::{Crowd, Effort, LANES, Launch, Machine, Work, dequantise, quantise},
};

/// Steps with those between them that bring values from one to the other.
pub fn converted(
    graph: &Graph,
    shapes: &[Shape],
    machine: &Machine,
    drafts: Vec<DraftStep>,
) -> Vec<DraftStep> {
    let ways = Ways { graph, shapes, machine };
    // The last step that writes each map: a joined one has as many as parts.
    let last = |id: NodeId| {
        let writes = |draft: &DraftStep| draft.writes.iter().any(|(to, _)| *to == Map::Node(id));
        drafts.iter().rposition(writes)
    };
    let lasts: Vec<Option<usize>> = graph.nodes().map(|(id, _)| last(id)).collect();
    let mut all = Vec::with_capacity(drafts.len());
    for (id, node) in graph.nodes() {
        if let (Op::Input(_), Some(affine)) = (&node.op, node.map) {
            all.push(ways.to_8_bits(id, affine));
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
            if let Some((id, affine)) = ways.in_8_bits(*from) {
                if !copied.contains(&id) {
                    copied.push(id);
                    all.push(ways.to_float(id, affine));
                }
                *from = Map::Dequantised(id);
            }
        }
        let mut made = None;
        for (to, bytes) in &mut draft.writes {
            if let Some((id, affine)) = ways.in_8_bits(*to) {
                (*to, *bytes) = (Map::Unquantised(id), ways.bytes(id)[0]);
                made = Some((id, affine));
            }
        }
        all.push(draft);
        if let Some((id, affine)) = made.filter(|(id, _)| lasts[id.index()] == Some(at)) {
            all.push(ways.to_8_bits(id, affine));
        }
    }
    all
}

/// From one to the other.
struct Ways<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    machine: &'a Machine,
}

impl Ways<'_> {
    /// The node whose value a map is, and what its integers stand for, if it lies in 8 bits.
    fn in_8_bits(&self, map: Map) -> Option<(NodeId, Affine)> {
        let Map::Node(id) = map else { return None };
        Some((id, self.graph.node(id).map?))
    }

    /// Bytes of a node's value in floating point, and as it lies.
    fn bytes(&self, id: NodeId) -> [u64; 2] {
        let node = self.graph.node(id);
        let forms = [float_form(&node.op, self.machine.element), form(node, self.machine.element)];
        forms.map(|form| form.bytes(self.shapes[id.index()]).unwrap_or_default())
    }

    fn to_8_bits(&self, id: NodeId, affine: Affine) -> DraftStep {
        let (shape, [_, bytes]) = (self.shapes[id.index()], self.bytes(id));
        let launch = quantise::launch(shape, affine);
        self.step(id, launch, Map::Unquantised(id), (Map::Node(id), bytes), "to 8 bits")
    }

    fn to_float(&self, id: NodeId, affine: Affine) -> DraftStep {
        let (shape, [bytes, _]) = (self.shapes[id.index()], self.bytes(id));
        let launch = dequantise::launch(shape, affine);
        self.step(id, launch, Map::Node(id), (Map::Dequantised(id), bytes), "to floating point")
    }

    fn step(&self, id: NodeId, launch: Launch, from: Map, to: (Map, u64), why: &str) -> DraftStep {
        let work = Work { bytes: self.bytes(id).into_iter().sum(), macs: 0 };
        let invocations = launch.workgroups.iter().product::<u32>() as usize * LANES as usize;
        DraftStep {
            nodes: vec![id],
            launch,
            reads: vec![Read::Map(from)],
            writes: vec![to],
            shape: self.shapes[id.index()],
            between: 0,
            work,
            time: self.machine.time(Effort::of(1.0, 2.0), Crowd::of(invocations), work),
            why: why.into(),
            block: None,
        }
    }
}
