//! The schedules of a block: the fusion of its layers, and the tile.

use std::{fmt, ops::Add};

use serde::{Deserialize, Serialize};

use super::{
    Options, Rated,
    blocks::{Arithmetic, Block, Squeeze, conv},
    choose,
    draft::{DraftStep, MapId, Read},
    fused::Fused,
};
use crate::{
    Shape,
    graph::{Conv, Graph, NodeId},
    kernels::{
        Footprint, Machine, Work,
        block::{self, Convs, Shapes, Tile},
        gate::Gate,
        pointwise, pointwise_pool, reduce,
    },
};

/// The fusion of a block's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// One kernel per layer.
    Separate,
    /// The expansion, if there is one, and the depthwise convolution in one kernel; with squeeze-excite it also
    /// writes tile sums. Squeeze-excite's two layers follow in one or two kernels, and the projection scales its
    /// inputs during loading. In int8 all layers of squeeze-excite are separate.
    Front(Tile),
    /// As `Front`, but the expansion is a separate kernel, for blocks in which recomputing halos costs more
    /// than a launch. This schedule is only for blocks with squeeze-excite, whose tile sums the depthwise
    /// kernel writes. It is not used in int8.
    Middle(Tile),
    /// Depthwise and project in one kernel.
    Back(Tile),
    /// The whole block in one kernel.
    Whole(Tile),
    /// A head's convolution and mean in one kernel.
    Pooled(pointwise_pool::Tile),
}

impl Schedule {
    /// The name of the schedule without its tile.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Separate => "separate",
            Self::Front(_) => "expand+depthwise",
            Self::Middle(_) => "depthwise+sums",
            Self::Back(_) => "depthwise+project",
            Self::Whole(_) => "whole block",
            Self::Pooled(_) => "conv+mean",
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Separate => Ok(()),
            Self::Pooled(t) => write!(f, " {} px, {} ch", t.pixels, 4 * t.workgroup_o),
            Self::Front(t) | Self::Middle(t) | Self::Back(t) | Self::Whole(t) => {
                write!(f, " {}x{} px, {} ch, {} invocations", t.height, t.width, 4 * t.chunk, t.threads)?;
                if t.splits > 1 {
                    write!(f, ", {} splits", t.splits)?;
                }
                if t.staged { Ok(()) } else { f.write_str(", not staged") }
            }
        }
    }
}

/// The schedules that the planner may choose. A block for which none of them is possible gets one kernel per
/// layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fuse {
    /// The tuned schedule if there is one, else the one with the shortest predicted time.
    #[default]
    Auto,
    /// One kernel per layer.
    None,
    /// Two convolutions per kernel.
    Pair,
    /// The whole block in one kernel or, with squeeze-excite, the layers before its mean.
    Block,
}

impl Fuse {
    fn allows(self, schedule: Schedule, block: &Block) -> bool {
        match (self, schedule) {
            (Self::Auto, _) => true,
            (Self::None, _) => schedule == Schedule::Separate,
            // Without an expansion, the whole block is a pair.
            (Self::Pair, Schedule::Whole(_)) => block.expand.is_none(),
            (Self::Pair, _) => matches!(schedule, Schedule::Front(_) | Schedule::Back(_)),
            // Squeeze-excite needs the whole map before it can scale any of it.
            (Self::Block, Schedule::Front(_)) => block.squeeze.is_some(),
            // A split projection needs a second kernel to add up its partial sums.
            (Self::Block, _) => matches!(schedule, Schedule::Whole(tile) if tile.splits == 1),
        }
    }
}

/// A schedule of a block or a head, with its steps and its predicted time.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The schedule.
    pub schedule: Schedule,
    /// Its steps in order.
    pub steps: Vec<DraftStep>,
    /// The predicted time of all steps, in cycles.
    pub time: f64,
}

impl Candidate {
    /// Builds a candidate from its steps.
    pub fn new(schedule: Schedule, steps: Vec<DraftStep>) -> Self {
        let time = steps.iter().map(|step| step.time).sum();
        Self { schedule, steps, time }
    }

    /// Returns the cost model's figures, relative to a schedule that takes `time`.
    pub fn rated(&self, time: f64) -> Rated {
        let groups = |step: &DraftStep| step.launch.workgroup_count();
        Rated {
            schedule: self.schedule,
            ratio: self.time / time,
            steps: self.steps.len(),
            workgroups: self.steps.iter().map(groups).max().unwrap_or_default(),
            workgroup_memory: self.steps.iter().map(|step| step.workgroup_memory).max().unwrap_or_default(),
            work: self.steps.iter().map(|step| step.work).fold(Work::default(), Work::add),
        }
    }
}

