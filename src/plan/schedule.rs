//! The schedules of a block: which of its layers share a kernel, cut into which tiles.

use std::{fmt, ops::Add};

use serde::{Deserialize, Serialize};

use super::{
    Options, Rated,
    blocks::{Block, Squeeze, conv},
    choose,
    draft::{DraftStep, Map, Read, gate_fits, pooled_bytes},
    machine::{Machine, Work},
};
use crate::{
    Shape,
    graph::{Conv, Graph, NodeId},
    kernels::{
        block::{self, Convs, Shapes, Tile},
        depthwise, gate, pointwise_pool, reduce,
    },
    tensor::Element,
};

/// Which layers share a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// A kernel a layer.
    Separate,
    /// Expand and depthwise in one kernel; squeeze-excite's mean begins in it, its two layers
    /// are one kernel, and the projection scales as it loads.
    Front(Tile),
    /// As the front, but with a kernel of its own for the expansion: where halos cost more than
    /// a launch, squeeze-excite is still spared its passes over the map.
    Middle(Tile),
    /// Depthwise and project in one kernel.
    Back(Tile),
    /// The whole block in one kernel.
    Whole(Tile),
    /// A head's convolution and mean in one kernel.
    Pooled(pointwise_pool::Tile),
}

impl Schedule {
    /// Its name without its tile.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Separate => "separate",
            Self::Front(_) => "front",
            Self::Middle(_) => "middle",
            Self::Back(_) => "back",
            Self::Whole(_) => "whole",
            Self::Pooled(_) => "pooled",
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Separate => Ok(()),
            Self::Pooled(t) => write!(f, " {} px, {} ch", t.pixels, 4 * t.lanes),
            Self::Front(t) | Self::Middle(t) | Self::Back(t) | Self::Whole(t) => {
                write!(f, " {}x{} px, {} ch, {} threads", t.height, t.width, 4 * t.chunk, t.threads)?;
                if t.splits > 1 { write!(f, ", {} splits", t.splits) } else { Ok(()) }
            }
        }
    }
}

/// Which schedules may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fuse {
    /// The one with the least time.
    #[default]
    Auto,
    /// A kernel a layer.
    None,
    /// Two convolutions in a kernel.
    Pair,
    /// As much of a block in a kernel as there is a kernel for.
    Block,
}

impl Fuse {
    fn allows(self, schedule: Schedule, block: &Block) -> bool {
        match (self, schedule) {
            (Self::Auto, _) => true,
            (Self::None, _) => schedule == Schedule::Separate,
            // Without an expansion the whole is a pair.
            (Self::Pair, Schedule::Whole(_)) => block.expand.is_none(),
            (Self::Pair, _) => matches!(schedule, Schedule::Front(_) | Schedule::Back(_)),
            // Squeeze-excite needs the whole map before it can scale any of it.
            (Self::Block, Schedule::Front(_)) => block.squeeze.is_some(),
            // Parts would need a second kernel to add them up.
            (Self::Block, _) => matches!(schedule, Schedule::Whole(tile) if tile.splits == 1),
        }
    }
}

/// A schedule of a block or a head, its steps, and the time that the model gives it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The schedule.
    pub schedule: Schedule,
    /// What runs.
    pub steps: Vec<DraftStep>,
    /// The modelled time of all steps.
    pub time: f64,
}

impl Candidate {
    /// `steps`, which take turns.
    pub fn new(schedule: Schedule, steps: Vec<DraftStep>) -> Self {
        let time = steps.iter().map(|step| step.time).sum();
        Self { schedule, steps, time }
    }

    /// As the model sees it beside one that takes `time`.
    pub fn rated(&self, time: f64) -> Rated {
        let groups = |step: &DraftStep| step.launch.workgroups.iter().product::<u32>() as usize;
        Rated {
            schedule: self.schedule,
            ratio: self.time / time,
            steps: self.steps.len(),
            workgroups: self.steps.iter().map(groups).max().unwrap_or_default(),
            workgroup_memory: self.steps.iter().map(|step| step.between).max().unwrap_or_default(),
            work: self.steps.iter().map(|step| step.work).fold(Work::default(), Work::add),
        }
    }
}

