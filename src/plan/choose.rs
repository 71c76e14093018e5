//! Which kernel, with which tile, for one layer by itself.
//!
//! A large tile saves loads until there are too few threads to fill the machine; where even
//! the smallest leaves units idle, the inputs of a product are split over threads as well.

use super::{
    blocks::conv,
    draft::{DraftStep, Map, Read},
    machine::Machine,
};
use crate::{
    Shape,
    graph::{Conv, ConvKind, Graph, NodeId, Op},
    kernels::{
        self, Launch, Tier, dense, depthwise, pointwise, pointwise_matrix, pointwise_split,
        pointwise_subgroup, pool, scale,
    },
};

/// What meeting in workgroup memory costs a thread.
pub const MEETING: f64 = 100.0;

/// A node with a kernel of its own.
pub fn layer(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    machine: &Machine,
) -> Result<DraftStep, (NodeId, String)> {
    let node = graph.node(id);
    let x = node.inputs.first().map(|input| shapes[input.index()]);
    let (Some(x), y) = (x, shapes[id.index()]) else {
        return Err((id, "has no input".into()));
    };
    let residual = node.inputs.len() > 1;
    let mut reads = vec![Read::Map(Map::Node(node.inputs[0]))];
    let chosen = match &node.op {
        Op::Conv(conv) => {
            let kind = conv.kind().ok_or_else(|| {
                let groups = conv.groups;
                (id, format!("{groups} groups of {} channels: only 1 or all are supported", conv.inputs()))
            })?;
            let weights = if kind == ConvKind::Depthwise { Read::Taps(id) } else { Read::Blocks(id) };
            reads.extend([weights, Read::Biases(vec![id])]);
            reads.push(node.inputs.get(1).map_or(Read::Nothing, |id| Read::Map(Map::Node(*id))));
            match kind {
                ConvKind::Pointwise => {
                    let extras = pointwise::Extras { residual, gate: false };
                    let chosen = product(conv, x, y, extras, machine);
                    reads[1] = weights_of(&chosen.launch, id, machine);
                    reads.resize(chosen.launch.shader.reads.len(), Read::Nothing);
                    chosen
                }
                ConvKind::Dense => dense(conv, x, y, residual, machine),
                ConvKind::Depthwise => depthwise(conv, x, y, residual, machine),
            }
        }
        Op::GlobalPool => {
            let launch = pool::launch(x);
            let share = (x.h * x.w).div_ceil(8) as f64;
            let time = machine.time(machine.load * share + MEETING, threads(&launch), machine.bytes(x));
            Chosen { launch, time, why: format!("{} pixels to one", x.h * x.w) }
        }
        Op::Scale => {
            reads.push(Read::Map(Map::Node(node.inputs[1])));
            let launch = scale::launch(x);
            let time = machine.time(3.0 * machine.load, threads(&launch), 2 * machine.bytes(x));
            Chosen { launch, time, why: "squeeze-excite's gate, applied by itself".into() }
        }
        Op::Input(_) | Op::BatchNorm(_) | Op::Activation(_) | Op::Add => {
            let op = node.op.name(None);
            return Err((id, format!("{op} stands alone: no convolution before it could take it in")));
        }
    };
    Ok(step(id, chosen, reads, y, machine))
}

/// The pointwise convolution `id` over the map of `x`, scaled by `gate` as it is loaded.
pub fn gated(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    x: NodeId,
    gate: Map,
    machine: &Machine,
) -> Result<DraftStep, (NodeId, String)> {
    let node = graph.node(id);
    let conv = conv(node).ok_or_else(|| (id, "is no convolution".to_string()))?;
    let residual = node.inputs.get(1);
    let extras = pointwise::Extras { residual: residual.is_some(), gate: true };
    let (x_shape, y) = (shapes[x.index()], shapes[id.index()]);
    let chosen = product(conv, x_shape, y, extras, machine);
    let reads = vec![
        Read::Map(Map::Node(x)),
        weights_of(&chosen.launch, id, machine),
        Read::Biases(vec![id]),
        residual.map_or(Read::Nothing, |id| Read::Map(Map::Node(*id))),
        Read::Map(gate),
    ];
    Ok(step(id, chosen, reads, y, machine))
}

