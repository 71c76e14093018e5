//! Execution plans: kernels, their order and their buffers, as plain data. Independent of wgpu.

mod blocks;
mod chain;
mod choose;
mod draft;
mod fused;
mod head;
mod int8;
mod memory;
mod place;
mod schedule;

pub use chain::chain;
pub use choose::Kernels;
#[cfg(feature = "cpu")]
pub(crate) use memory::{Lifetime, assign};
pub use schedule::{Fuse, Schedule};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::kernels::{Card, Kernel, Machine, Peaks, Work};
use crate::{
    Error, Result, Shape,
    graph::{Graph, NodeId, Op, passes},
    kernels::Launch,
    tensor::{Element, Form},
};

/// The most bytes of a readback buffer besides the outputs: overflow flag, padding, and a ring's timestamps.
pub(crate) const READBACK_EXTRA: u64 = 32;
use blocks::{Arithmetic, Unit};
use draft::{DraftStep, MapId, Read};

/// A reusable buffer for feature maps. No step reads and writes the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct SlotId(usize);

impl SlotId {
    /// The slot's index in [`Plan::slots`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A feature map in its slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// Its slot.
    pub slot: SlotId,
    /// Its shape.
    pub shape: Shape,
    /// Its format in the slot.
    pub form: Form,
}

impl Value {
    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.form.bytes(self.shape).expect("the planner checks the size of every map")
    }
}

/// An output of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// The map that holds it.
    pub value: Value,
    /// Its dimensions: `[N, C, H, W]`, or `[N, C]` where the source library returns a matrix.
    pub dims: Vec<usize>,
}

/// The output of a layer of the source library.
#[derive(Debug, Clone, PartialEq)]
pub struct Tap {
    /// The module that computes it.
    pub module: String,
    /// The map that holds it.
    pub value: Value,
    /// Its dimensions: `[N, C, H, W]`, or `[N, C]` where the source library returns a matrix.
    pub dims: Vec<usize>,
}

/// An input of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A feature map.
    Slot(SlotId),
    /// An index into [`Plan::weights`].
    Weights(usize),
}

/// One dispatch and its buffers.
#[derive(Debug, Clone)]
pub struct Step {
    /// The source library's modules that it computes; timings and errors name the first.
    pub layers: Vec<String>,
    /// The specialised kernel, its parameters and its workgroups.
    pub launch: Launch,
    /// Its inputs, in the order of the shader's `reads`.
    pub reads: Vec<Operand>,
    /// Its outputs, in the order of the shader's `writes`.
    pub writes: Vec<SlotId>,
    /// The shape of the map that it computes, or computes partial sums of.
    pub shape: Shape,
    /// The bytes that it moves and its multiply-adds.
    pub work: Work,
    /// The reason for this kernel and tile.
    pub why: String,
    /// The index of its block in [`Plan::choices`].
    pub block: Option<usize>,
}

impl Step {
    /// The module that timings and errors name.
    pub fn name(&self) -> &str {
        &self.layers[0]
    }

    /// The step without its GPU-specific fields.
    pub fn summary(&self) -> Summary {
        let Self { layers, launch, shape, work, .. } = self;
        Summary { layers: layers.clone(), kernel: launch.shader.name, shape: *shape, work: *work }
    }
}

/// A step, independent of the backend.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The source library's modules; timings and errors name the first.
    pub layers: Vec<String>,
    /// The kernel's name.
    pub kernel: &'static str,
    /// The shape of the map that it computes, or computes partial sums of.
    pub shape: Shape,
    /// The bytes that it moves and its multiply-adds.
    pub work: Work,
}

impl Summary {
    /// The module that timings and errors name.
    pub fn name(&self) -> &str {
        &self.layers[0]
    }
}

/// Schedules of blocks, by the name of each block's first layer.
pub type Schedules = BTreeMap<String, Schedule>;

/// Planner options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The fusions that the planner may choose.
    pub fuse: Fuse,
    /// Keeps every layer's output in a separate slot.
    pub taps: bool,
    /// Tuned kernels and schedules, preferred to the cost model's choice.
    pub tuned: Tuned,
}

impl Options {
    /// The allowed fusions: none with taps, since every layer's output then needs a separate step.
    fn fuse(&self) -> Fuse {
        if self.taps { Fuse::None } else { self.fuse }
    }

    /// Tuned kernels of single layers.
    fn kernels(&self) -> &Kernels {
        &self.tuned.kernels
    }
}

/// The results of tuning. The cost model decides for blocks, heads and layers without an entry, or with
/// one that the machine does not support.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuned {
    /// Kernels of unfused layers.
    pub kernels: Kernels,
    /// Kernels of projections whose inputs are scaled by squeeze-excite's gate.
    #[serde(default)]
    pub gated: Kernels,
    /// Schedules of blocks and heads.
    pub schedules: Schedules,
}

