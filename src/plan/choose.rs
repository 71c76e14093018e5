//! Which kernel, with which tile, for one layer by itself.
//!
//! A large tile saves loads until there are too few threads to fill the machine; where even
//! the smallest leaves units idle, the inputs of a product are split over threads as well.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    blocks::conv,
    draft::{DraftStep, Map, Read},
    machine::{Machine, Work},
};
use crate::{
    Shape,
    graph::{Conv, ConvKind, Graph, NodeId, Op, too_many_classes},
    kernels::{
        self, Launch, argmax, boxes, dense, depthwise, max_pool,
        pointwise::{self, Extras},
        pointwise_matrix::{self, Units},
        pointwise_split,
        pointwise_subgroup::{self, Subgroup},
        pool, resize, scale, select, softmax,
    },
    tensor::{Element, Form},
};

/// What meeting in workgroup memory costs a thread.
pub const MEETING: f64 = 100.0;

/// A kernel for one convolution, with its tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// Any window over all channels.
    Dense(dense::Tile),
    /// A window over each channel, so many neighbouring outputs a thread.
    Depthwise(u32),
    /// A product tiled over registers.
    Pointwise(pointwise::Tile),
    /// The same with weights that a subgroup loads together.
    PointwiseSubgroup(pointwise::Tile),
    /// A product on matrix units.
    PointwiseMatrix(pointwise_matrix::Tile),
    /// A product split over its inputs, where there are too few outputs to fill the machine.
    PointwiseSplit,
}

/// Kernels of layers, by their names.
pub type Kernels = BTreeMap<String, Kernel>;

impl Kernel {
    /// What sums are made in.
    pub fn arithmetic(self) -> Element {
        match self {
            Self::Pointwise(tile) | Self::PointwiseSubgroup(tile) => tile.arithmetic,
            _ => Element::F32,
        }
    }

    /// Its shader.
    pub fn shader(self) -> &'static kernels::Shader {
        match self {
            Self::Dense(_) => &dense::SHADER,
            Self::Depthwise(_) => &depthwise::SHADER,
            Self::Pointwise(_) => &pointwise::SHADER,
            Self::PointwiseSubgroup(_) => &pointwise_subgroup::SHADER,
            Self::PointwiseMatrix(_) => &pointwise_matrix::SHADER,
            Self::PointwiseSplit => &pointwise_split::SHADER,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shader().name)?;
        match self {
            Self::Dense(tile) => write!(f, " {tile}"),
            Self::Depthwise(columns) => write!(f, " {columns} px x 4 ch"),
            Self::Pointwise(tile) | Self::PointwiseSubgroup(tile) => write!(f, " {tile}"),
            Self::PointwiseMatrix(t) => write!(f, " {} x {} matrices", t.rows, t.columns),
            Self::PointwiseSplit => Ok(()),
        }
    }
}

/// How what an operation makes lies on a device where maps are `element`. Scores and boxes are f32
/// whatever maps are: they are compared with one another.
pub fn form(op: &Op, element: Element) -> Form {
    match op {
        Op::Argmax(_) => Form::Labels,
        Op::Softmax(_) | Op::Boxes(_) | Op::Select(_) => Form::Map(Element::F32),
        _ => Form::Map(element),
    }
}

