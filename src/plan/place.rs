//! Joined maps: steps leave what they make at its place in the whole, where they can.

use super::draft::{DraftStep, Map, Read};
use crate::{
    Shape,
    graph::{ConvKind, Graph, Joint, NodeId, Op},
    kernels::{Crowd, Effort, LANES, Launch, Machine, Place, Work, join_int8, resize},
    plan::{
        blocks::conv,
        choose::{float_form, form},
    },
};

/// Has the steps that make parts of the map `id` leave them there, and gives copies of the parts
/// for which that cannot be: those that are not `alone`, but wanted elsewhere too, and those of
/// kernels that know no other place than their own.
pub fn join(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    machine: &Machine,
    alone: impl Fn(NodeId) -> bool,
    drafts: &mut [DraftStep],
) -> Result<Vec<DraftStep>, (NodeId, String)> {
    let Op::Concat(joint) = graph.node(id).op else { return Ok(Vec::new()) };
    let (whole, map) = (shapes[id.index()], Map::Node(id));
    let made = match graph.int8(id) {
        Some(_) => form(graph.node(id), machine.element),
        None => float_form(&graph.node(id).op, machine.element),
    };
    let bytes = made.bytes(whole).unwrap_or_default();
    let (mut before, mut copies) = (0, Vec::new());
    for &input in &graph.node(id).inputs {
        let part = shapes[input.index()];
        let first = match joint {
            Joint::Channels if before % 4 == 0 => before / 4,
            Joint::Channels => {
                return Err((id, format!("{before} channels before a part are no multiple of four")));
            }
            Joint::Pixels => before * whole.quads(),
        };
        before += if joint == Joint::Channels { part.c } else { part.h * part.w };
        let place = Place { part, whole, first };
        // A depthwise convolution's own channels may come out of a block's kernel.
        let depthwise = conv(graph.node(input)).and_then(|c| c.kind()) == Some(ConvKind::Depthwise);
        // A part that is joined itself has many makers.
        let joined = matches!(graph.node(input).op, Op::Concat(_));
        let maker = drafts.iter_mut().find(|draft| draft.writes[0].0 == Map::Node(input));
        // What is in integers must be in the same ones.
        let alike = match graph.int8(id) {
            Some(_) => graph.int8(input).is_some() && graph.node(input).map == graph.node(id).map,
            None => graph.node(input).map.is_none(),
        };
        let movable = |maker: &&mut DraftStep| alike && !depthwise && !joined && maker.launch.can_be_placed();
        match maker.filter(|maker| alone(input) && movable(maker)) {
            Some(maker) => {
                maker.launch = maker.launch.clone().placed(place);
                maker.writes[0] = (map, bytes);
            }
            None => {
                let name = graph.node(input).name();
                let why = match alone(input) {
                    true => format!("a copy: {name} is made where it is"),
                    false => format!("a copy: {name} is wanted elsewhere too"),
                };
                if !resize::countable(part.h, part.h) || !resize::countable(part.w, part.w) {
                    return Err((id, format!("{}x{} pixels are too many to count", part.h, part.w)));
                }
                let launch = match (graph.node(input).map, graph.node(id).map) {
                    (Some(from), Some(to)) if graph.int8(id).is_some() => join_int8::launch(part, from, to),
                    _ => resize::launch(part, part),
                };
                let moved = bytes * part.len() as u64 / whole.len() as u64;
                copies.push(copy((id, input), (launch, place), moved, machine, (map, bytes), why));
            }
        }
    }
    Ok(copies)
}

/// A step that leaves the map of `input`, of so many bytes, at its place in that of `id`.
fn copy(
    (id, input): (NodeId, NodeId),
    (launch, place): (Launch, Place),
    moved: u64,
    machine: &Machine,
    whole: (Map, u64),
    why: String,
) -> DraftStep {
    let work = Work { bytes: 2 * moved, macs: 0 };
    let invocations = launch.workgroups.iter().product::<u32>() as usize * LANES as usize;
    let time = machine.time(Effort::of(1.0, 2.0), Crowd::of(invocations), work);
    DraftStep {
        nodes: vec![id],
        launch: launch.placed(place),
        reads: vec![Read::Map(Map::Node(input))],
        writes: vec![whole],
        shape: place.part,
        between: 0,
        work,
        time,
        why,
        block: None,
    }
}