/// Of the schedules of `block` that the machine admits and the options allow `each` of every kind
/// and the one that was measured, quickest first by the model. A kernel a layer is always possible,
/// and is the answer where nothing else is allowed.
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
    let separate = context.layers.iter().map(|step| step.time).sum();
    let mut timed = vec![(Schedule::Separate, separate)];
    for tile in tiles(context.middle) {
        for of in [Schedule::Front, Schedule::Middle, Schedule::Back, Schedule::Whole] {
            timed.extend(context.cut(of(tile)).map(|cut| (of(tile), context.time(&cut))));
        }
    }
    if timed.iter().any(|&(schedule, _)| fuse.allows(schedule, block)) {
        timed.retain(|&(schedule, _)| fuse.allows(schedule, block));
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

/// Tiles worth trying on a map: the smallest there is or not much larger than the map, whole and
/// split.
fn tiles(map: Shape) -> Vec<Tile> {
    let covers = |side: usize, tile: u32| (tile as usize) < 2 * side.next_power_of_two();
    let mut tiles = Vec::new();
    let smallest = [2, 4];
    for [height, width] in [smallest, [4, 4], [4, 8], [8, 8]] {
        if [height, width] != smallest && !(covers(map.h, height) && covers(map.w, width)) {
            continue;
        }
        for (chunk, run) in [(4, 2), (4, 4), (8, 2), (8, 4)] {
            for threads in [64, 128, 256] {
                for splits in [1, 2, 4, 8, 16] {
                    let tile = Tile { height, width, chunk, run, threads, splits }.trimmed(map);
                    if !tiles.contains(&tile) {
                        tiles.push(tile);
                    }
                }
            }
        }
    }
    tiles
}

/// A block with its shapes.
struct Context<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    block: &'a Block,
    machine: &'a Machine,
    depthwise: &'a Conv,
    /// The depthwise output, the block's output.
    middle: Shape,
    y: Shape,
    /// The node that makes the block's input.
    input: NodeId,
    residual: Option<NodeId>,
    /// A kernel for each layer, and for the projection one that scales as it loads.
    layers: Vec<DraftStep>,
    gated: Option<DraftStep>,
}

/// What goes into the block kernel.
struct Cut<'a> {
    tile: Tile,
    /// The expansion, if it does.
    expand: Option<NodeId>,
    convs: Convs<'a>,
    /// What the kernel reads.
    x: NodeId,
}