/// A node with a kernel of its own: the one of `wanted`, if the machine admits it, or else the
/// one with the least time.
pub fn layer(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    machine: &Machine,
    wanted: &Kernels,
) -> Result<DraftStep, (NodeId, String)> {
    let node = graph.node(id);
    let Some(&input) = node.inputs.first() else { return Err((id, "has no input".into())) };
    let (x, y) = (shapes[input.index()], shapes[id.index()]);
    let mut reads = vec![Read::Map(Map::Node(input))];
    // Of what is no convolution, which computes nothing to speak of.
    let bytes = |id: NodeId| form(&graph.node(id).op, machine.element).bytes(shapes[id.index()]);
    let (read, written) = (bytes(input).unwrap_or_default(), bytes(id).unwrap_or_default());
    let work = Work { bytes: read + written, macs: 0 };
    let (launch, time, why) = match &node.op {
        Op::Conv(_) => return Layer::new(graph, shapes, id, input, None, machine)?.step(graph, id, wanted),
        Op::GlobalPool => {
            let launch = pool::launch(x);
            let share = (x.h * x.w).div_ceil(8) as f64;
            let time = machine.time(machine.load * share + MEETING, threads(&launch), work);
            (launch, time, format!("{} pixels to one", x.h * x.w))
        }
        Op::MaxPool(op) => {
            let window = op.window(x.h, x.w).expect("shapes were inferred");
            let launch = max_pool::launch(*op, x, y, window);
            let taps = (op.kernel * op.kernel) as f64;
            let time = machine.time(machine.load * taps, threads(&launch), work);
            (launch, time, format!("the largest of {0}x{0}", op.kernel))
        }
        Op::Scale => {
            reads.push(Read::Map(Map::Node(node.inputs[1])));
            let launch = scale::launch(x);
            let time = machine.time(3.0 * machine.load, threads(&launch), work);
            (launch, time, "squeeze-excite's gate, applied by itself".into())
        }
        Op::Resize(_) | Op::Argmax(_) if !resize::countable(x.h, y.h) || !resize::countable(x.w, y.w) => {
            return Err((id, format!("{}x{} scaled to {}x{} are too many to count", x.h, x.w, y.h, y.w)));
        }
        Op::Resize(_) => {
            let launch = resize::launch(x, y);
            let time = machine.time(5.0 * machine.load, threads(&launch), work);
            (launch, time, format!("from {}x{} to {}x{}", x.h, x.w, y.h, y.w))
        }
        Op::Argmax(_) => {
            if let Some(reason) = too_many_classes(x.c) {
                return Err((id, reason));
            }
            let launch = argmax::launch(x, y);
            let thread = 16.0 * machine.load * x.quads() as f64;
            let time = machine.time(thread, threads(&launch), work);
            (launch, time, format!("of {}x{} scores, never stored at {}x{}", x.h, x.w, y.h, y.w))
        }
        Op::Softmax(classes) => {
            let launch = softmax::launch(x, y);
            let time = machine.time(3.0 * machine.load * *classes as f64, threads(&launch), work);
            (launch, time, format!("runs of {classes} classes"))
        }
        Op::Boxes(_) => {
            let levels = &node.inputs[1..];
            let levels = levels.iter().map(|id| [shapes[id.index()].h, shapes[id.index()].w]).collect();
            let picture = graph.source().map_or([0, 0], |id| [shapes[id.index()].h, shapes[id.index()].w]);
            reads.push(Read::Anchors(id, levels, picture));
            let launch = boxes::launch(x, y, picture);
            let time = machine.time(3.0 * machine.load, threads(&launch), work);
            (launch, time, "offsets to corners".into())
        }
        Op::Select(select) => {
            let launch = select::launch(x, *select);
            // A workgroup a class reads its scores at least three times.
            let share = x.c as f64 / select::LANES as f64;
            let lanes = launch.workgroups.iter().product::<u32>() * select::LANES;
            let time = machine.time(3.0 * (machine.load * share + MEETING), lanes as usize, work);
            (launch, time, format!("the best {} of {} a class", select.most, x.c))
        }
        Op::Input(_) | Op::Filter(_) | Op::Concat(_) | Op::BatchNorm(_) | Op::Activation(_) | Op::Add => {
            return Err((id, node.op.alone()));
        }
    };
    let writes = vec![(Map::Node(id), written)];
    Ok(DraftStep {
        nodes: vec![id],
        launch,
        reads,
        writes,
        shape: y,
        between: 0,
        work,
        time,
        why,
        block: None,
    })
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
    // What was measured was the layer without a gate.
    Layer::new(graph, shapes, id, x, Some(gate), machine)?.step(graph, id, &Kernels::new())
}

/// The kernels of a layer that are worth measuring, the model's favourite first: `each` of every
/// shader and arithmetic. Empty if it is no convolution.
pub fn contest(
    graph: &Graph,
    shapes: &[Shape],
    id: NodeId,
    machine: &Machine,
    each: usize,
) -> Result<Vec<Kernel>, (NodeId, String)> {
    let node = graph.node(id);
    let (Op::Conv(_), Some(&input)) = (&node.op, node.inputs.first()) else { return Ok(Vec::new()) };
    let ways = Layer::new(graph, shapes, id, input, None, machine)?.ways();
    let kernels = ways.into_iter().map(|(kernel, _)| kernel);
    Ok(super::foremost(kernels, each, |kernel| (kernel.shader().name, kernel.arithmetic())))
}

/// A convolution to be given a kernel.
struct Layer<'a> {
    conv: &'a Conv,
    kind: ConvKind,
    /// Where `x` comes from, what is added and what it is scaled by.
    input: NodeId,
    residual: Option<NodeId>,
    gate: Option<Map>,
    x: Shape,
    y: Shape,
    machine: &'a Machine,
    work: Work,
}

