//! Draft plans: steps over maps that have no slots yet.

use super::{Operand, Packed, Step, memory};
use crate::{
    Shape,
    graph::{Graph, NodeId},
    kernels::{self, Launch, Packing, Work},
    plan::blocks,
    tensor::Element,
};

/// A map of a draft: a node's value or an intermediate result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapId {
    /// The value of a node.
    Node(NodeId),
    /// Sums over tiles, the input of squeeze-excite's gate, from the block with this depthwise
    /// convolution.
    Pooled(NodeId),
    /// The partial sums of this split projection.
    PartialSums(NodeId),
    /// A node's floating-point value before it is quantised to int8.
    Unquantised(NodeId),
    /// A node's int8 value, converted to floating point.
    Dequantised(NodeId),
    /// A dummy binding for an unused output of the step that computes this node.
    Unused(NodeId),
}

/// An input of a draft step.
#[derive(Debug, Clone)]
pub enum Read {
    /// A map.
    Map(MapId),
    /// The weights of these convolutions in this layout, concatenated.
    Weights(Vec<NodeId>, Packing),
    /// The biases of these convolutions, concatenated.
    Biases(Vec<NodeId>),
    /// Constant values.
    Values(Vec<f32>),
    /// Constant words of an integer layer.
    Words(Vec<u32>),
    /// A dummy for a binding that the specialised kernel never reads.
    Nothing,
}

impl Read {
    /// Moves the constants of an integer layer that a kernel binds as `name` out of `words`.
    pub fn words(words: &mut Vec<(&'static str, Vec<u32>)>, name: &str) -> Self {
        let own = words.iter().position(|(of, _)| *of == name);
        own.map_or(Self::Nothing, |at| Self::Words(words.swap_remove(at).1))
    }
}

/// A step whose maps have no slots yet.
#[derive(Debug, Clone)]
pub struct DraftStep {
    /// The nodes that it computes; errors name the first.
    pub nodes: Vec<NodeId>,
    /// The specialised kernel, its parameters and its workgroups.
    pub launch: Launch,
    /// Its inputs, in the shader's order.
    pub reads: Vec<Read>,
    /// Its outputs, in the shader's order, with the size of each in bytes.
    pub writes: Vec<(MapId, u64)>,
    /// The shape of the map that it computes, or computes partial sums of.
    pub shape: Shape,
    /// Bytes of workgroup memory, if it fuses layers.
    pub workgroup_memory: u32,
    /// The bytes that it moves and its multiply-adds.
    pub work: Work,
    /// The predicted time in cycles; see [`super::Machine`].
    pub time: f64,
    /// The reason for this kernel and tile.
    pub why: String,
    /// Its block; see [`Step::block`].
    pub block: Option<usize>,
}

/// A draft with slots assigned and weights packed.
pub struct Settled {
    pub steps: Vec<Step>,
    pub slots: Vec<u64>,
    pub weights: Vec<Packed>,
    /// The slot of every map, in the order of writing, the input first.
    pub slot_of: Vec<(MapId, usize)>,
}

/// Assigns a slot to every map and packs the weights as `element`. `input` is written before the
/// first step; `kept` maps live to the end.
pub fn settle(
    graph: &Graph,
    element: Element,
    drafts: Vec<DraftStep>,
    input: (MapId, u64),
    kept: impl Fn(MapId) -> bool,
) -> Settled {
    let mut maps = vec![input.0];
    let mut lives = vec![memory::Lifetime { bytes: input.1, first: 0, last: 0 }];
    for (step, draft) in drafts.iter().enumerate() {
        for &(map, bytes) in &draft.writes {
            // Several steps write a concatenated map.
            match maps.iter().position(|m| *m == map) {
                Some(at) => lives[at].last = step + 1,
                None => {
                    maps.push(map);
                    lives.push(memory::Lifetime { bytes, first: step + 1, last: step + 1 });
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
    let slot = |map: MapId| {
        let at = maps.iter().position(|m| *m == map).expect("a map is written before it is read");
        super::SlotId(slots_of[at])
    };

    let mut weights = Vec::new();
    // The overflow flag keeps the highest alarm. Alarms descend, so that it names the first step to overflow.
    let alarms = (1..=drafts.len() as u32).rev();
    let steps = drafts
        .into_iter()
        .zip(alarms)
        .map(|(draft, alarm)| {
            let int8 = has_int8_weights(graph, &draft);
            let mut reads: Vec<Operand> = Vec::new();
            for (read, name) in draft.reads.iter().zip(draft.launch.shader.reads) {
                reads.push(match read {
                    Read::Map(map) => Operand::Slot(slot(*map)),
                    // Every binding needs a buffer; one that is read anyway adds no barrier.
                    Read::Nothing => reads[0],
                    packed => {
                        let shader = draft.launch.shader;
                        let int8 =
                            int8 && (shader.accepts_int8_weights(name) || matches!(read, Read::Biases(_)));
                        weights.push(match int8 {
                            true => pack_int8(graph, packed),
                            false => pack(graph, packed, shader.stored(name, element)),
                        });
                        Operand::Weights(weights.len() - 1)
                    }
                });
            }
            Step {
                layers: draft.nodes.iter().flat_map(|&id| graph.node(id).layers.iter().cloned()).collect(),
                launch: if int8 { draft.launch.with_int8_weights() } else { draft.launch }.alarmed(alarm),
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

/// Returns whether a step reads int8 weights: its kernel supports them and all its weights have scales.
/// Integer layers use [`Read::Words`] instead.
fn has_int8_weights(graph: &Graph, draft: &DraftStep) -> bool {
    let mut any = false;
    let has_scales = |id: &NodeId| graph.node(*id).weight_scales.is_some();
    draft.reads.iter().zip(draft.launch.shader.reads).all(|(read, name)| match read {
        Read::Weights(ids, _) if draft.launch.shader.accepts_int8_weights(name) => {
            any = true;
            ids.iter().all(has_scales)
        }
        _ => true,
    }) && any
}

/// [`pack`] for a step that [`has_int8_weights`]: weights as bytes, and after all biases the weight
/// scale of each output.
fn pack_int8(graph: &Graph, read: &Read) -> Packed {
    let conv = |id: &NodeId| blocks::conv(graph.node(*id)).expect("only convolutions have weights");
    let scales = |id: &NodeId| graph.node(*id).weight_scales.clone();
    match read {
        Read::Weights(ids, packing) => {
            let words = |id: &NodeId| Some(kernels::pack_int8(conv(id), &scales(id)?, *packing));
            Packed::Words(ids.iter().filter_map(words).flatten().collect())
        }
        Read::Biases(ids) => {
            let mut biases: Vec<f32> = ids.iter().flat_map(|id| kernels::pack_bias(conv(id))).collect();
            let padded = |id: &NodeId| {
                let mut padded = vec![0.0; conv(id).outputs().next_multiple_of(4)];
                scales(id).iter().for_each(|scales| padded[..scales.len()].copy_from_slice(scales));
                padded
            };
            let mut scales: Vec<f32> = ids.iter().flat_map(padded).collect();
            // Scales start in the middle of the binding, which has sixteen values or more.
            let half = biases.len().max(kernels::LEAST_BINDING as usize / 8);
            biases.resize(half, 0.0);
            scales.resize(half, 0.0);
            biases.append(&mut scales);
            Packed::Values(biases, Element::F32)
        }
        other => pack(graph, other, Element::F32),
    }
}

/// Packs weights and biases in the kernels' layouts.
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
