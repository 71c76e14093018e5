//! A plan in the making: steps over maps that have no slots yet.

use super::{Operand, Packed, Step, memory};
use crate::{
    Shape,
    graph::{Graph, NodeId},
    kernels::{self, Launch, Packing, Work},
    plan::blocks,
    tensor::Element,
};

/// A map of a draft: a node's value, or something that only steps of one block share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// The value of a node.
    Node(NodeId),
    /// The sums over tiles that squeeze-excite's gate begins with, of the block with this
    /// depthwise convolution.
    Pooled(NodeId),
    /// The parts of a split projection.
    Parts(NodeId),
    /// A node's value in floating point before it is brought to 8 bits.
    Unquantised(NodeId),
    /// A node's value in 8 bits, in floating point again.
    Dequantised(NodeId),
    /// A dummy for an output that is not used, of the step that computes this node.
    Unwanted(NodeId),
}

/// Something that a step reads, named by what it is.
#[derive(Debug, Clone)]
pub enum Read {
    /// A map.
    Map(Map),
    /// Weights of these convolutions, laid out so, one after another.
    Weights(Vec<NodeId>, Packing),
    /// Biases of these convolutions, one after another.
    Biases(Vec<NodeId>),
    /// These numbers.
    Values(Vec<f32>),
    /// These words, of a layer in integers.
    Words(Vec<u32>),
    /// A binding that the kernel, as specialised, never reads.
    Nothing,
}

/// A step whose maps have no slots yet.
#[derive(Debug, Clone)]
pub struct DraftStep {
    /// The nodes that it computes, of which the first names it.
    pub nodes: Vec<NodeId>,
    /// The kernel.
    pub launch: Launch,
    /// What it reads, in the shader's order.
    pub reads: Vec<Read>,
    /// What it writes, in the shader's order, with the bytes of each.
    pub writes: Vec<(Map, u64)>,
    /// The shape of the map that it makes, or of which it makes parts.
    pub shape: Shape,
    /// Bytes of workgroup memory that hold what lies between its layers, if it has several.
    pub between: u32,
    /// What it moves and computes.
    pub work: Work,
    /// The modelled time; see [`super::Machine`].
    pub time: f64,
    /// Why this kernel with this tile.
    pub why: String,
    /// The block that it belongs to; see [`Step::block`].
    pub block: Option<usize>,
}

/// Slots, weights and steps of a draft.
pub struct Settled {
    pub steps: Vec<Step>,
    pub slots: Vec<u64>,
    pub weights: Vec<Packed>,
    /// The slot of every map, in the order in which they are written; the input is first.
    pub slot_of: Vec<(Map, usize)>,
}

/// Gives every map a slot, and packs the weights, stored as `element`. `input` is written before
/// the first step; `kept` maps stay to the end.
pub fn settle(
    graph: &Graph,
    element: Element,
    drafts: Vec<DraftStep>,
    input: (Map, u64),
    kept: impl Fn(Map) -> bool,
) -> Settled {
    let mut maps = vec![input.0];
    let mut lives = vec![memory::Life { bytes: input.1, first: 0, last: 0 }];
    for (step, draft) in drafts.iter().enumerate() {
        for &(map, bytes) in &draft.writes {
            // Several steps write what several parts make up.
            match maps.iter().position(|m| *m == map) {
                Some(at) => lives[at].last = step + 1,
                None => {
                    maps.push(map);
                    lives.push(memory::Life { bytes, first: step + 1, last: step + 1 });
                }
            }
        }
        for read in &draft.reads {
            if let Read::Map(map) = read
                && let Some(at) = maps.iter().position(|m| m == map)
            {
                lives[at].last = step + 1;
            }
        }
    }
    for (map, life) in maps.iter().zip(&mut lives) {
        if kept(*map) {
            life.last = usize::MAX;
        }
    }
    for life in &mut lives {
        life.bytes = life.bytes.max(kernels::LEAST_BINDING);
    }
    let (slots_of, slots) = memory::assign(&lives);
    let slot = |map: Map| {
        let at = maps.iter().position(|m| *m == map).expect("a map is written before it is read");
        super::SlotId(slots_of[at])
    };

    let mut weights = Vec::new();
    // The earliest step that overflows has the highest alarm.
    let alarms = (1..=drafts.len() as u32).rev();
    let steps = drafts
        .into_iter()
        .zip(alarms)
        .map(|(draft, alarm)| {
            let bytes = keeps_bytes(graph, &draft);
            let mut reads: Vec<Operand> = Vec::new();
            for (read, name) in draft.reads.iter().zip(draft.launch.shader.reads) {
                reads.push(match read {
                    Read::Map(map) => Operand::Slot(slot(*map)),
                    // A binding must have some buffer; what is read anyway costs no barrier.
                    Read::Nothing => reads[0],
                    packed => {
                        let shader = draft.launch.shader;
                        let bytes = bytes && (shader.takes_bytes(name) || matches!(read, Read::Biases(_)));
                        weights.push(match bytes {
                            true => pack_bytes(graph, packed),
                            false => pack(graph, packed, shader.stored(name, element)),
                        });
                        Operand::Weights(weights.len() - 1)
                    }
                });
            }
            Step {
                layers: draft.nodes.iter().flat_map(|&id| graph.node(id).layers.iter().cloned()).collect(),
                launch: if bytes { draft.launch.in_bytes() } else { draft.launch }.alarmed(alarm),
                reads,
                writes: draft.writes.iter().map(|(map, _)| slot(*map)).collect(),
                shape: draft.shape,
                work: draft.work,
                why: draft.why,
                block: draft.block,
            }
        })
        .collect();
    Settled { steps, slots, weights, slot_of: maps.into_iter().zip(slots_of).collect() }
}