impl<'a> Layer<'a> {
    fn new(
        graph: &'a Graph,
        shapes: &[Shape],
        id: NodeId,
        input: NodeId,
        gate: Option<Map>,
        machine: &'a Machine,
    ) -> Result<Self, (NodeId, String)> {
        let node = graph.node(id);
        let conv = conv(node).ok_or_else(|| (id, "is no convolution".to_string()))?;
        let kind = conv.kind().ok_or_else(|| {
            let groups = conv.groups;
            (id, format!("{groups} groups of {} channels: only 1 or all are supported", conv.inputs()))
        })?;
        let (x, y) = (shapes[input.index()], shapes[id.index()]);
        let bytes = machine.bytes(x) + machine.bytes(y) + machine.weights(conv);
        let work = Work { bytes, macs: (y.pixels() * conv.weight.data().len()) as u64 };
        let residual = node.inputs.get(1).copied();
        Ok(Self { conv, kind, input, residual, gate, x, y, machine, work })
    }

    fn step(&self, graph: &Graph, id: NodeId, wanted: &Kernels) -> Result<DraftStep, (NodeId, String)> {
        let ways = self.ways();
        let wanted = wanted.get(graph.node(id).name());
        let measured = wanted.and_then(|kernel| ways.iter().find(|(way, _)| way == kernel));
        let &(kernel, time) = measured.or(ways.first()).expect("a baseline kernel for every kind");
        let launch = self.launch(kernel);
        let weights = match kernel {
            Kernel::Depthwise(_) => Read::Taps(id),
            Kernel::PointwiseMatrix(_) => Read::Matrices(id, self.units().side),
            _ => Read::Blocks(id),
        };
        let added = self.residual.map_or(Read::Nothing, |id| Read::Map(Map::Node(id)));
        let mut reads = vec![Read::Map(Map::Node(self.input)), weights, Read::Biases(vec![id]), added];
        if launch.shader.reads.len() > reads.len() {
            reads.push(self.gate.map_or(Read::Nothing, Read::Map));
        }
        Ok(DraftStep {
            nodes: vec![id],
            reads,
            writes: vec![(Map::Node(id), self.machine.bytes(self.y))],
            shape: self.y,
            between: 0,
            work: self.work,
            time,
            why: filled(self.threads(kernel), self.machine, measured.is_some()),
            launch,
            block: None,
        })
    }

    /// Every kernel and tile that the machine admits, with its modelled time, quickest first.
    fn ways(&self) -> Vec<(Kernel, f64)> {
        let kernels: Vec<Kernel> = match self.kind {
            ConvKind::Dense => {
                // No thread is without inputs.
                let fits = |tile: &dense::Tile| {
                    tile.sums() <= self.machine.sums && tile.split as usize <= self.x.quads()
                };
                dense::Tile::all().filter(fits).map(Kernel::Dense).collect()
            }
            ConvKind::Depthwise => {
                // A row of the window and the sums are in registers together.
                let fits = |&columns: &u32| {
                    let span = depthwise::span(self.conv, columns) as u32;
                    columns == 1 || span + columns <= 2 * self.machine.sums
                };
                depthwise::COLUMNS.into_iter().filter(fits).map(Kernel::Depthwise).collect()
            }
            ConvKind::Pointwise => self.products(),
        };
        let time = |kernel| {
            let time = self.machine.time(self.thread(kernel), self.threads(kernel), self.work);
            (kernel, time)
        };
        let mut ways: Vec<(Kernel, f64)> = kernels.into_iter().map(time).collect();
        // The first of equals stays first: kernels come largest tile first.
        ways.sort_by(|a, b| a.1.total_cmp(&b.1));
        ways
    }

    fn products(&self) -> Vec<Kernel> {
        let fits = |tile: &pointwise::Tile| tile.sums() <= self.machine.sums;
        // A bias is f32, and must survive what sums are made in.
        let bias = self.conv.bias.as_ref().map_or(&[][..], |bias| bias.data());
        let holds = |tile: &pointwise::Tile| tile.arithmetic.overflow(bias).is_none();
        let tiles = pointwise::Tile::all(self.machine.element).filter(fits).filter(holds);
        let mut kernels: Vec<Kernel> = tiles.map(Kernel::Pointwise).collect();
        if self.machine.subgroup.is_some() {
            kernels.extend(pointwise_subgroup::tiles().filter(fits).map(Kernel::PointwiseSubgroup));
        }
        if self.machine.matrices.is_some() {
            kernels.extend(pointwise_matrix::Tile::ALL.map(Kernel::PointwiseMatrix));
        }
        if self.gate.is_none() {
            kernels.push(Kernel::PointwiseSplit);
        }
        kernels
    }

