//! Networks as graphs: operations, shapes and costs. Independent of kernels.

mod anchors;
mod cost;
mod int8;
mod integers;
mod op;
pub mod passes;

use std::{fmt::Write, sync::Arc};

pub use anchors::{Anchor, Anchors, CENTRE_WEIGHT, MOST_GROWTH, SIZE_WEIGHT};
pub use cost::Cost;
pub use int8::{ActivationTable, Affine, Int8, Rescale, TABLE_ENTRIES};
pub(crate) use integers::weight_integer;
pub use integers::{EpilogueKind, Integers, ResidualRescale};
pub(crate) use op::too_many_classes;
pub use op::{
    Activation, BatchNorm, ConcatAxis, Conv, ConvKind, Extent, Filter, MaxPool, NO_CLASS, Op, Padding,
    Select, Window,
};

use crate::{Error, Result, Shape, tensor::Element};

/// The id of a node, and of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(usize);

impl NodeId {
    /// The node's index in the graph's order.
    pub fn index(self) -> usize {
        self.0
    }
}

/// One operation on the values of earlier nodes.
#[derive(Debug, Clone)]
pub struct Node {
    /// The source library's modules that this node computes, first to last: one, until
    /// passes fuse others into it. Errors and timings name the first; the node's value is
    /// the last one's output.
    pub layers: Vec<String>,
    /// The operation.
    pub op: Op,
    /// The input nodes. Some operations use only the shape of an input: see [`Node::reads`].
    pub inputs: Vec<NodeId>,
    /// The quantisation of its value, if it is stored as int8.
    pub quantisation: Option<Affine>,
    /// The weight scale of each output of a convolution, if its weights are integer multiples of that scale:
    /// from -127 to 127, or from -128 in networks that were quantised with torch.
    pub weight_scales: Option<Arc<[f32]>>,
}

impl Node {
    /// A node of one module, in floating point.
    fn new(name: String, op: Op, inputs: &[NodeId]) -> Self {
        Self { layers: vec![name], op, inputs: inputs.to_vec(), quantisation: None, weight_scales: None }
    }

    /// The module that errors and timings name.
    pub fn name(&self) -> &str {
        &self.layers[0]
    }

    /// The module whose output this node's value is.
    pub fn output_name(&self) -> &str {
        &self.layers[self.layers.len() - 1]
    }

    /// The dimensions of its value in the source library: `[N, C, H, W]`, or `[N, C]` for a linear
    /// layer.
    pub fn dims(&self, shape: Shape) -> Vec<usize> {
        let dims = <[usize; 4]>::from(shape);
        let linear = matches!(&self.op, Op::Conv(conv) if conv.linear);
        if linear { dims[..2].to_vec() } else { dims.to_vec() }
    }

    /// The inputs whose values the node reads; it uses only the shapes of the others.
    pub fn reads(&self) -> &[NodeId] {
        match self.op {
            Op::Resize(_) | Op::Argmax(_) | Op::Boxes(_) => &self.inputs[..self.inputs.len().min(1)],
            _ => &self.inputs,
        }
    }
}

/// Nodes in topological order, and the outputs, which are the values of some nodes.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    outputs: Vec<(String, NodeId)>,
    /// True if the source library flattens outputs of one pixel to vectors.
    flat: bool,
}