/// The schedules of `block` that the machine supports and the options allow: `each` per kind and the
/// tuned one, by predicted time, fastest first. One kernel per layer is always possible, and is the
/// only candidate where no other is allowed.
pub fn candidates(
    graph: &Graph,
    shapes: &[Shape],
    block: &Block,
    machine: &Machine,
    options: &Options,
    each: usize,
) -> Result<Vec<Candidate>, (NodeId, String)> {
    let fuse = options.fuse();
    let context = Context::new(graph, shapes, block, machine, options)?;
    let mut timed = Vec::new();
    for tile in block::tiles(context.middle) {
        for of in [Schedule::Front, Schedule::Middle, Schedule::Back, Schedule::Whole] {
            let allowed = Some(of(tile)).filter(|schedule| fuse.allows(*schedule, block));
            timed.extend(allowed.and_then(|schedule| Some((schedule, context.time(schedule)?))));
        }
    }
    if timed.is_empty() || fuse.allows(Schedule::Separate, block) {
        let time = context.time(Schedule::Separate).unwrap_or(f64::INFINITY);
        timed.insert(0, (Schedule::Separate, time));
    }
    timed.sort_by(|a, b| a.1.total_cmp(&b.1));
    timed.dedup();
    let measured = options.tuned.schedules.get(graph.node(block.nodes()[0]).name());
    let mut taken: Vec<Schedule> = Vec::new();
    for (schedule, _) in timed {
        let alike = taken.iter().filter(|other| other.kind() == schedule.kind()).count();
        if alike < each || measured == Some(&schedule) {
            taken.push(schedule);
        }
    }
    Ok(taken.into_iter().map(|schedule| context.candidate(schedule)).collect())
}

/// A block with its shapes.
struct Context<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    block: &'a Block,
    machine: &'a Machine,
    depthwise: &'a Conv,
    /// The shapes of the depthwise output and of the block's output.
    middle: Shape,
    y: Shape,
    /// The node that computes the block's input.
    input: NodeId,
    residual: Option<NodeId>,
    /// The unfused step of each layer, and, in floating point, a projection that scales its inputs during
    /// loading.
    layers: Vec<DraftStep>,
    gated: Option<DraftStep>,
}

/// A step of a schedule.
enum Part<'c, 'a> {
    /// An unfused layer.
    Layer(&'c DraftStep),
    /// The block kernel.
    Block(Fused<'a>),
    /// The sum of the block kernel's partial sums.
    Reduce(Tile),
    /// Squeeze-excite's gate, or its first layer alone, from the block kernel's tile sums.
    Gate(Squeeze, Tile, Gate<'a>),
}

impl<'a> Context<'a> {
    fn new(
        graph: &'a Graph,
        shapes: &'a [Shape],
        block: &'a Block,
        machine: &'a Machine,
        options: &Options,
    ) -> Result<Self, (NodeId, String)> {
        let first = block.expand.unwrap_or(block.depthwise);
        let input = graph.node(first).inputs[0];
        let layers =
            block.nodes().into_iter().map(|id| choose::layer(graph, shapes, id, machine, options.kernels()));
        let gates = block.squeeze.as_ref().filter(|_| block.arithmetic == Arithmetic::Float);
        let gated = gates.map(|squeeze| {
            let gate = MapId::Node(squeeze.widen);
            let mut step = choose::gated(
                graph,
                shapes,
                block.project,
                block.depthwise,
                gate,
                machine,
                &options.tuned.gated,
            )?;
            // The projection applies the scale during loading.
            step.nodes.insert(0, squeeze.scale);
            Ok(step)
        });
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            gated: gated.transpose()?,
            graph,
            shapes,
            block,
            machine,
            depthwise: conv(graph.node(block.depthwise)).expect("found as a convolution"),
            middle: shapes[block.depthwise.index()],
            y: shapes[block.project.index()],
            input,
            residual: graph.node(block.project).inputs.get(1).copied(),
        })
    }

    /// The unfused step of a layer.
    fn layer(&self, id: NodeId) -> Part<'_, 'a> {
        let own = self.layers.iter().find(|step| step.nodes[0] == id);
        Part::Layer(own.expect("every layer of the block has an unfused step"))
    }

    fn conv(&self, id: NodeId) -> &'a Conv {
        conv(self.graph.node(id)).expect("found as a convolution")
    }

