//! What runs: which kernels, in which order, over which buffers. Pure data that explains
//! itself; nothing here knows wgpu.

mod blocks;
mod chain;
mod choose;
mod draft;
mod head;
mod int8;
mod memory;
mod place;
mod schedule;

pub use chain::chain;
pub use choose::Kernels;
pub(crate) use memory::{Life, assign};
pub use schedule::{Fuse, Schedule};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::kernels::{Card, Kernel, Machine, Work};
use crate::{
    Error, Result, Shape,
    graph::{Graph, NodeId, Op, passes},
    kernels::Launch,
    tensor::{Element, Form},
};
use blocks::Unit;
use draft::{DraftStep, Map, Read};

/// A buffer for feature maps, used by one after another. No step reads and writes the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct SlotId(usize);

impl SlotId {
    /// The slot's place in [`Plan::slots`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A feature map in its slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// Where it is.
    pub slot: SlotId,
    /// Its shape.
    pub shape: Shape,
    /// How it lies there.
    pub form: Form,
}

impl Value {
    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.form.bytes(self.shape).expect("a plan's maps have been counted")
    }
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Where it comes.
    pub value: Value,
    /// Its dimensions: `[N, C, H, W]`, or `[N, C]` of a matrix product.
    pub dims: Vec<usize>,
}

/// A layer's output, as its source library has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tap {
    /// The module whose output it is.
    pub module: String,
    /// Where it is.
    pub value: Value,
    /// Its dimensions: `[N, C, H, W]`, or `[N, C]` of a matrix product.
    pub dims: Vec<usize>,
}

/// Something that a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A feature map.
    Slot(SlotId),
    /// An entry of [`Plan::weights`].
    Weights(usize),
}

/// One dispatch and its buffers.
#[derive(Debug, Clone)]
pub struct Step {
    /// The source library's modules that it computes; timings and errors name the first.
    pub layers: Vec<String>,
    /// The kernel and how much of it.
    pub launch: Launch,
    /// What it reads, in the order of the shader's `reads`.
    pub reads: Vec<Operand>,
    /// What it writes, in the order of the shader's `writes`.
    pub writes: Vec<SlotId>,
    /// The shape of the map that it makes, or of which it makes parts.
    pub shape: Shape,
    /// What it moves and computes.
    pub work: Work,
    /// Why this kernel with this tile.
    pub why: String,
    /// The block that it belongs to, as a place in [`Plan::choices`].
    pub block: Option<usize>,
}

impl Step {
    /// The module that timings and errors name.
    pub fn name(&self) -> &str {
        &self.layers[0]
    }

    /// It, without what only a GPU has to know.
    pub fn summary(&self) -> Summary {
        let Self { layers, launch, shape, work, .. } = self;
        Summary { layers: layers.clone(), kernel: launch.shader.name, shape: *shape, work: *work }
    }
}

/// What a step computes, whoever runs it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The source library's modules; timings and errors name the first.
    pub layers: Vec<String>,
    /// The kernel.
    pub kernel: &'static str,
    /// The shape of the map that it makes, or of which it makes parts.
    pub shape: Shape,
    /// What it moves and computes.
    pub work: Work,
}

impl Summary {
    /// The module that timings and errors name.
    pub fn name(&self) -> &str {
        &self.layers[0]
    }
}

/// Schedules of blocks, by each block's first layer.
pub type Schedules = BTreeMap<String, Schedule>;

/// How to plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Which layers may share a kernel.
    pub fuse: Fuse,
    /// Keep every layer's output in a slot of its own.
    pub taps: bool,
    /// What somebody measured to be best, where the planner is free to choose.
    pub tuned: Tuned,
}

impl Options {
    /// Every layer's output needs a step of its own.
    fn fuse(&self) -> Fuse {
        if self.taps { Fuse::None } else { self.fuse }
    }

    /// Kernels that were measured.
    fn kernels(&self) -> &Kernels {
        &self.tuned.kernels
    }
}

/// What measuring found. Units and layers without an entry are left to the model, and so are
/// those whose entry the machine does not admit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuned {
    /// Of layers that have a kernel of their own.
    pub kernels: Kernels,
    /// Of projections that squeeze-excite's gate scales the inputs of.
    #[serde(default)]
    pub gated: Kernels,
    /// Of blocks and heads.
    pub schedules: Schedules,
}

/// What was chosen for a block, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The block's first layer.
    pub block: String,
    /// The schedule.
    pub schedule: Schedule,
    /// True if it was measured, false if the model gives it the least time.
    pub measured: bool,
    /// It, and of every other kind of schedule the best by the model, best first.
    pub candidates: Vec<Rated>,
}