/// Whether all weights of a step whose kernel takes bytes are of 8 bits. Steps in integers have words of their own.
fn keeps_bytes(graph: &Graph, draft: &DraftStep) -> bool {
    let mut any = false;
    let stepped = |id: &NodeId| graph.node(*id).steps.is_some();
    draft.reads.iter().zip(draft.launch.shader.reads).all(|(read, name)| match read {
        Read::Weights(ids, _) if draft.launch.shader.takes_bytes(name) => {
            any = true;
            ids.iter().all(stepped)
        }
        _ => true,
    }) && any
}

/// What [`pack`] makes of a step that [`keeps_bytes`]: weights as bytes, and behind all biases what a step of each output's
/// weights is.
fn pack_bytes(graph: &Graph, read: &Read) -> Packed {
    let conv = |id: &NodeId| blocks::conv(graph.node(*id)).expect("only convolutions have weights");
    let steps = |id: &NodeId| graph.node(*id).steps.clone();
    match read {
        Read::Weights(ids, packing) => {
            let words = |id: &NodeId| Some(kernels::pack_bytes(conv(id), &steps(id)?, *packing));
            Packed::Words(ids.iter().filter_map(words).flatten().collect())
        }
        Read::Biases(ids) => {
            let mut biases: Vec<f32> = ids.iter().flat_map(|id| kernels::pack_bias(conv(id))).collect();
            let padded = |id: &NodeId| {
                let mut padded = vec![0.0; conv(id).outputs().next_multiple_of(4)];
                steps(id).iter().for_each(|steps| padded[..steps.len()].copy_from_slice(steps));
                padded
            };
            let mut steps: Vec<f32> = ids.iter().flat_map(padded).collect();
            // A binding has sixteen numbers at least, and steps begin in its middle.
            let half = biases.len().max(kernels::LEAST_BINDING as usize / 8);
            biases.resize(half, 0.0);
            steps.resize(half, 0.0);
            biases.append(&mut steps);
            Packed::Values(biases, Element::F32)
        }
        other => pack(graph, other, Element::F32),
    }
}

/// Weights and biases as the kernels read them.
fn pack(graph: &Graph, read: &Read, element: Element) -> Packed {
    let conv = |id: &NodeId| blocks::conv(graph.node(*id)).expect("only convolutions have weights");
    let values = match read {
        Read::Weights(ids, packing) => ids.iter().flat_map(|id| packing.of(conv(id))).collect(),
        Read::Biases(ids) => ids.iter().flat_map(|id| kernels::pack_bias(conv(id))).collect(),
        Read::Values(values) => values.clone(),
        Read::Words(words) => return Packed::Words(words.clone()),
        Read::Map(_) | Read::Nothing => Vec::new(),
    };
    Packed::Values(values, element)
}