/// The schedule chosen for a block, and the reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The block's first layer.
    pub block: String,
    /// The schedule.
    pub schedule: Schedule,
    /// True if tuning chose it, false if its predicted time is the shortest.
    pub measured: bool,
    /// The chosen schedule and the fastest of every other kind, by predicted time, fastest first.
    pub candidates: Vec<Rated>,
}

impl Choice {
    /// The schedule of another kind with the shortest predicted time.
    pub fn runner_up(&self) -> Option<&Rated> {
        self.candidates.iter().find(|rated| rated.schedule.kind() != self.schedule.kind())
    }
}

/// A schedule with the cost model's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rated {
    /// The schedule.
    pub schedule: Schedule,
    /// Its predicted time, divided by the chosen schedule's.
    pub ratio: f64,
    /// The number of dispatches.
    pub steps: usize,
    /// Workgroups of the largest dispatch.
    pub workgroups: usize,
    /// Bytes of workgroup memory, in the fused dispatch that uses most.
    pub workgroup_memory: u32,
    /// The bytes that all dispatches move and their multiply-adds.
    pub work: Work,
}

/// The candidates of a layer, block or head that are worth measuring.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateSet<T> {
    /// The layer, or the first layer of the block or head.
    pub layer: String,
    /// The candidates, by predicted time, fastest first.
    pub candidates: Vec<T>,
    /// The predicted time of each candidate, in cycles.
    pub predicted: Vec<f64>,
}

/// Weights or biases in a kernel's layout.
#[derive(Debug, Clone, PartialEq)]
pub enum Packed {
    /// Floating-point values, and their element type on the device.
    Values(Vec<f32>, Element),
    /// 32-bit words: int8 weights, or the constants of an integer layer.
    Words(Vec<u32>),
}

impl Packed {
    /// The size on the device in bytes.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Values(values, element) => element.bytes() * values.len(),
            Self::Words(words) => 4 * words.len(),
        };
        bytes as u64
    }
}

/// A network, planned for one input shape and one device.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The dispatches in order.
    pub steps: Vec<Step>,
    /// The size of each slot in bytes.
    pub slots: Vec<u64>,
    /// Weights and biases in the kernels' layouts.
    pub weights: Vec<Packed>,
    /// The element type of maps and weights.
    pub element: Element,
    /// The map that holds the picture.
    pub input: Value,
    /// True if the plan quantises the picture to int8.
    pub quantises: bool,
    /// The network's outputs.
    pub outputs: Vec<Output>,
    /// Every layer's output, if requested.
    pub taps: Vec<Tap>,
    /// The schedule chosen for each block.
    pub choices: Vec<Choice>,
}