impl Choice {
    /// The best schedule of another kind by the model.
    pub fn runner_up(&self) -> Option<&Rated> {
        self.candidates.iter().find(|rated| rated.schedule.kind() != self.schedule.kind())
    }
}

/// A schedule as the model sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rated {
    /// The schedule.
    pub schedule: Schedule,
    /// How many times as long as what was chosen.
    pub ratio: f64,
    /// Dispatches.
    pub steps: usize,
    /// Workgroups of the largest dispatch.
    pub workgroups: usize,
    /// Bytes of workgroup memory that hold what lies between layers, of the dispatch with most.
    pub workgroup_memory: u32,
    /// What they move and compute together.
    pub work: Work,
}

/// Alternatives that are worth measuring, the model's favourite first.
#[derive(Debug, Clone, PartialEq)]
pub struct Contest<T> {
    /// The layer, or the first one of the unit.
    pub layer: String,
    /// Who takes part, the model's favourite first.
    pub entered: Vec<T>,
    /// The time that the model gives each.
    pub modelled: Vec<f64>,
}

/// Weights or biases as a kernel reads them.
#[derive(Debug, Clone, PartialEq)]
pub enum Packed {
    /// Numbers, and what the device stores them as.
    Values(Vec<f32>, Element),
    /// Words, of layers in integers.
    Words(Vec<u32>),
}

impl Packed {
    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Values(values, element) => element.bytes() * values.len(),
            Self::Words(words) => 4 * words.len(),
        };
        bytes as u64
    }
}

/// A network at one input shape, ready to be given to a device.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The dispatches in order.
    pub steps: Vec<Step>,
    /// Bytes of each slot.
    pub slots: Vec<u64>,
    /// Weights and biases as the kernels read them.
    pub weights: Vec<Packed>,
    /// What maps and weights are stored as.
    pub element: Element,
    /// Where the picture goes.
    pub input: Value,
    /// Whether it is then brought to 8 bits.
    pub quantises: bool,
    /// Where the parts of the answer come.
    pub outputs: Vec<Output>,
    /// Every layer's output, if they were asked for.
    pub taps: Vec<Tap>,
    /// What was chosen for each block.
    pub choices: Vec<Choice>,
}