/// What a barrier costs a thread.
const BARRIER: f64 = 16.0;

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
        let gated = block.squeeze.as_ref().map(|squeeze| {
            let gate = Map::Gate(squeeze.scale);
            let mut step = choose::gated(graph, shapes, block.project, block.depthwise, gate, machine)?;
            // The scale is part of the projection's load.
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

    /// A kernel for a layer by itself.
    fn layer(&self, id: NodeId) -> DraftStep {
        self.layers.iter().find(|step| step.nodes[0] == id).expect("every layer of the block has one").clone()
    }

    fn conv(&self, id: NodeId) -> &'a Conv {
        conv(self.graph.node(id)).expect("found as a convolution")
    }

    /// What a schedule puts into the block kernel, if the block has the layers and the machine the
    /// memory for it.
    fn cut(&self, schedule: Schedule) -> Option<Cut<'a>> {
        let Block { expand, squeeze, project, .. } = *self.block;
        let (tile, expand, projects) = match schedule {
            Schedule::Separate | Schedule::Pooled(_) => return None,
            Schedule::Front(tile) if expand.is_some() || squeeze.is_some() => (tile, expand, false),
            Schedule::Middle(tile) if expand.is_some() && squeeze.is_some() => (tile, None, false),
            // Without an expansion the back is the whole block.
            Schedule::Back(tile) if expand.is_some() && squeeze.is_none() => (tile, None, true),
            Schedule::Whole(tile) if squeeze.is_none() => (tile, expand, true),
            _ => return None,
        };
        let convs = Convs {
            expand: expand.map(|id| self.conv(id)),
            depthwise: self.depthwise,
            project: projects.then(|| self.conv(project)),
        };
        let x = match (expand, self.block.expand) {
            // The expansion has a kernel of its own.
            (None, Some(own)) => own,
            _ => self.input,
        };
        let gate_fits = squeeze.is_none_or(|s| gate_fits(self.graph, &s, self.machine.workgroup_memory));
        (self.admits(tile, convs) && gate_fits).then_some(Cut { tile, expand, convs, x })
    }

    /// The modelled time of a schedule that puts `cut` into the block kernel.
    fn time(&self, cut: &Cut) -> f64 {
        let alone =
            |id: NodeId| self.layers.iter().find(|step| step.nodes[0] == id).map_or(0.0, |step| step.time);
        let before = if cut.x == self.input { 0.0 } else { alone(cut.x) };
        let behind = match (&self.gated, cut.convs.project) {
            (Some(gated), _) => self.gate_cost(cut.tile).1 + gated.time,
            (None, None) => alone(self.block.project),
            (None, Some(_)) if cut.tile.splits > 1 => self.reduce_cost(cut.tile).1,
            (None, Some(_)) => 0.0,
        };
        before + self.kernel_cost(cut).1 + behind
    }

    /// A schedule that was found to be possible, with its steps.
    fn candidate(&self, schedule: Schedule) -> Candidate {
        let Some(cut) = self.cut(schedule) else {
            return Candidate::new(Schedule::Separate, self.layers.clone());
        };
        let mut steps = Vec::new();
        if cut.x != self.input {
            steps.push(self.layer(cut.x));
        }
        steps.extend(self.kernel(&cut));
        if let Some(squeeze) = &self.block.squeeze {
            steps.push(self.gate(squeeze, cut.tile));
            steps.extend(self.gated.clone());
        } else if cut.convs.project.is_none() {
            steps.push(self.layer(self.block.project));
        }
        Candidate::new(schedule, steps)
    }

    /// Pixels of a row that a thread holds in the depthwise phase.
    fn span(&self, tile: Tile) -> usize {
        depthwise::span(self.depthwise, tile.run)
    }

    fn admits(&self, tile: Tile, convs: Convs) -> bool {
        let fits = self.machine.quads(tile.memory(convs)) <= self.machine.workgroup_memory
            && tile.threads <= self.machine.workgroup_threads;
        match convs.project {
            Some(_) => {
                let kept = tile.sums(self.y.quads());
                let sums = kept.pixels * kept.quads;
                // Sums stay in registers through the depthwise phase.
                let window = tile.run + self.span(tile) as u32;
                fits && sums > 0 && sums <= self.machine.sums && self.machine.holds(sums + window)
            }
            None => fits,
        }
    }

    /// The block kernel, and what adds up its parts if there are any.
    fn kernel(&self, cut: &Cut) -> Vec<DraftStep> {
        let &Cut { tile, expand, convs, x } = cut;
        let Block { depthwise, squeeze, project, .. } = *self.block;
        let projects = convs.project.is_some();
        let read = self.shapes[x.index()];
        let window = self.depthwise.window(read.h, read.w).expect("shapes were inferred");
        let shapes = Shapes { x: read, middle: self.middle, y: self.made(cut), window };
        let residual = self.residual.filter(|_| projects);
        let split = projects && tile.splits > 1;

        let mut biases: Vec<NodeId> = expand.into_iter().chain([depthwise]).collect();
        let mut nodes = biases.clone();
        if split {
            // The step that adds up the parts finishes the projection.
        } else if projects {
            biases.push(project);
            nodes.push(project);
        } else if let Some(squeeze) = squeeze {
            nodes.push(squeeze.pool);
        }
        let [out, sums] = self.written(cut);
        let memory = self.machine.quads(tile.memory(convs));
        let (work, time) = self.kernel_cost(cut);
        let first = DraftStep {
            why: format!("{} workgroups, {memory} B of workgroup memory", self.groups(cut)),
            reads: vec![
                Read::Map(Map::Node(x)),
                expand.map_or(Read::Nothing, Read::Blocks),
                Read::Taps(depthwise),
                if projects { Read::Blocks(project) } else { Read::Nothing },
                Read::Biases(biases),
                residual.filter(|_| !split).map_or(Read::Nothing, |id| Read::Map(Map::Node(id))),
            ],
            writes: vec![out, sums],
            shape: shapes.y,
            launch: block::launch(convs, shapes, residual.is_some(), squeeze.is_some(), tile),
            between: memory,
            work,
            time,
            nodes,
            block: None,
        };
        if !split {
            return vec![first];
        }
        let (work, time) = self.reduce_cost(tile);
        let splits = tile.splits as usize;
        let second = DraftStep {
            nodes: vec![project],
            launch: reduce::launch(self.conv(project), self.y, splits, residual.is_some()),
            reads: vec![
                Read::Map(Map::Parts(project)),
                Read::Biases(vec![project]),
                residual.map_or(Read::Nothing, |id| Read::Map(Map::Node(id))),
            ],
            writes: vec![(Map::Node(project), self.machine.bytes(self.y))],
            shape: self.y,
            between: 0,
            work,
            time,
            why: format!("adds up {splits} parts"),
            block: None,
        };
        vec![first, second]
    }

    /// The shape of what the block kernel makes, or makes parts of.
    fn made(&self, cut: &Cut) -> Shape {
        if cut.convs.project.is_some() { self.y } else { self.middle }
    }

    /// What the block kernel writes: its answer, then sums.
    fn written(&self, cut: &Cut) -> [(Map, u64); 2] {
        let Block { depthwise, squeeze, project, .. } = *self.block;
        let unwanted = (Map::Unwanted(depthwise), 16);
        let whole = self.machine.bytes(self.made(cut));
        match cut.convs.project {
            Some(_) if cut.tile.splits > 1 => [unwanted, (Map::Parts(project), self.parts(cut.tile))],
            Some(_) => [(Map::Node(project), whole), unwanted],
            None if squeeze.is_some() => {
                [(Map::Node(depthwise), whole), (Map::Pooled(depthwise), pooled_bytes(self.middle, cut.tile))]
            }
            None => [(Map::Node(depthwise), whole), unwanted],
        }
    }

    /// Bytes of the parts of a split projection. They may be far larger than what they add up to:
    /// they are sums, and stay f32.
    fn parts(&self, tile: Tile) -> u64 {
        self.y.device_bytes(Element::F32) * u64::from(tile.splits)
    }

    fn groups(&self, cut: &Cut) -> usize {
        self.middle.n * cut.tile.tiles(self.middle) * cut.tile.splits as usize
    }

    fn kernel_cost(&self, cut: &Cut) -> (Work, f64) {
        let x = self.shapes[cut.x.index()];
        let written = self.written(cut).iter().map(|(_, bytes)| bytes).sum();
        let work = self.work(cut.convs, x, self.made(cut), cut.tile, written);
        let threads = self.groups(cut) * cut.tile.threads as usize;
        (work, self.machine.time(self.thread(cut.convs, x, cut.tile), threads, work))
    }

    fn reduce_cost(&self, tile: Tile) -> (Work, f64) {
        let work = Work { bytes: self.machine.bytes(self.y) + self.parts(tile), macs: 0 };
        let threads = self.y.pixels() * self.y.quads();
        (work, self.machine.time(self.machine.load * f64::from(tile.splits + 2), threads, work))
    }

    /// Of squeeze-excite's gate; nothing where there is none.
    fn gate_cost(&self, tile: Tile) -> (Work, f64) {
        let Some(nodes) = self.block.squeeze else { return (Work::default(), 0.0) };
        let (squeeze, widen) = (self.conv(nodes.squeeze), self.conv(nodes.widen));
        let gates = self.shapes[nodes.widen.index()];
        let products = (2 * self.middle.quads() * squeeze.outputs().div_ceil(4)) as f64;
        let thread = products * self.machine.product(1, 1) / 256.0 + 3.0 * BARRIER;
        let weights = squeeze.weight.data().len() + widen.weight.data().len();
        let moved = pooled_bytes(self.middle, tile) + self.machine.bytes(gates);
        let work = Work {
            bytes: moved + (self.machine.element.bytes() * weights) as u64,
            macs: (gates.n * weights) as u64,
        };
        (work, self.machine.time(thread, 256 * gates.n, work))
    }

    /// What the block kernel moves and computes, if it writes so many bytes.
    fn work(&self, convs: Convs, x: Shape, y: Shape, tile: Tile, written: u64) -> Work {
        let all = convs.expand.into_iter().chain([convs.depthwise]).chain(convs.project);
        let weights: usize = all.map(|conv| conv.weight.data().len()).sum();
        let of = |conv: &Conv, pixels: usize| pixels * conv.weight.data().len();
        // Tiles expand the pixels where their windows overlap again.
        let [h, w] = tile.region(self.depthwise);
        let expanded = x.n * tile.tiles(self.middle) * (h * w) as usize;
        let macs = convs.expand.map_or(0, |conv| of(conv, expanded))
            + of(convs.depthwise, self.middle.pixels())
            + convs.project.map_or(0, |conv| of(conv, y.pixels()));
        let bytes = self.machine.bytes(x) + written + (self.machine.element.bytes() * weights) as u64;
        Work { bytes, macs: macs as u64 }
    }

    /// What a thread of the block kernel spends.
    fn thread(&self, convs: Convs, x: Shape, tile: Tile) -> f64 {
        let machine = self.machine;
        let threads = tile.threads;
        let rounds = |items: u32| f64::from(items.div_ceil(threads));
        let [h, w] = tile.region(self.depthwise);
        let pixels = tile.height * tile.width;
        let mut chunk = rounds(pixels / tile.run * tile.chunk)
            * machine.window(self.depthwise.kernel(), self.span(tile), tile.run)
            + 2.0 * BARRIER;
        if convs.expand.is_some() {
            let items = (h * w).div_ceil(4) * tile.chunk;
            chunk += rounds(items) * x.quads() as f64 * machine.product(4, 1) + BARRIER;
        }
        if convs.project.is_some() {
            let sums = tile.sums(self.y.quads());
            chunk += f64::from(tile.chunk) * machine.product(sums.pixels, sums.quads);
        }
        if convs.project.is_none() && self.block.squeeze.is_some() {
            // A thread adds up a whole tile.
            chunk += rounds(tile.chunk) * machine.load * f64::from(pixels) + BARRIER;
        }
        let chunks = self.middle.quads().div_ceil(tile.chunk as usize);
        chunk * chunks.div_ceil(tile.splits as usize) as f64
    }

    /// Squeeze-excite's gate.
    fn gate(&self, nodes: &Squeeze, tile: Tile) -> DraftStep {
        let (squeeze, widen) = (self.conv(nodes.squeeze), self.conv(nodes.widen));
        let gates = self.shapes[nodes.widen.index()];
        let launch = gate::launch(squeeze, widen, self.middle, tile.tiles(self.middle));
        let (work, time) = self.gate_cost(tile);
        DraftStep {
            nodes: vec![nodes.squeeze, nodes.widen],
            launch,
            reads: vec![
                Read::Map(Map::Pooled(self.block.depthwise)),
                Read::Blocks(nodes.squeeze),
                Read::Blocks(nodes.widen),
                Read::Biases(vec![nodes.squeeze, nodes.widen]),
            ],
            writes: vec![(Map::Gate(nodes.scale), self.machine.bytes(gates))],
            shape: gates,
            between: gate::memory(squeeze),
            work,
            time,
            why: "squeeze-excite's two layers are too small for kernels of their own".into(),
            block: None,
        }
    }
}