impl Graph {
    /// Adds a node named after its module.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        self.push_node(Node::new(name.into(), op, inputs))
    }

    fn push_node(&mut self, node: Node) -> NodeId {
        debug_assert!(node.inputs.iter().all(|id| id.0 < self.nodes.len()));
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// The nodes in order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> + DoubleEndedIterator {
        self.nodes.iter().enumerate().map(|(i, node)| (NodeId(i), node))
    }

    /// The input node.
    pub fn source(&self) -> Option<NodeId> {
        self.nodes.iter().position(|node| matches!(node.op, Op::Input(_))).map(NodeId)
    }

    /// Makes a node's value an output. Before the first call, the only output is the last node's value,
    /// under the name `output`.
    pub fn add_output(&mut self, name: impl Into<String>, id: NodeId) {
        self.outputs.push((name.into(), id));
    }

    /// The outputs: their names and their nodes.
    pub fn outputs(&self) -> Vec<(&str, NodeId)> {
        match (&self.outputs[..], self.nodes.len().checked_sub(1)) {
            ([], Some(last)) => vec![("output", NodeId(last))],
            (outputs, _) => outputs.iter().map(|(name, id)| (name.as_str(), *id)).collect(),
        }
    }

    /// Returns whether a node's value is an output.
    pub fn is_output(&self, id: NodeId) -> bool {
        self.outputs().iter().any(|(_, output)| *output == id)
    }

    /// The same nodes with other outputs.
    pub fn with_outputs(&self, outputs: Vec<(String, NodeId)>) -> Self {
        Self { nodes: self.nodes.clone(), outputs, flat: false }
    }

    /// Flattens outputs of one pixel to vectors, as the source library does.
    pub fn flatten(&mut self) {
        self.flat = true;
    }

    /// The dimensions of an output in the source library.
    pub fn output_dims(&self, id: NodeId, shape: Shape) -> Vec<usize> {
        let mut dims = self.node(id).dims(shape);
        if self.flat && shape.h * shape.w == 1 {
            dims.truncate(2);
        }
        dims
    }

    /// The same graph with the output of node `id` resized to these rows and columns, if its operation
    /// resizes.
    pub(crate) fn scaled_to(mut self, id: NodeId, size: [usize; 2]) -> Self {
        let node = &mut self.nodes[id.0];
        if let Op::Resize(extent) | Op::Argmax(extent) = &mut node.op {
            *extent = Extent::Exact(size);
            node.inputs.truncate(1);
        }
        self
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The node with this id, mutable. Its inputs must remain earlier nodes.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0]
    }

    /// The number of reads of each node's value, by nodes and as an output.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        let outputs = self.outputs.iter().map(|(_, id)| id);
        for input in self.nodes.iter().flat_map(|node| &node.inputs).chain(outputs) {
            uses[input.0] += 1;
        }
        uses
    }

    /// The shape of every node's value for an input of this shape.
    ///
    /// # Errors
    /// [`Error::Layer`] naming the layer whose input does not fit.
    pub fn shapes(&self, input: Shape) -> Result<Vec<Shape>> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<Shape> = node.inputs.iter().map(|id| shapes[id.0]).collect();
            let shape =
                infer(&node.op, &inputs, input).map_err(|reason| Error::layer(node.name(), reason))?;
            if shape.checked_device_bytes(Element::F32).is_none() {
                return Err(Error::layer(
                    node.name(),
                    format!("the size in bytes of a map of {shape} overflows"),
                ));
            }
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// The graph as text, one line per node.
    pub fn dump(&self, shapes: &[Shape]) -> String {
        let mut text = String::new();
        for (id, node) in self.nodes() {
            let input = node.inputs.first().map(|id| shapes[id.0]);
            let reads: Vec<String> = node.inputs.iter().map(|id| format!("%{}", id.0)).collect();
            let _ = writeln!(
                text,
                "%{:<3} {:<14} {:<16} {:<12} {}",
                id.0,
                node.op.name(input),
                shapes[id.0].to_string(),
                reads.join(" "),
                node.layers.join(" + ")
            );
        }
        text
    }
}

