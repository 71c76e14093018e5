//! Block detection: groups of layers that fused kernels can compute.

use std::collections::BTreeMap;

use crate::graph::{Activation, Conv, ConvKind, Graph, Node, NodeId, Op};

/// A depthwise convolution with the layers around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The arithmetic of all its layers.
    pub arithmetic: Arithmetic,
    /// The preceding pointwise convolution.
    pub expand: Option<NodeId>,
    /// The depthwise convolution.
    pub depthwise: NodeId,
    /// Squeeze-excite before the projection.
    pub squeeze: Option<Squeeze>,
    /// The following pointwise convolution.
    pub project: NodeId,
}

/// The arithmetic of a layer, and the format of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Floating point.
    Float,
    /// Integers.
    Int8,
}

/// Squeeze-excite's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Squeeze {
    /// The mean.
    pub pool: NodeId,
    /// The fully connected layer that reduces channels.
    pub squeeze: NodeId,
    /// The fully connected layer that restores them.
    pub widen: NodeId,
    /// The product of map and gate.
    pub scale: NodeId,
}

/// The last layers of a network's feature extractor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// A pointwise convolution.
    pub conv: NodeId,
    /// The mean of its output, which nothing else reads.
    pub pool: NodeId,
}

/// A scheduling unit: a block, a head, or a single node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A block.
    Block(Block),
    /// A head.
    Head(Head),
    /// Any other node.
    Layer(NodeId),
}

impl Unit {
    /// Its first node, which names it.
    pub fn first(&self) -> NodeId {
        match self {
            Self::Block(block) => block.expand.unwrap_or(block.depthwise),
            Self::Head(head) => head.conv,
            Self::Layer(id) => *id,
        }
    }
}

impl Block {
    /// Its nodes in the graph's order.
    pub fn nodes(&self) -> Vec<NodeId> {
        let squeeze = self.squeeze.map(|s| [s.pool, s.squeeze, s.widen, s.scale]);
        let front = self.expand.into_iter().chain([self.depthwise]);
        front.chain(squeeze.into_iter().flatten()).chain([self.project]).collect()
    }
}

/// The network's units in topological order. A node belongs to a block or a head only if nothing outside
/// the unit reads its intermediate maps.
pub fn units(graph: &Graph) -> Vec<Unit> {
    let mut taken = Edges::new(graph);
    let ids: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    // The key is the unit's last node: all inputs of the unit precede it.
    let mut ends: BTreeMap<NodeId, Unit> = BTreeMap::new();
    for &id in &ids {
        if let Some(block) = taken.block(id) {
            taken.take(&block.nodes());
            ends.insert(block.project, Unit::Block(block));
        }
    }
    for &id in &ids {
        if let Some(head) = taken.head(id) {
            taken.take(&[head.conv, head.pool]);
            ends.insert(head.pool, Unit::Head(head));
        }
    }
    let unit =
        |&id: &NodeId| ends.get(&id).copied().or((!taken.taken[id.index()]).then_some(Unit::Layer(id)));
    ids.iter().filter_map(unit).collect()
}

/// A graph's values with their readers, and the nodes that already belong to a unit.
struct Edges<'a> {
    graph: &'a Graph,
    /// The number of reads of each value; an output of the graph counts as one read.
    uses: Vec<usize>,
    /// The nodes that read each value.
    readers: Vec<Vec<NodeId>>,
    taken: Vec<bool>,
}

impl<'a> Edges<'a> {
    fn new(graph: &'a Graph) -> Self {
        let uses = graph.uses();
        let mut readers = vec![Vec::new(); uses.len()];
        for (id, node) in graph.nodes() {
            for input in &node.inputs {
                readers[input.index()].push(id);
            }
        }
        Self { graph, taken: vec![false; uses.len()], uses, readers }
    }

    fn take(&mut self, nodes: &[NodeId]) {
        for id in nodes {
            self.taken[id.index()] = true;
        }
    }

    /// Returns whether a node is a convolution of this kind in this arithmetic that belongs to no unit yet.
    fn is(&self, kind: ConvKind, arithmetic: Arithmetic, id: NodeId) -> bool {
        let node = self.graph.node(id);
        let is_kind = conv(node).is_some_and(|conv| conv.kind() == Some(kind));
        is_kind && self.arithmetic(id) == Some(arithmetic) && !self.taken[id.index()]
    }