    fn subgroup(&self) -> Subgroup {
        self.machine.subgroup.expect("only where there are subgroups is a kernel for them a way")
    }

    fn units(&self) -> Units {
        self.machine.matrices.expect("only where there are units is a kernel for them a way")
    }

    /// What a thread spends.
    fn thread(&self, kernel: Kernel) -> f64 {
        let machine = self.machine;
        let inputs = self.x.quads() as f64;
        let gate = |loads: f64| if self.gate.is_some() { machine.load * loads } else { 0.0 };
        match kernel {
            Kernel::Dense(tile) => {
                let taps = (self.conv.kernel() * self.conv.kernel()) as f64;
                let share = (inputs / f64::from(tile.split)).ceil();
                let meeting =
                    if tile.split > 1 { MEETING + machine.load * f64::from(tile.sums()) } else { 0.0 };
                taps * share * machine.product(tile.columns, tile.quads) + meeting
            }
            Kernel::Depthwise(columns) => {
                machine.window(self.conv.kernel(), depthwise::span(self.conv, columns), columns)
            }
            Kernel::Pointwise(tile) => inputs * (machine.tile(tile) + gate(tile.pixels.into())),
            Kernel::PointwiseSubgroup(tile) => {
                inputs
                    * (machine.shared_tile(tile, pointwise_subgroup::blocks(tile, self.subgroup()))
                        + gate(tile.pixels.into()))
            }
            Kernel::PointwiseMatrix(tile) => {
                inputs * machine.matrix_product(self.units(), tile, self.gate.is_some())
            }
            Kernel::PointwiseSplit => {
                let share = (inputs / f64::from(pointwise_split::LANES_I)).ceil();
                share * machine.product(self.y.pixels().min(4) as u32, 1) + MEETING
            }
        }
    }

    fn threads(&self, kernel: Kernel) -> usize {
        let (y, pixels, outputs) = (self.y, self.y.pixels(), self.y.quads());
        match kernel {
            Kernel::Dense(tile) => tile.threads(y),
            Kernel::Depthwise(columns) => depthwise::threads(y, columns),
            Kernel::Pointwise(tile) => tile.threads(pixels, outputs),
            Kernel::PointwiseSubgroup(tile) => {
                pointwise_subgroup::threads(tile, pixels, outputs, self.subgroup())
            }
            Kernel::PointwiseMatrix(tile) => {
                tile.workgroups(self.units(), pixels, outputs) * 4 * self.units().lanes as usize
            }
            Kernel::PointwiseSplit => pointwise_split::workgroups(y) * kernels::LANES as usize,
        }
    }

    fn launch(&self, kernel: Kernel) -> Launch {
        let (conv, x, y) = (self.conv, self.x, self.y);
        let window = conv.window(x.h, x.w).expect("shapes were inferred");
        let residual = self.residual.is_some();
        let extras = Extras { residual, gate: self.gate.is_some() };
        match kernel {
            Kernel::Dense(tile) => dense::launch(conv, x, y, window, residual, tile),
            Kernel::Depthwise(columns) => depthwise::launch(conv, x, y, window, residual, columns),
            Kernel::Pointwise(tile) => pointwise::launch(conv, x, y, extras, tile),
            Kernel::PointwiseSubgroup(tile) => {
                pointwise_subgroup::launch(conv, x, y, extras, tile, self.subgroup())
            }
            Kernel::PointwiseMatrix(tile) => pointwise_matrix::launch(conv, x, y, extras, self.units(), tile),
            Kernel::PointwiseSplit => pointwise_split::launch(conv, x, y, residual),
        }
    }
}

/// Threads that a launch of workgroups of [`kernels::LANES`] starts.
pub fn threads(launch: &Launch) -> usize {
    launch.workgroups.iter().product::<u32>() as usize * kernels::LANES as usize
}

fn filled(threads: usize, machine: &Machine, measured: bool) -> String {
    let share = 100.0 * threads as f64 / machine.threads as f64;
    let measured = if measured { ", measured" } else { "" };
    if share < 100.0 {
        format!("{threads} threads, {share:.0}% of what fills the device{measured}")
    } else {
        format!("{threads} threads{measured}")
    }
}