impl Plan {
    /// Plans `graph` for one input shape. With taps, no layers are fused, so that each has an output.
    ///
    /// # Errors
    /// [`Error::Layer`] if the input shape does not fit the network, no kernel supports a layer, or a
    /// weight overflows the machine's element type;
    /// [`Error::Limit`] if a map or a weight is larger than the machine allows.
    pub fn new(graph: &Graph, input: Shape, machine: Machine, options: &Options) -> Result<Self> {
        let graph = &passes::prepared(graph, options.taps);
        let shapes = graph.shapes(input)?;
        let form = |id: NodeId| choose::form(graph.node(id), machine.element);
        let float_form = |id: NodeId| choose::float_form(&graph.node(id).op, machine.element);
        for (id, node) in graph.nodes() {
            let bytes = float_form(id).bytes(shapes[id.index()]);
            check(node.output_name(), bytes.unwrap_or(u64::MAX), machine)?;
        }
        let Some(source) = graph.source() else {
            return Err(Error::Input("the network has no input".into()));
        };
        let outputs = graph.outputs();
        let uses = graph.uses();

        let failed = |(id, reason): (NodeId, String)| Error::layer(graph.node(id).name(), reason);
        let mut drafts = Vec::new();
        let mut choices = Vec::new();
        for unit in blocks::units(graph) {
            if let Unit::Layer(id) = unit {
                if matches!(graph.node(id).op, Op::Concat(_)) {
                    let alone = |part: NodeId| !options.taps && uses[part.index()] == 1;
                    let copies = place::join(graph, &shapes, id, &machine, alone, &mut drafts);
                    drafts.extend(copies.map_err(failed)?);
                } else if id != source {
                    drafts.push(
                        choose::layer(graph, &shapes, id, &machine, options.kernels()).map_err(failed)?,
                    );
                }
                continue;
            }
            let name = graph.node(unit.first()).name();
            let found = candidates(graph, &shapes, &unit, &machine, options, 1).map_err(failed)?;
            let wanted = options.tuned.schedules.get(name).filter(|_| options.fuse() == Fuse::Auto);
            let measured = wanted.and_then(|w| found.iter().position(|c| c.schedule == *w));
            let best = &found[measured.unwrap_or(0)];
            choices.push(Choice {
                block: name.to_string(),
                schedule: best.schedule,
                measured: measured.is_some(),
                candidates: rated(&found, best),
            });
            let index = choices.len() - 1;
            drafts.extend(best.steps.iter().map(|step| DraftStep { block: Some(index), ..step.clone() }));
        }
        for draft in drafts.iter().filter(|draft| graph.int8(draft.nodes[0]).is_none()) {
            for (read, name) in draft.reads.iter().zip(draft.launch.shader.reads) {
                let stored = Form::Map(draft.launch.shader.stored(name, machine.element));
                if let Read::Map(MapId::Node(id)) = read
                    && float_form(*id) != stored
                {
                    let reason = format!("cannot read the output of {}", graph.node(*id).name());
                    return Err(Error::layer(graph.node(draft.nodes[0]).name(), reason));
                }
            }
        }
        let drafts = int8::converted(graph, &shapes, &machine, drafts);
        for (draft, &(_, bytes)) in drafts.iter().flat_map(|d| d.writes.iter().map(move |w| (d, w))) {
            check(graph.node(draft.nodes[0]).name(), bytes, machine)?;
        }

        // The caller provides the picture in floating point.
        let entry = match graph.node(source).quantisation {
            Some(_) => MapId::Unquantised(source),
            None => MapId::Node(source),
        };
        let first = (entry, machine.bytes(shapes[source.index()]));
        let kept = |map| options.taps || matches!(map, MapId::Node(id) if graph.is_output(id));
        let settled = draft::settle(graph, machine.element, drafts, first, kept);
        let slot = |map: MapId| {
            settled.slot_of.iter().find(|(other, _)| *other == map).map(|&(_, slot)| SlotId(slot))
        };
        let value = |id: NodeId| {
            slot(MapId::Node(id)).map(|slot| Value { slot, shape: shapes[id.index()], form: form(id) })
        };
        let output = |&(name, id): &(&str, NodeId)| {
            let value =
                value(id).ok_or_else(|| Error::Input(format!("the network does not compute {name}")))?;
            Ok(Output { name: name.into(), value, dims: graph.output_dims(id, value.shape) })
        };
        let outputs: Vec<Output> = outputs.iter().map(output).collect::<Result<_>>()?;
        // All outputs share one readback buffer.
        let needed = outputs.iter().map(|output| output.value.bytes()).sum::<u64>() + READBACK_EXTRA;
        if needed > machine.max_buffer {
            return Err(Error::Limit { what: "the readback".into(), needed, limit: machine.max_buffer });
        }
        let input = Value {
            slot: slot(entry).ok_or_else(|| Error::Input("the network has no input".into()))?,
            shape: shapes[source.index()],
            form: Form::Map(machine.element),
        };
        let tapped = graph.nodes().filter(|(id, _)| options.taps && *id != source);
        let taps = tapped
            .filter_map(|(id, node)| {
                let value = value(id)?;
                Some(Tap { module: node.output_name().to_string(), value, dims: node.dims(value.shape) })
            })
            .collect();
        for (step, weights) in settled.steps.iter().flat_map(|s| s.reads.iter().map(move |r| (s, r))) {
            if let Operand::Weights(at) = weights {
                let packed = &settled.weights[*at];
                check(step.name(), packed.bytes(), machine)?;
                if let Packed::Values(values, element) = packed
                    && let Some(value) = element.overflow(values)
                {
                    let reason = format!("the weight {value:e} overflows {element}: use f32");
                    return Err(Error::layer(step.name(), reason));
                }
            }
        }
        Ok(Self {
            steps: settled.steps,
            slots: settled.slots,
            weights: settled.weights,
            element: machine.element,
            input,
            quantises: entry != MapId::Node(source),
            outputs,
            taps,
            choices,
        })
    }

