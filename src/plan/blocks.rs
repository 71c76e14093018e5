//! The blocks of a network: what fused kernels can take together.

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

/// The network's units in order. A node belongs to a block only if nothing else reads what
/// it makes within the block.
pub fn units(graph: &Graph) -> Vec<Unit> {
    let uses = graph.uses();
    let mut units: Vec<Unit> = Vec::new();
    let mut at = 0;
    let ids: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    while at < ids.len() {
        let (unit, nodes) = if let Some(block) = block(graph, &uses, &ids[at..]) {
            (Unit::Block(block), block.nodes().len())
        } else if let Some(head) = head(graph, &uses, &ids[at..]) {
            (Unit::Head(head), 2)
        } else {
            (Unit::Layer(ids[at]), 1)
        };
        units.push(unit);
        at += nodes;
    }
    units
}

/// The block that begins with the first of `ids`, if one does: its nodes follow one another.
fn block(graph: &Graph, uses: &[usize], ids: &[NodeId]) -> Option<Block> {
    let mut ids = ids.iter().copied().peekable();
    // The next node, if it is `wanted` and reads `x` first, `x` being read `readers` times.
    let mut next = |wanted: &dyn Fn(&Node) -> bool, x: Option<NodeId>, readers: usize| {
        ids.next_if(|&id| {
            let node = graph.node(id);
            let follows = x.is_none_or(|x| node.inputs.first() == Some(&x) && uses[x.index()] == readers);
            wanted(node) && follows
        })
    };
    let is = |kind: ConvKind| move |node: &Node| conv(node).is_some_and(|conv| conv.kind() == Some(kind));
    // Only the last convolution of a block may add a residual.
    let plain = |kind: ConvKind| move |node: &Node| is(kind)(node) && node.inputs.len() == 1;

    let expand = next(&plain(ConvKind::Pointwise), None, 1);
    let depthwise = next(&plain(ConvKind::Depthwise), expand, 1)?;
    let mut last = depthwise;
    let mut squeeze = None;
    // Squeeze-excite reads the map twice: for the mean, and to scale it.
    if let Some(pool) = next(&|node| matches!(node.op, Op::GlobalPool), Some(depthwise), 2) {
        let narrow = next(&plain(ConvKind::Pointwise), Some(pool), 1)?;
        let widen = next(&plain(ConvKind::Pointwise), Some(narrow), 1)?;
        let scale = next(&|node| matches!(node.op, Op::Scale), None, 1)?;
        if graph.node(scale).inputs != [depthwise, widen] || uses[widen.index()] != 1 {
            return None;
        }
        squeeze = Some(Squeeze { pool, squeeze: narrow, widen, scale });
        last = scale;
    }
    let project = next(&is(ConvKind::Pointwise), Some(last), 1)?;
    // V4's first depthwise convolution has no activation: what looks like its projection widens,
    // and belongs to the depthwise convolution behind it.
    let begins = expand.is_none()
        && conv(graph.node(depthwise)).is_some_and(|conv| conv.activation == Activation::Identity);
    if begins && next(&plain(ConvKind::Depthwise), Some(project), 1).is_some() {
        return None;
    }
    Some(Block { expand, depthwise, squeeze, project })
}

/// The head that begins with the first of `ids`, if one does.
fn head(graph: &Graph, uses: &[usize], ids: &[NodeId]) -> Option<Head> {
    let &[first, second, ..] = ids else { return None };
    let (node, pool) = (graph.node(first), graph.node(second));
    let pointwise = conv(node).is_some_and(|conv| conv.kind() == Some(ConvKind::Pointwise));
    let pooled = matches!(pool.op, Op::GlobalPool) && pool.inputs == [first] && uses[first.index()] == 1;
    (pointwise && node.inputs.len() == 1 && pooled).then_some(Head { conv: first, pool: second })
}

/// A node's convolution, if it is one.
pub fn conv(node: &Node) -> Option<&Conv> {
    match &node.op {
        Op::Conv(conv) => Some(conv),
        _ => None,
    }
}
