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
    let map = |map: Map| match map {
        Map::Node(id) => graph.node(id).map.map(|affine| (id, affine)),
        _ => None,
    };
    let between = |id: NodeId, affine: Affine, quantises: bool| {
        let (node, shape) = (graph.node(id), shapes[id.index()]);
        let whole = form(node, machine.element).bytes(shape).unwrap_or_default();
        let float = float_form(&node.op, machine.element).bytes(shape).unwrap_or_default();
        let (launch, from, to, why) = match quantises {
            true => {
                (quantise::launch(shape, affine), Map::Unquantised(id), (Map::Node(id), whole), "to 8 bits")
            }
            false => {
                let to = (Map::Dequantised(id), float);
                (dequantise::launch(shape, affine), Map::Node(id), to, "to floating point")
            }
        };
        step(id, launch, from, to, shape, Work { bytes: whole + float, macs: 0 }, machine, why)
    };
    // The last step that writes each map that is to be brought to 8 bits: parts of a joined one are many.
    let is_float = |draft: &DraftStep| graph.int8(draft.nodes[0]).is_none();
    let last = |id: NodeId| {
        let writes = |draft: &DraftStep| draft.writes.iter().any(|(to, _)| *to == Map::Node(id));
        drafts.iter().rposition(writes)
    };
    let lasts: Vec<(NodeId, Option<usize>)> = graph.nodes().map(|(id, _)| (id, last(id))).collect();
    let mut all = Vec::with_capacity(drafts.len());
    let mut copied = Vec::new();
    for (id, node) in graph.nodes() {
        if let (Op::Input(_), Some(affine)) = (&node.op, node.map) {
            all.push(between(id, affine, true));
        }
    }
    for (at, mut draft) in drafts.into_iter().enumerate() {
        if !is_float(&draft) {
            all.push(draft);
            continue;
        }
        for read in &mut draft.reads {
            let Read::Map(from) = read else { continue };
            if let Some((id, affine)) = map(*from) {
                if !copied.contains(&id) {
                    copied.push(id);
                    all.push(between(id, affine, false));
                }
                *from = Map::Dequantised(id);
            }
        }
        let mut made = None;
        for (to, bytes) in &mut draft.writes {
            if let Some((id, affine)) = map(*to) {
                *to = Map::Unquantised(id);
                *bytes = float_form(&graph.node(id).op, machine.element)
                    .bytes(shapes[id.index()])
                    .unwrap_or_default();
                made = Some((id, affine));
            }
        }
        all.push(draft);
        if let Some((id, affine)) = made.filter(|(id, _)| lasts.contains(&(*id, Some(at)))) {
            all.push(between(id, affine, true));
        }
    }
    all
}

/// One step of a node's between two maps of a shape.
#[expect(clippy::too_many_arguments, reason = "all that tells one way from the other")]
fn step(
    id: NodeId,
    launch: Launch,
    from: Map,
    to: (Map, u64),
    shape: Shape,
    work: Work,
    machine: &Machine,
    why: &str,
) -> DraftStep {
    let invocations = launch.workgroups.iter().product::<u32>() as usize * LANES as usize;
    DraftStep {
        nodes: vec![id],
        launch,
        reads: vec![Read::Map(from)],
        writes: vec![to],
        shape,
        between: 0,
        work,
        time: machine.time(Effort::of(1.0, 2.0), Crowd::of(invocations), work),
        why: why.into(),
        block: None,
    }
}
