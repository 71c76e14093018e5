//! The step of a block kernel, in floating point or in int8.

use super::{
    blocks::{Arithmetic, Block},
    choose,
    draft::{DraftStep, MapId, Read},
};
use crate::{
    Shape,
    graph::{Graph, NodeId},
    kernels::{
        Machine, Work,
        block::{self, Convs, Shapes, Tile},
        block_int8::BlockInt8,
        depthwise, pointwise,
    },
};

/// The part of a block that one kernel computes.
pub struct Fused<'a> {
    pub graph: &'a Graph,
    pub machine: &'a Machine,
    pub block: &'a Block,
    pub tile: Tile,
    /// The expansion and the projection, if they are fused.
    pub expand: Option<NodeId>,
    pub project: Option<NodeId>,
    pub convs: Convs<'a>,
    /// The node that computes the kernel's input.
    pub x: NodeId,
    /// The shapes of the kernel's maps.
    pub shapes: Shapes,
}

impl Fused<'_> {
    /// The kernel's layers in int8, if the block is computed in integers.
    fn int8(&self) -> Option<BlockInt8<'_>> {
        let int8 = |id: Option<NodeId>| id.and_then(|id| self.graph.int8(id));
        Some(BlockInt8 {
            convs: self.convs,
            expand: int8(self.expand),
            depthwise: int8(Some(self.block.depthwise))?,
            project: int8(self.project),
        })
    }

    /// Whether a kernel computes these layers, and the machine has enough memory, invocations and registers.
    pub fn fits(&self) -> bool {
        let Shapes { x, y, .. } = self.shapes;
        match self.int8() {
            Some(int8) => int8.fit(self.shapes, self.machine, self.tile),
            None => self.convs.fit(x.quads(), y.quads(), self.machine, self.tile),
        }
    }

    /// The bytes that it moves, its multiply-adds, and its predicted time.
    pub fn cost(&self) -> (Work, f64) {
        let Self { machine, tile, shapes, .. } = *self;
        let (weights, effort, footprint) = match self.int8() {
            Some(int8) => {
                (int8.weight_bytes(), int8.effort(shapes, machine, tile), int8.footprint(shapes, tile))
            }
            None => (
                self.convs.all().map(|conv| machine.weight_bytes(conv)).sum(),
                self.convs.effort(shapes, self.pools(), tile),
                self.convs.footprint(shapes, machine, tile),
            ),
        };
        let bytes = |id: NodeId, shape: Shape| {
            choose::form(self.graph.node(id), machine.element).bytes(shape).unwrap_or_default()
        };
        let residual = self.residual().filter(|id| *id != self.x).map_or(0, |id| bytes(id, shapes.y));
        let written: u64 = self.writes().iter().map(|(_, bytes)| bytes).sum();
        let work = Work {
            bytes: bytes(self.x, shapes.x) + residual + written + weights,
            macs: self.convs.macs(shapes, tile),
        };
        (work, machine.time(effort, footprint, work))
    }

    /// The map that is added to the output. With a split, the step that adds up the partial sums does it.
    fn residual(&self) -> Option<NodeId> {
        let project = self.project.filter(|_| !self.splits())?;
        self.graph.node(project).inputs.get(1).copied()
    }

    /// Whether it also starts squeeze-excite's mean.
    fn pools(&self) -> bool {
        self.block.squeeze.is_some()
    }

    /// Whether the projection's sums are partial: [`crate::kernels::reduce`] then adds them up.
    fn splits(&self) -> bool {
        self.project.is_some() && self.tile.splits > 1
    }

    /// The outputs, map and sums, with their sizes in bytes; in int8 only the map.
    fn writes(&self) -> Vec<(MapId, u64)> {
        let Block { depthwise, squeeze, project, .. } = *self.block;
        let made = self.project.unwrap_or(depthwise);
        let form = choose::form(self.graph.node(made), self.machine.element);
        let whole = (MapId::Node(made), form.bytes(self.shapes.y).unwrap_or_default());
        let unused = (MapId::Unused(depthwise), 16);
        if self.block.arithmetic == Arithmetic::Int8 {
            vec![whole]
        } else if self.splits() {
            vec![unused, (MapId::PartialSums(project), block::partial_sum_bytes(self.shapes.y, self.tile))]
        } else if self.project.is_none() && squeeze.is_some() {
            let pooled = block::pooled_bytes(self.shapes.middle, self.tile);
            vec![whole, (MapId::Pooled(depthwise), pooled)]
        } else {
            vec![whole, unused]
        }
    }

    /// The step.
    pub fn step(&self) -> DraftStep {
        let Self { machine, tile, shapes, .. } = *self;
        let depthwise = self.block.depthwise;
        let residual = self.residual().map_or(Read::Nothing, |id| Read::Map(MapId::Node(id)));
        let mut nodes: Vec<NodeId> = self.expand.into_iter().chain([depthwise]).collect();
        let (work, time) = self.cost();
        let (launch, memory, reads) = match self.int8() {
            Some(int8) => {
                nodes.extend(self.project);
                let (launch, mut words) = int8.launch(shapes, machine, tile);
                let [weight, products, output_params, table] =
                    ["weight", "product_weight", "output_params", "table"]
                        .map(|name| Read::words(&mut words, name));
                let reads =
                    vec![Read::Map(MapId::Node(self.x)), weight, products, output_params, table, residual];
                (launch, int8.memory(shapes.x.quads(), tile), reads)
            }
            None => {
                // With a split, the step that adds up the partial sums applies the projection's epilogue.
                // Its bias is bound all the same: with it are the scales of int8 weights, which the block reads.
                let biases = nodes.iter().copied().chain(self.project).collect();
                nodes.extend(self.project.filter(|_| !self.splits()));
                if let (Some(squeeze), None) = (self.block.squeeze, self.project) {
                    nodes.push(squeeze.pool);
                }
                let products: Vec<NodeId> = self.expand.into_iter().chain(self.project).collect();
                let reads = vec![
                    Read::Map(MapId::Node(self.x)),
                    Read::Weights(vec![depthwise], depthwise::PACKING),
                    if products.is_empty() {
                        Read::Nothing
                    } else {
                        Read::Weights(products, pointwise::PACKING)
                    },
                    Read::Biases(biases),
                    residual,
                ];
                let added = self.residual().is_some();
                let launch = block::launch(self.convs, shapes, added, self.pools(), tile);
                let memory =
                    machine.quad_bytes(tile.memory_quads(self.convs, shapes.x.quads(), shapes.y.quads()));
                (launch, memory, reads)
            }
        };
        DraftStep {
            why: format!(
                "{} workgroups, {memory} B of workgroup memory",
                block::workgroups(tile, shapes.middle)
            ),
            reads,
            writes: self.writes(),
            shape: shapes.y,
            launch,
            workgroup_memory: memory,
            work,
            time,
            nodes,
            block: None,
        }
    }
}
