//! The blocks of a network: what fused kernels can take together.

use std::collections::BTreeMap;

use crate::graph::{Activation, Conv, ConvKind, Graph, Node, NodeId, Op};

/// A depthwise convolution and what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The pointwise convolution before it.
    pub expand: Option<NodeId>,
    /// The depthwise convolution.
    pub depthwise: NodeId,
    /// Squeeze-excite between it and the projection.
    pub squeeze: Option<Squeeze>,
    /// The pointwise convolution behind it.
    pub project: NodeId,
}

/// Squeeze-excite's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Squeeze {
    /// The mean.
    pub pool: NodeId,
    /// The fully connected layer to fewer channels.
    pub squeeze: NodeId,
    /// The fully connected layer back.
    pub widen: NodeId,
    /// The product.
    pub scale: NodeId,
}

/// The end of a network's features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// A pointwise convolution.
    pub conv: NodeId,
    /// The mean of what it makes, which nothing else reads.
    pub pool: NodeId,
}

/// What is scheduled as one: a block, a head, or a node by itself.
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
    /// Its first node, after which it is named.
    pub fn first(&self) -> NodeId {
        match self {
            Self::Block(block) => block.expand.unwrap_or(block.depthwise),
            Self::Head(head) => head.conv,
            Self::Layer(id) => *id,
        }
    }
}

impl Block {
    /// Its nodes in their order.
    pub fn nodes(&self) -> Vec<NodeId> {
        let squeeze = self.squeeze.map(|s| [s.pool, s.squeeze, s.widen, s.scale]);
        let front = self.expand.into_iter().chain([self.depthwise]);
        front.chain(squeeze.into_iter().flatten()).chain([self.project]).collect()
    }
}

/// The network's units in an order in which each comes after what it reads. A node belongs to a block or a
/// head only if nothing outside reads what it makes within.
pub fn units(graph: &Graph) -> Vec<Unit> {
    let mut taken = Edges::new(graph);
    let ids: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    // By its last node: whatever a unit reads was made before that.
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

/// A graph's values with those who read them, and which nodes have a unit.
struct Edges<'a> {
    graph: &'a Graph,
    /// Reads of each value, as an answer too.
    uses: Vec<usize>,
    /// The nodes that read it.
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

    /// A convolution of this kind that has no unit yet and is made in floating point, as units are.
    fn is(&self, kind: ConvKind, id: NodeId) -> bool {
        let node = self.graph.node(id);
        let is_kind = conv(node).is_some_and(|conv| conv.kind() == Some(kind));
        is_kind && self.is_float(id) && !self.taken[id.index()]
    }

    /// Whether a node is computed in floating point and its value stays so.
    fn is_float(&self, id: NodeId) -> bool {
        self.graph.node(id).map.is_none() && self.graph.int8(id).is_none()
    }

    /// The same without a residual: only the last convolution of a block may add one.
    fn is_plain(&self, kind: ConvKind, id: NodeId) -> bool {
        self.is(kind, id) && self.graph.node(id).inputs.len() == 1
    }

    /// The one node that reads `x`, as its first input.
    fn reader(&self, x: NodeId) -> Option<NodeId> {
        match self.readers[x.index()][..] {
            [reader] if self.uses[x.index()] == 1 => {
                (self.graph.node(reader).inputs.first() == Some(&x)).then_some(reader)
            }
            _ => None,
        }
    }

    /// The block around the depthwise convolution `depthwise`, if it is one.
    fn block(&self, depthwise: NodeId) -> Option<Block> {
        if !self.is_plain(ConvKind::Depthwise, depthwise) {
            return None;
        }
        let input = self.graph.node(depthwise).inputs[0];
        let widens = self.is_plain(ConvKind::Pointwise, input) && self.reader(input) == Some(depthwise);
        let expand = widens.then_some(input);
        let squeeze = self.squeeze(depthwise);
        let project = self.reader(squeeze.map_or(depthwise, |squeeze| squeeze.scale))?;
        if !self.is(ConvKind::Pointwise, project) {
            return None;
        }
        // V4's first depthwise convolution has no activation: what looks like its projection widens,
        // and belongs to the depthwise convolution behind it.
        let begins = expand.is_none()
            && conv(self.graph.node(depthwise)).is_some_and(|conv| conv.activation == Activation::Identity);
        if begins && self.reader(project).is_some_and(|next| self.is_plain(ConvKind::Depthwise, next)) {
            return None;
        }
        Some(Block { expand, depthwise, squeeze, project })
    }

    /// Squeeze-excite behind `x`, which it reads twice: for the mean, and to scale it.
    fn squeeze(&self, x: NodeId) -> Option<Squeeze> {
        let &[a, b] = &self.readers[x.index()][..] else { return None };
        let is_pool = |id: NodeId| matches!(self.graph.node(id).op, Op::GlobalPool) && self.is_float(id);
        let (pool, scale) = if is_pool(a) { (a, b) } else { (b, a) };
        let squeeze = self.reader(pool).filter(|&id| self.is_plain(ConvKind::Pointwise, id))?;
        let widen = self.reader(squeeze).filter(|&id| self.is_plain(ConvKind::Pointwise, id))?;
        let node = self.graph.node(scale);
        let scales = matches!(node.op, Op::Scale)
            && self.is_float(scale)
            && node.inputs == [x, widen]
            && self.uses[widen.index()] == 1;
        let found = is_pool(pool) && scales && self.uses[x.index()] == 2;
        found.then_some(Squeeze { pool, squeeze, widen, scale })
    }

    /// The head that begins with the convolution `id`, if one does.
    fn head(&self, id: NodeId) -> Option<Head> {
        let pool = self.reader(id).filter(|_| self.is_plain(ConvKind::Pointwise, id))?;
        let means = matches!(self.graph.node(pool).op, Op::GlobalPool) && self.is_float(pool);
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