impl Plan {
    /// Plans `graph` for inputs of one shape. With taps no layers share a kernel, so that each
    /// has an output.
    ///
    /// # Errors
    /// [`Error::Layer`] if an input of that shape does not fit the network or no kernel
    /// computes a layer or its weights are beyond what the machine's element holds,
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
        let answers = graph.answers();
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
            let place = choices.len() - 1;
            drafts.extend(best.steps.iter().map(|step| DraftStep { block: Some(place), ..step.clone() }));
        }
        for draft in drafts.iter().filter(|draft| graph.int8(draft.nodes[0]).is_none()) {
            for (read, name) in draft.reads.iter().zip(draft.launch.shader.reads) {
                let stored = Form::Map(draft.launch.shader.stored(name, machine.element));
                if let Read::Map(Map::Node(id)) = read
                    && float_form(*id) != stored
                {
                    let reason = format!("cannot read what {} makes", graph.node(*id).name());
                    return Err(Error::layer(graph.node(draft.nodes[0]).name(), reason));
                }
            }
        }
        let drafts = int8::converted(graph, &shapes, &machine, drafts);
        for (draft, &(_, bytes)) in drafts.iter().flat_map(|d| d.writes.iter().map(move |w| (d, w))) {
            check(graph.node(draft.nodes[0]).name(), bytes, machine)?;
        }

        // The picture comes in floating point.
        let entry = match graph.node(source).map {
            Some(_) => Map::Unquantised(source),
            None => Map::Node(source),
        };
        let first = (entry, machine.bytes(shapes[source.index()]));
        let kept = |map| options.taps || matches!(map, Map::Node(id) if graph.is_answer(id));
        let settled = draft::settle(graph, machine.element, drafts, first, kept);
        let slot =
            |map: Map| settled.slot_of.iter().find(|(other, _)| *other == map).map(|&(_, slot)| SlotId(slot));
        let value = |id: NodeId| {
            slot(Map::Node(id)).map(|slot| Value { slot, shape: shapes[id.index()], form: form(id) })
        };
        let output = |&(name, id): &(&str, NodeId)| {
            let value =
                value(id).ok_or_else(|| Error::Input(format!("the network does not compute {name}")))?;
            Ok(Output { name: name.into(), value, dims: graph.answer_dims(id, value.shape) })
        };
        let outputs: Vec<Output> = answers.iter().map(output).collect::<Result<_>>()?;
        // They come back in one buffer.
        let needed = outputs.iter().map(|output| output.value.bytes()).sum();
        if needed > machine.max_buffer {
            return Err(Error::Limit { what: "the answer".into(), needed, limit: machine.max_buffer });
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
                    let reason = format!("the weight {value:e} is beyond what {element} holds");
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
            quantises: entry != Map::Node(source),
            outputs,
            taps,
            choices,
        })
    }

    /// For each layer with a choice the kernels worth measuring: `each` of every shader and
    /// arithmetic.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn layer_contests(
        graph: &Graph,
        input: Shape,
        machine: Machine,
        each: usize,
    ) -> Result<Vec<Contest<Kernel>>> {
        let graph = &passes::prepared(graph, false);
        let shapes = graph.shapes(input)?;
        let contests = graph.nodes().map(|(id, node)| {
            let found = choose::contest(graph, &shapes, id, &machine, each)
                .map_err(|(_, reason)| Error::layer(node.name(), reason))?;
            let (entered, modelled) = found.into_iter().unzip();
            Ok(Contest { layer: node.name().to_string(), entered, modelled })
        });
        let contests: Vec<_> = contests.collect::<Result<_>>()?;
        Ok(contests.into_iter().filter(|contest| contest.entered.len() > 1).collect())
    }

    /// For each projection whose inputs squeeze-excite's gate scales as they are loaded the kernels worth measuring.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn gated_contests(
        graph: &Graph,
        input: Shape,
        machine: Machine,
        each: usize,
    ) -> Result<Vec<Contest<Kernel>>> {
        let graph = &passes::prepared(graph, false);
        let shapes = graph.shapes(input)?;
        let blocks = blocks::units(graph).into_iter().filter_map(|unit| match unit {
            Unit::Block(block) => block.squeeze.map(|squeeze| (block, squeeze)),
            _ => None,
        });
        let contests = blocks.map(|(block, squeeze)| {
            let name = graph.node(block.project).name();
            let gate = Map::Node(squeeze.widen);
            let found =
                choose::gated_contest(graph, &shapes, block.project, block.depthwise, gate, &machine, each)
                    .map_err(|(_, reason)| Error::layer(name, reason))?;
            let (entered, modelled) = found.into_iter().unzip();
            Ok(Contest { layer: name.to_string(), entered, modelled })
        });
        let contests: Vec<_> = contests.collect::<Result<_>>()?;
        Ok(contests.into_iter().filter(|contest| contest.entered.len() > 1).collect())
    }

    /// For each block and head the schedules worth measuring: `each` of every kind, layers by
    /// themselves with the kernels of `tuned`.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn contests(
        graph: &Graph,
        input: Shape,
        machine: Machine,
        tuned: &Tuned,
        each: usize,
    ) -> Result<Vec<Contest<Schedule>>> {
        let graph = &passes::prepared(graph, false);
        let shapes = graph.shapes(input)?;
        let options = Options { tuned: tuned.clone(), ..Options::default() };
        let mut contests = Vec::new();
        for unit in blocks::units(graph) {
            let found = candidates(graph, &shapes, &unit, &machine, &options, each)
                .map_err(|(id, reason)| Error::layer(graph.node(id).name(), reason))?;
            let found = foremost(found.iter(), each, |found| found.schedule.kind());
            if found.len() > 1 {
                let layer = graph.node(unit.first()).name().to_string();
                let (entered, modelled) = found.iter().map(|c| (c.schedule, c.time)).unzip();
                contests.push(Contest { layer, entered, modelled });
            }
        }
        Ok(contests)
    }

    /// Bytes of every slot together.
    pub fn slot_bytes(&self) -> u64 {
        self.slots.iter().sum()
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(Packed::bytes).sum()
    }

    /// Device memory that the network takes: slots and weights.
    pub fn peak_bytes(&self) -> u64 {
        self.slot_bytes() + self.weight_bytes()
    }
}

/// Of candidates, best first, the first `each` of every kind.
fn foremost<T, K: PartialEq>(
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

/// What was chosen, and the best of every other kind.
fn rated(found: &[schedule::Candidate], chosen: &schedule::Candidate) -> Vec<Rated> {
    let mut kinds = foremost([chosen].into_iter().chain(found), 1, |candidate| candidate.schedule.kind());
    kinds.sort_by(|a, b| a.time.total_cmp(&b.time));
    kinds.into_iter().map(|candidate| candidate.rated(chosen.time)).collect()
}

/// Schedules of a unit, quickest first by the model, `each` of every kind at least; none of a lone
/// layer.
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