/// A pointwise convolution's weights as the kernel chosen for it reads them.
fn weights_of(launch: &Launch, id: NodeId, machine: &Machine) -> Read {
    match machine.matrices {
        Some(units) if launch.shader.tier == Tier::Matrices => Read::Matrices(id, units.side),
        _ => Read::Blocks(id),
    }
}

/// A kernel, its modelled time, and the reason for it.
struct Chosen {
    launch: Launch,
    time: f64,
    why: String,
}

fn step(id: NodeId, chosen: Chosen, reads: Vec<Read>, y: Shape, machine: &Machine) -> DraftStep {
    DraftStep {
        nodes: vec![id],
        launch: chosen.launch,
        reads,
        writes: vec![(Map::Node(id), machine.bytes(y))],
        shape: y,
        time: chosen.time,
        why: chosen.why,
        block: None,
    }
}

fn dense(conv: &Conv, x: Shape, y: Shape, residual: bool, machine: &Machine) -> Chosen {
    let window = conv.window(x.h, x.w).expect("shapes were inferred");
    let taps = (conv.kernel() * conv.kernel() * x.quads()) as f64;
    let (tile, time) = cheapest(dense::Tile::all().filter(|tile| tile.sums() <= machine.sums).map(|tile| {
        let thread = taps * machine.product(tile.columns, tile.quads);
        (tile, machine.time(thread, tile.threads(y), bytes(x, y, machine)))
    }));
    let launch = dense::launch(conv, x, y, window, residual, tile);
    Chosen { launch, time, why: filled(tile.threads(y), machine) }
}

fn depthwise(conv: &Conv, x: Shape, y: Shape, residual: bool, machine: &Machine) -> Chosen {
    let window = conv.window(x.h, x.w).expect("shapes were inferred");
    let (columns, time) = cheapest(depthwise::COLUMNS.into_iter().map(|columns| {
        let span = depthwise::span(conv, columns);
        // A row of the window and the sums are in registers together.
        let fits = columns == 1 || span as u32 + columns <= 2 * machine.sums;
        let thread = if fits { machine.window(conv.kernel(), span, columns) } else { f64::INFINITY };
        (columns, machine.time(thread, depthwise::threads(y, columns), bytes(x, y, machine)))
    }));
    let launch = depthwise::launch(conv, x, y, window, residual, columns);
    Chosen { launch, time, why: filled(depthwise::threads(y, columns), machine) }
}

/// A pointwise convolution, by the kernel that takes least time.
fn product(conv: &Conv, x: Shape, y: Shape, extras: pointwise::Extras, machine: &Machine) -> Chosen {
    let weights = machine.element.bytes() * conv.weight.data().len();
    let product = Product { conv, x, y, extras, machine, bytes: bytes(x, y, machine) + weights as u64 };
    let others = [product.shared(), product.on_units(), product.split()];
    let tiled = product.tiled();
    others.into_iter().flatten().fold(tiled, |best, other| if other.time < best.time { other } else { best })
}

/// A pointwise convolution to be chosen a kernel for.
struct Product<'a> {
    conv: &'a Conv,
    x: Shape,
    y: Shape,
    extras: pointwise::Extras,
    machine: &'a Machine,
    /// What has to move.
    bytes: u64,
}