    /// The fused part of a schedule, if the block has the layers for it and the machine has enough memory,
    /// invocations and registers.
    fn fused(&self, schedule: Schedule) -> Option<Fused<'a>> {
        let Block { expand, squeeze, project, .. } = *self.block;
        let (tile, expand, projects) = match schedule {
            Schedule::Separate | Schedule::Pooled(_) => return None,
            Schedule::Front(tile) if expand.is_some() || self.gated.is_some() => (tile, expand, false),
            Schedule::Middle(tile) if expand.is_some() && self.gated.is_some() => (tile, None, false),
            // Without an expansion the back is the whole block.
            Schedule::Back(tile) if expand.is_some() && squeeze.is_none() => (tile, None, true),
            Schedule::Whole(tile) if squeeze.is_none() => (tile, expand, true),
            _ => return None,
        };
        // Without a product there is nothing to stage.
        if expand.is_none() && !projects && !tile.staged {
            return None;
        }
        let convs = Convs {
            expand: expand.map(|id| self.conv(id)),
            depthwise: self.depthwise,
            project: projects.then(|| self.conv(project)),
        };
        let x = match (expand, self.block.expand) {
            // The expansion is a separate kernel.
            (None, Some(own)) => own,
            _ => self.input,
        };
        let read = self.shapes[x.index()];
        let shapes = Shapes {
            x: read,
            middle: self.middle,
            y: if projects { self.y } else { self.middle },
            window: self.depthwise.window(read.h, read.w).expect("shapes were inferred"),
        };
        let fused = Fused {
            graph: self.graph,
            machine: self.machine,
            block: self.block,
            tile,
            expand,
            project: projects.then_some(project),
            convs,
            x,
            shapes,
        };
        fused.fits().then_some(fused)
    }

    /// The steps of a schedule, if the block has the layers for it and the machine has the resources.
    fn parts(&self, schedule: Schedule) -> Option<Vec<Part<'_, 'a>>> {
        if schedule == Schedule::Separate {
            return Some(self.layers.iter().map(Part::Layer).collect());
        }
        let fused = self.fused(schedule)?;
        let (tile, projects) = (fused.tile, fused.convs.project.is_some());
        let mut parts = Vec::new();
        if fused.x != self.input {
            parts.push(self.layer(fused.x));
        }
        parts.push(Part::Block(fused));
        match (self.block.squeeze, &self.gated) {
            (Some(squeeze), Some(gated)) => {
                parts.extend(self.gate(squeeze, tile)?);
                parts.push(Part::Layer(gated));
            }
            // Squeeze-excite in int8.
            (Some(Squeeze { pool, squeeze, widen, scale }), None) => {
                parts.extend([pool, squeeze, widen, scale, self.block.project].map(|id| self.layer(id)));
            }
            _ if !projects => parts.push(self.layer(self.block.project)),
            _ if tile.splits > 1 => parts.push(Part::Reduce(tile)),
            _ => {}
        }
        Some(parts)
    }

    /// Squeeze-excite's two layers, from tile sums: both in one workgroup per picture or, if that is slower,
    /// the first over several workgroups and the second in a separate kernel.
    fn gate(&self, squeeze: Squeeze, tile: Tile) -> Option<Vec<Part<'_, 'a>>> {
        let gate = |widen| Gate {
            squeeze: self.conv(squeeze.squeeze),
            widen,
            map: self.middle,
            tiles: tile.tiles(self.middle),
        };
        let whole = vec![Part::Gate(squeeze, tile, gate(Some(self.conv(squeeze.widen))))];
        let spread = vec![Part::Gate(squeeze, tile, gate(None)), self.layer(squeeze.widen)];
        let fits = |parts: &[Part]| match parts[0] {
            Part::Gate(_, _, gate) => gate.memory(self.machine) <= self.machine.workgroup_memory,
            _ => true,
        };
        let time = |parts: &Vec<Part>| parts.iter().map(|part| self.part_time(part)).sum::<f64>();
        [whole, spread].into_iter().filter(|parts| fits(parts)).min_by(|a, b| time(a).total_cmp(&time(b)))
    }

    fn part_time(&self, part: &Part) -> f64 {
        match part {
            Part::Layer(step) => step.time,
            Part::Block(fused) => fused.cost().1,
            Part::Reduce(tile) => self.reduce_cost(*tile).1,
            Part::Gate(_, tile, gate) => self.gate_cost(gate, *tile).1,
        }
    }

    /// The predicted time of a schedule, if it is possible.
    fn time(&self, schedule: Schedule) -> Option<f64> {
        Some(self.parts(schedule)?.iter().map(|part| self.part_time(part)).sum())
    }

    /// The candidate for a possible schedule.
    fn candidate(&self, schedule: Schedule) -> Candidate {
        let step = |part| match part {
            Part::Layer(step) => step.clone(),
            Part::Block(fused) => fused.step(),
            Part::Reduce(tile) => self.reduce_step(tile),
            Part::Gate(squeeze, tile, gate) => self.gate_step(&squeeze, tile, &gate),
        };
        let parts = self.parts(schedule).expect("only possible schedules are taken");
        Candidate::new(schedule, parts.into_iter().map(step).collect())
    }

    fn reduce_cost(&self, tile: Tile) -> (Work, f64) {
        let maps = if self.residual.is_some() { 2 } else { 1 };
        let bytes = maps * self.machine.bytes(self.y) + block::partial_sum_bytes(self.y, tile);
        let work = Work { bytes, macs: 0 };
        let invocations = self.y.pixels() * self.y.quads();
        (work, self.machine.time(reduce::effort(tile.splits), Footprint::of(invocations), work))
    }

    fn reduce_step(&self, tile: Tile) -> DraftStep {
        let (work, time) = self.reduce_cost(tile);
        let (project, splits) = (self.block.project, tile.splits as usize);
        DraftStep {
            nodes: vec![project],
            launch: reduce::launch(self.conv(project), self.y, splits, self.residual.is_some()),
            reads: vec![
                Read::Map(MapId::PartialSums(project)),
                Read::Biases(vec![project]),
                self.residual.map_or(Read::Nothing, |id| Read::Map(MapId::Node(id))),
            ],
            writes: vec![(MapId::Node(project), self.machine.bytes(self.y))],
            shape: self.y,
            workgroup_memory: 0,
            work,
            time,
            why: format!("adds up {splits} partial sums"),
            block: None,
        }
    }

    fn gate_cost(&self, gate: &Gate, tile: Tile) -> (Work, f64) {
        let work = gate.work(block::pooled_bytes(self.middle, tile), self.machine);
        let (effort, footprint) = gate.effort(self.machine);
        (work, self.machine.time(effort, footprint, work))
    }

    fn gate_step(&self, nodes: &Squeeze, tile: Tile, gate: &Gate) -> DraftStep {
        let (work, time) = self.gate_cost(gate, tile);
        let layers: Vec<NodeId> =
            [Some(nodes.squeeze), gate.widen.map(|_| nodes.widen)].into_iter().flatten().collect();
        let made = layers[layers.len() - 1];
        DraftStep {
            launch: gate.launch(self.machine),
            reads: vec![
                Read::Map(MapId::Pooled(self.block.depthwise)),
                Read::Weights(vec![nodes.squeeze], pointwise::PACKING),
                gate.widen.map_or(Read::Nothing, |_| Read::Weights(vec![nodes.widen], pointwise::PACKING)),
                Read::Biases(layers.clone()),
            ],
            writes: vec![(MapId::Node(made), self.machine.bytes(self.shapes[made.index()]))],
            shape: self.shapes[made.index()],
            nodes: layers,
            workgroup_memory: gate.memory(self.machine),
            work,
            time,
            why: match gate.widen {
                Some(_) => "squeeze-excite's two layers are too small for separate kernels".into(),
                None => "squeeze-excite's first layer with the preceding mean".into(),
            },
            block: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Plan, zoo::synthetic};

    #[test]
    fn a_block_without_an_allowed_schedule_gets_one_kernel_per_layer() {
        let network = synthetic::network("mobilenet_v2").unwrap();
        let input = network.input_shape(1);
        // Enough memory to fuse pairs of every block's layers, but not every whole block.
        let machine = Machine { workgroup_memory: 4 << 10, ..Machine::default() };
        let chosen = |fuse| {
            let options = Options { fuse, ..Options::default() };
            let plan = Plan::new(&network.graph, input, machine, &options).unwrap();
            let kinds = plan.choices.into_iter().map(|choice| choice.schedule.kind());
            kinds.filter(|kind| *kind != "conv+mean").collect::<Vec<_>>()
        };
        let whole = chosen(Fuse::Block);
        assert!(whole.iter().all(|kind| ["whole block", "separate"].contains(kind)), "{whole:?}");
        assert!(whole.contains(&"whole block") && whole.contains(&"separate"), "{whole:?}");
        assert!(chosen(Fuse::None).iter().all(|kind| *kind == "separate"));
    }
}