    /// The kernels worth measuring for each layer that has several: up to `each` per shader and
    /// arithmetic.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn layer_candidates(
        graph: &Graph,
        input: Shape,
        machine: Machine,
        each: usize,
    ) -> Result<Vec<CandidateSet<Kernel>>> {
        let graph = &passes::prepared(graph, false);
        let shapes = graph.shapes(input)?;
        let sets = graph.nodes().map(|(id, node)| {
            let found = choose::shortlist(graph, &shapes, id, &machine, each)
                .map_err(|(_, reason)| Error::layer(node.name(), reason))?;
            let (candidates, predicted) = found.into_iter().unzip();
            Ok(CandidateSet { layer: node.name().to_string(), candidates, predicted })
        });
        let sets: Vec<_> = sets.collect::<Result<_>>()?;
        Ok(sets.into_iter().filter(|set| set.candidates.len() > 1).collect())
    }

    /// The kernels worth measuring for each projection whose inputs are scaled by squeeze-excite's gate.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn gated_candidates(
        graph: &Graph,
        input: Shape,
        machine: Machine,
        each: usize,
    ) -> Result<Vec<CandidateSet<Kernel>>> {
        let graph = &passes::prepared(graph, false);
        let shapes = graph.shapes(input)?;
        let blocks = blocks::units(graph).into_iter().filter_map(|unit| match unit {
            Unit::Block(block) if block.arithmetic == Arithmetic::Float => {
                block.squeeze.map(|squeeze| (block, squeeze))
            }
            _ => None,
        });
        let sets = blocks.map(|(block, squeeze)| {
            let name = graph.node(block.project).name();
            let gate = MapId::Node(squeeze.widen);
            let found =
                choose::gated_shortlist(graph, &shapes, block.project, block.depthwise, gate, &machine, each)
                    .map_err(|(_, reason)| Error::layer(name, reason))?;
            let (candidates, predicted) = found.into_iter().unzip();
            Ok(CandidateSet { layer: name.to_string(), candidates, predicted })
        });
        let sets: Vec<_> = sets.collect::<Result<_>>()?;
        Ok(sets.into_iter().filter(|set| set.candidates.len() > 1).collect())
    }

    /// The schedules worth measuring for each block and head: up to `each` per kind. Unfused layers use
    /// the kernels of `tuned`.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn block_candidates(
        graph: &Graph,
        input: Shape,
        machine: Machine,
        tuned: &Tuned,
        each: usize,
    ) -> Result<Vec<CandidateSet<Schedule>>> {
        let graph = &passes::prepared(graph, false);
        let shapes = graph.shapes(input)?;
        let options = Options { tuned: tuned.clone(), ..Options::default() };
        let mut sets = Vec::new();
        for unit in blocks::units(graph) {
            let found = candidates(graph, &shapes, &unit, &machine, &options, each)
                .map_err(|(id, reason)| Error::layer(graph.node(id).name(), reason))?;
            let found = first_of_kind(found.iter(), each, |found| found.schedule.kind());
            if found.len() > 1 {
                let layer = graph.node(unit.first()).name().to_string();
                let (candidates, predicted) = found.iter().map(|c| (c.schedule, c.time)).unzip();
                sets.push(CandidateSet { layer, candidates, predicted });
            }
        }
        Ok(sets)
    }

    /// The size of all slots in bytes.
    pub fn slot_bytes(&self) -> u64 {
        self.slots.iter().sum()
    }

    /// The size of all weights in bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(Packed::bytes).sum()
    }

    /// The device memory that the network needs in bytes: slots and weights.
    pub fn peak_bytes(&self) -> u64 {
        self.slot_bytes() + self.weight_bytes()
    }
}

/// Returns the first `each` candidates of every kind.
fn first_of_kind<T, K: PartialEq>(
    candidates: impl Iterator<Item = T>,
    each: usize,
    kind: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut taken: Vec<T> = Vec::new();
    for candidate in candidates {
        if taken.iter().filter(|other| kind(other) == kind(&candidate)).count() < each {
            taken.push(candidate);
        }
    }
    taken
}

/// Returns the chosen candidate and the fastest of every other kind, by predicted time.
fn rated(found: &[schedule::Candidate], chosen: &schedule::Candidate) -> Vec<Rated> {
    let mut kinds =
        first_of_kind([chosen].into_iter().chain(found), 1, |candidate| candidate.schedule.kind());
    kinds.sort_by(|a, b| a.time.total_cmp(&b.time));
    kinds.into_iter().map(|candidate| candidate.rated(chosen.time)).collect()
}

/// The schedules of a unit by predicted time, fastest first: of a block, `each` per kind and the tuned one; of a
/// head, all. Empty for a single layer.
fn candidates(
    graph: &Graph,
    shapes: &[Shape],
    unit: &Unit,
    machine: &Machine,
    options: &Options,
    each: usize,
) -> Result<Vec<schedule::Candidate>, (NodeId, String)> {
    match unit {
        Unit::Layer(_) => Ok(Vec::new()),
        Unit::Block(block) => schedule::candidates(graph, shapes, block, machine, options, each),
        Unit::Head(head) => head::candidates(graph, shapes, *head, machine, options),
    }
}

fn check(what: &str, bytes: u64, machine: Machine) -> Result<()> {
    let limit = machine.max_binding.min(machine.max_buffer);
    if bytes > limit {
        return Err(Error::Limit { what: format!("layer {what}"), needed: bytes, limit });
    }
    Ok(())
}