/// Infers the output shape of an operation from its inputs' shapes.
fn infer(op: &Op, inputs: &[Shape], picture: Shape) -> Result<Shape, String> {
    let wanted = |channels: usize| match inputs {
        [x, ..] if x.c == channels => Ok(*x),
        [x, ..] => Err(format!("expects {channels} channels, its input has {}", x.c)),
        [] => Err("has no input".into()),
    };
    match (op, inputs) {
        (Op::Input(_), []) if picture.checked_device_bytes(Element::F32).is_none() => {
            Err(format!("the size in bytes of an input of {picture} overflows"))
        }
        (Op::Input(channels), []) if picture.c == *channels => Ok(picture),
        (Op::Input(channels), []) => {
            Err(format!("expects {channels} channels, the input has {} ({picture})", picture.c))
        }
        (Op::Conv(conv), [_] | [_, _]) => {
            let x = wanted(conv.inputs())?;
            let window = conv.window(x.h, x.w).ok_or_else(|| no_room(conv.kernel(), x))?;
            let y = Shape::new(x.n, conv.outputs(), window.height, window.width);
            match inputs.get(1) {
                Some(residual) if *residual != y => Err(format!("cannot add {residual} to {y}")),
                _ => Ok(y),
            }
        }
        (Op::BatchNorm(norm), [_]) => {
            wanted(norm.channels().ok_or("its tensors have different numbers of channels")?)
        }
        (Op::Activation(_), [x]) => Ok(*x),
        (Op::Add, [a, b]) if a == b => Ok(*a),
        (Op::Add, [a, b]) => Err(format!("cannot add {a} and {b}")),
        (Op::MaxPool(pool), [x]) => {
            let window = pool.window(x.h, x.w).ok_or_else(|| no_room(pool.kernel, *x))?;
            Ok(Shape { h: window.height, w: window.width, ..*x })
        }
        (Op::Filter(filter), [_]) => {
            let (x, side) = (wanted(filter.channels)?, filter.taps.len());
            let window = MaxPool { kernel: side, stride: filter.stride }.window(x.h, x.w);
            let window = window.ok_or_else(|| no_room(side, x))?;
            Ok(Shape { h: window.height, w: window.width, ..x })
        }
        (Op::GlobalPool, [x]) => Ok(Shape { h: 1, w: 1, ..*x }),
        (Op::Scale, [x, gate]) if *gate == (Shape { h: 1, w: 1, ..*x }) => Ok(*x),
        (Op::Scale, [x, gate]) => Err(format!("cannot scale {x} by {gate}")),
        (Op::Resize(extent), [x, ..]) => resized(*extent, inputs, *x),
        (Op::Argmax(extent), [x, ..]) => resized(*extent, inputs, Shape { c: 1, ..*x }),
        (Op::Concat(axis), [first, rest @ ..]) => concatenated(*axis, *first, rest),
        (Op::Softmax(classes), [x]) if *classes > 0 && x.c % classes == 0 => {
            Ok(Shape::new(x.n, x.h * x.w * (x.c / classes), 1, *classes))
        }
        (Op::Softmax(classes), [x]) => Err(format!("{} channels are not a multiple of {classes}", x.c)),
        (Op::Boxes(anchors), [x, levels @ ..]) => {
            let pixels: usize = levels.iter().map(|level| level.h * level.w).sum();
            let (each, known) = (anchors.each(), anchors.scales.len().saturating_sub(1));
            if levels.len() != known || x.c != 4 * each || x.h * x.w != pixels {
                let found = levels.len();
                Err(format!(
                    "{x} does not hold four offsets for {each} boxes per pixel of {known} levels \
                     (found {found} levels of {pixels} pixels)"
                ))
            } else {
                Ok(Shape::new(x.n, 4, 1, pixels * each))
            }
        }
        (Op::Select(select), [x]) if x.h == 1 && x.w > 1 && select.most > 0 => {
            Ok(Shape::new(x.n, 4, x.w - 1, select.most.div_ceil(2)))
        }
        (Op::Select(_), [x]) => Err(format!("{x} does not contain scores of two or more classes")),
        // Every operation, so that the compiler reports one without a shape.
        (
            Op::Input(_)
            | Op::Conv(_)
            | Op::BatchNorm(_)
            | Op::Activation(_)
            | Op::Add
            | Op::MaxPool(_)
            | Op::Filter(_)
            | Op::GlobalPool
            | Op::Scale
            | Op::Resize(_)
            | Op::Concat(_)
            | Op::Argmax(_)
            | Op::Softmax(_)
            | Op::Boxes(_)
            | Op::Select(_),
            _,
        ) => Err(format!("{} is the wrong number of inputs for {}", inputs.len(), op.name(None))),
    }
}

/// The shape of `x` after resizing, given all of the operation's inputs.
fn resized(extent: Extent, inputs: &[Shape], x: Shape) -> Result<Shape, String> {
    match (extent, inputs) {
        (Extent::Like, [_, like]) => Ok(Shape { h: like.h, w: like.w, ..x }),
        (Extent::Exact([h, w]), [_]) if h > 0 && w > 0 => Ok(Shape { h, w, ..x }),
        (extent, _) => Err(format!("{} inputs cannot be resized to {extent:?}", inputs.len())),
    }
}

fn concatenated(axis: ConcatAxis, first: Shape, rest: &[Shape]) -> Result<Shape, String> {
    let all = || rest.iter().chain([&first]);
    let fits = |x: &Shape| match axis {
        ConcatAxis::Channels => (Shape { c: first.c, ..*x }) == first,
        ConcatAxis::Pixels => (x.n, x.c) == (first.n, first.c),
    };
    match (all().find(|x| !fits(x)), axis) {
        (Some(odd), _) => Err(format!("cannot concatenate {first} and {odd}")),
        (None, ConcatAxis::Channels) => Ok(Shape { c: all().map(|x| x.c).sum(), ..first }),
        (None, ConcatAxis::Pixels) => Ok(Shape { h: 1, w: all().map(|x| x.h * x.w).sum(), ..first }),
    }
}

fn no_room(kernel: usize, x: Shape) -> String {
    format!("a {kernel}x{kernel} window does not fit an input of {}x{}", x.h, x.w)
}