impl Product<'_> {
    fn tiles(&self) -> impl Iterator<Item = pointwise::Tile> {
        pointwise::Tile::all().filter(|tile| tile.sums() <= self.machine.sums)
    }

    /// The time if each of `threads` spends `thread` on four inputs of a tile, besides scaling them.
    fn time(&self, thread: f64, tile: pointwise::Tile, threads: usize) -> f64 {
        let gate = if self.extras.gate { self.machine.load * f64::from(tile.pixels) } else { 0.0 };
        self.machine.time(self.x.quads() as f64 * (thread + gate), threads, self.bytes)
    }

    /// Tiled over registers.
    fn tiled(&self) -> Chosen {
        let (pixels, outputs) = (self.y.pixels(), self.y.quads());
        let (tile, time) = cheapest(self.tiles().map(|tile| {
            let thread = self.machine.product(tile.pixels, tile.quads);
            (tile, self.time(thread, tile, tile.threads(pixels, outputs)))
        }));
        let launch = pointwise::launch(self.conv, self.x, self.y, self.extras, tile);
        Chosen { launch, time, why: filled(tile.threads(pixels, outputs), self.machine) }
    }

    /// The same with weights that a subgroup loads together.
    fn shared(&self) -> Option<Chosen> {
        let lanes = self.machine.subgroup.filter(|&lanes| lanes >= pointwise_subgroup::LEAST_SUBGROUP)?;
        let threads = |tile| pointwise_subgroup::threads(tile, self.y.pixels(), self.y.quads(), lanes);
        let (tile, time) = cheapest(self.tiles().map(|tile| {
            let thread = self.machine.shared_product(tile.pixels, tile.quads);
            (tile, self.time(thread, tile, threads(tile)))
        }));
        let launch = pointwise_subgroup::launch(self.conv, self.x, self.y, self.extras, tile, lanes);
        let why = format!("subgroups share weights; {}", filled(threads(tile), self.machine));
        Some(Chosen { launch, time, why })
    }

    /// On matrix units.
    fn on_units(&self) -> Option<Chosen> {
        let (units, machine) = (self.machine.matrices?, self.machine);
        let lanes = 4 * units.lanes as usize;
        let groups = |tile: pointwise_matrix::Tile| tile.workgroups(units, self.y.pixels(), self.y.quads());
        let (tile, time) = cheapest(pointwise_matrix::Tile::ALL.into_iter().map(|tile| {
            let thread = machine.matrix_product(units, tile, self.extras.gate) * self.x.quads() as f64;
            (tile, machine.time(thread, groups(tile) * lanes, self.bytes))
        }));
        let launch = pointwise_matrix::launch(self.conv, self.x, self.y, self.extras, units, tile);
        Some(Chosen { launch, time, why: format!("matrix units; {}", filled(groups(tile) * lanes, machine)) })
    }

    /// Split over its inputs, where there are too few outputs to fill the machine.
    fn split(&self) -> Option<Chosen> {
        if self.extras.gate {
            return None;
        }
        let launch = pointwise_split::launch(self.conv, self.x, self.y, self.extras.residual);
        let share = (self.x.quads() as f64 / f64::from(pointwise_split::LANES_I)).ceil();
        let thread = share * self.machine.product(self.y.pixels().min(4) as u32, 1) + MEETING;
        let threads = threads(&launch);
        let time = self.machine.time(thread, threads, self.bytes);
        let why = format!(
            "inputs split over threads, whose outputs alone would be too few; {}",
            filled(threads, self.machine)
        );
        Some(Chosen { launch, time, why })
    }
}

fn bytes(x: Shape, y: Shape, machine: &Machine) -> u64 {
    machine.bytes(x) + machine.bytes(y)
}

fn threads(launch: &Launch) -> usize {
    launch.workgroups.iter().product::<u32>() as usize * kernels::LANES as usize
}

fn cheapest<T>(candidates: impl Iterator<Item = (T, f64)>) -> (T, f64) {
    // The first of equals: candidates come largest tile first.
    candidates.reduce(|best, other| if other.1 < best.1 { other } else { best }).expect("not empty")
}

fn filled(threads: usize, machine: &Machine) -> String {
    let share = 100.0 * threads as f64 / machine.threads as f64;
    if share < 100.0 {
        format!("{threads} threads, {share:.0}% of what fills the device")
    } else {
        format!("{threads} threads")
    }
}
