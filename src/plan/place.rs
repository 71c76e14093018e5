//! Concatenation: steps write their outputs directly into the concatenated map where possible.

use super::draft::{DraftStep, MapId, Read};
use crate::{
    Shape,
    graph::{ConcatAxis, ConvKind, Graph, NodeId, Op},
    kernels::{Effort, Launch, Machine, OutputRegion, Work, join_int8, resize},
    plan::{
        blocks::conv,
        choose::{float_form, form},
    },
};

/// Makes the steps that compute parts of the map `id` write into that map. Returns copy steps for the
/// other parts: those with other readers (not `alone`), and those whose kernels cannot write into a
/// larger map.
pub fn join(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    machine: &Machine,
    alone: impl Fn(NodeId) -> bool,
    drafts: &mut [DraftStep],
) -> Result<Vec<DraftStep>, (NodeId, String)> {
    let Op::Concat(axis) = graph.node(id).op else { return Ok(Vec::new()) };
    let (whole, map) = (shapes[id.index()], MapId::Node(id));
    let made = match graph.int8(id) {
        Some(_) => form(graph.node(id), machine.element),
        None => float_form(&graph.node(id).op, machine.element),
    };
    let bytes = made.bytes(whole).unwrap_or_default();
    let (mut before, mut copies) = (0, Vec::new());
    for &input in &graph.node(id).inputs {
        let part = shapes[input.index()];
        let first = match axis {
            ConcatAxis::Channels if before % 4 == 0 => before / 4,
            ConcatAxis::Channels => {
                return Err((id, format!("{before} channels before a part are not a multiple of four")));
            }
            ConcatAxis::Pixels => before * whole.quads(),
        };
        before += if axis == ConcatAxis::Channels { part.c } else { part.h * part.w };
        let region = OutputRegion { part, whole, first };
        // The block kernel may compute a depthwise output, and cannot write it into a larger map.
        let depthwise = conv(graph.node(input)).and_then(|c| c.kind()) == Some(ConvKind::Depthwise);
        // A part that is a concatenation has several producers.
        let joined = matches!(graph.node(input).op, Op::Concat(_));
        let maker = drafts.iter_mut().find(|draft| draft.writes[0].0 == MapId::Node(input));
        // int8 maps must have the same scale and zero point.
        let alike = match graph.int8(id) {
            Some(_) => {
                graph.int8(input).is_some() && graph.node(input).quantisation == graph.node(id).quantisation
            }
            None => graph.node(input).quantisation.is_none(),
        };
        let movable = |maker: &&mut DraftStep| alike && !depthwise && !joined && maker.launch.can_be_placed();
        match maker.filter(|maker| alone(input) && movable(maker)) {
            Some(maker) => {
                maker.launch = maker.launch.clone().placed(region);
                maker.writes[0] = (map, bytes);
            }
            None => {
                let name = graph.node(input).name();
                let why = match alone(input) {
                    true => format!("a copy: {name} cannot be written in place"),
                    false => format!("a copy: {name} has other readers"),
                };
                if !resize::positions_fit(part.h, part.h) || !resize::positions_fit(part.w, part.w) {
                    return Err((
                        id,
                        format!("the positions of {}x{} pixels overflow 32 bits", part.h, part.w),
                    ));
                }
                let launch = match (graph.node(input).quantisation, graph.node(id).quantisation) {
                    (Some(from), Some(to)) if graph.int8(id).is_some() => join_int8::launch(part, from, to),
                    _ => resize::launch(part, part),
                };
                let moved = bytes * part.len() as u64 / whole.len() as u64;
                copies.push(copy((id, input), (launch, region), moved, machine, (map, bytes), why));
            }
        }
    }
    Ok(copies)
}

/// A step that copies the map of `input`, of `moved` bytes, to its position in that of `id`.
fn copy(
    (id, input): (NodeId, NodeId),
    (launch, region): (Launch, OutputRegion),
    moved: u64,
    machine: &Machine,
    whole: (MapId, u64),
    why: String,
) -> DraftStep {
    let work = Work { bytes: 2 * moved, macs: 0 };
    let time = machine.time(Effort::of(1.0, 2.0), launch.footprint(), work);
    DraftStep {
        nodes: vec![id],
        launch: launch.placed(region),
        reads: vec![Read::Map(MapId::Node(input))],
        writes: vec![whole],
        shape: region.part,
        workgroup_memory: 0,
        work,
        time,
        why,
        block: None,
    }
}