    /// The arithmetic of a node; none if its output needs a conversion between int8 and floating point.
    fn arithmetic(&self, id: NodeId) -> Option<Arithmetic> {
        match (self.graph.node(id).quantisation, self.graph.int8(id)) {
            (None, None) => Some(Arithmetic::Float),
            (Some(_), Some(_)) => Some(Arithmetic::Int8),
            _ => None,
        }
    }

    /// Like [`Edges::is`], but without a residual: only a block's last convolution may add one.
    fn is_plain(&self, kind: ConvKind, arithmetic: Arithmetic, id: NodeId) -> bool {
        self.is(kind, arithmetic, id) && self.graph.node(id).inputs.len() == 1
    }

    /// The only reader of `x`, if there is one and `x` is its first input.
    fn reader(&self, x: NodeId) -> Option<NodeId> {
        match self.readers[x.index()][..] {
            [reader] if self.uses[x.index()] == 1 => {
                (self.graph.node(reader).inputs.first() == Some(&x)).then_some(reader)
            }
            _ => None,
        }
    }

    /// The block around the depthwise convolution `depthwise`, if there is one.
    fn block(&self, depthwise: NodeId) -> Option<Block> {
        let arithmetic = self.arithmetic(depthwise)?;
        if !self.is_plain(ConvKind::Depthwise, arithmetic, depthwise) {
            return None;
        }
        let input = self.graph.node(depthwise).inputs[0];
        let widens =
            self.is_plain(ConvKind::Pointwise, arithmetic, input) && self.reader(input) == Some(depthwise);
        let expand = widens.then_some(input);
        let squeeze = self.squeeze(arithmetic, depthwise);
        let project = self.reader(squeeze.map_or(depthwise, |squeeze| squeeze.scale))?;
        if !self.is(ConvKind::Pointwise, arithmetic, project) {
            return None;
        }
        // MobileNetV4's first depthwise convolution has no activation: the pointwise convolution after it
        // is not its projection but the expansion of the next depthwise convolution.
        let begins = expand.is_none()
            && conv(self.graph.node(depthwise)).is_some_and(|conv| conv.activation == Activation::Identity);
        if begins
            && self.reader(project).is_some_and(|next| self.is_plain(ConvKind::Depthwise, arithmetic, next))
        {
            return None;
        }
        Some(Block { arithmetic, expand, depthwise, squeeze, project })
    }

    /// Squeeze-excite after `x`, if there is any. It reads `x` twice: for the mean and to scale it.
    fn squeeze(&self, arithmetic: Arithmetic, x: NodeId) -> Option<Squeeze> {
        let &[a, b] = &self.readers[x.index()][..] else { return None };
        let is_pool = |id: NodeId| {
            matches!(self.graph.node(id).op, Op::GlobalPool) && self.arithmetic(id) == Some(arithmetic)
        };
        let (pool, scale) = if is_pool(a) { (a, b) } else { (b, a) };
        let squeeze = self.reader(pool).filter(|&id| self.is_plain(ConvKind::Pointwise, arithmetic, id))?;
        let widen = self.reader(squeeze).filter(|&id| self.is_plain(ConvKind::Pointwise, arithmetic, id))?;
        let node = self.graph.node(scale);
        let scales = matches!(node.op, Op::Scale)
            && self.arithmetic(scale) == Some(arithmetic)
            && node.inputs == [x, widen]
            && self.uses[widen.index()] == 1;
        let found = is_pool(pool) && scales && self.uses[x.index()] == 2;
        found.then_some(Squeeze { pool, squeeze, widen, scale })
    }

    /// The head that begins with the convolution `id`, if there is one.
    fn head(&self, id: NodeId) -> Option<Head> {
        let float = Arithmetic::Float;
        let pool = self.reader(id).filter(|_| self.is_plain(ConvKind::Pointwise, float, id))?;
        let means =
            matches!(self.graph.node(pool).op, Op::GlobalPool) && self.arithmetic(pool) == Some(float);
        means.then_some(Head { conv: id, pool })
    }
}

/// A node's convolution, if it is one.
pub fn conv(node: &Node) -> Option<&Conv> {
    match &node.op {
        Op::Conv(conv) => Some(conv),
        _ => None,
    }
}
