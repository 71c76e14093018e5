//! Networks as graphs: operations, shapes and costs. Knows no kernel.

mod cost;
mod op;
pub mod passes;

use std::fmt::Write;

pub use cost::Cost;
pub use op::{Activation, BatchNorm, Conv, ConvKind, MaxPool, Op, Padding, Window};

use crate::{Error, Result, Shape, tensor::Element};

/// A node of one graph, and the value it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(usize);

impl NodeId {
    /// The node's place in the graph's order.
    pub fn index(self) -> usize {
        self.0
    }
}

/// One operation on the values of earlier nodes.
#[derive(Debug, Clone)]
pub struct Node {
    /// The source library's modules that this node computes, first to last: one, until
    /// passes fold others in. Errors and timings speak of the first; the node's value is
    /// the last one's output.
    pub layers: Vec<String>,
    /// What it computes.
    pub op: Op,
    /// Whose values it reads.
    pub inputs: Vec<NodeId>,
}

impl Node {
    /// The module that errors and timings name.
    pub fn name(&self) -> &str {
        &self.layers[0]
    }

    /// The module whose output this node's value is.
    pub fn output_name(&self) -> &str {
        &self.layers[self.layers.len() - 1]
    }
}

/// Nodes in an order in which they can run; the last one's value is the answer.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// Adds a node named after its module.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        self.push_node(Node { layers: vec![name.into()], op, inputs: inputs.to_vec() })
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

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// How often each node's value is read.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            uses[input.0] += 1;
        }
        uses
    }

    /// The shape of every node's value for an input of this shape.
    ///
    /// # Errors
    /// [`Error::Layer`] naming the layer that its input does not fit.
    pub fn shapes(&self, input: Shape) -> Result<Vec<Shape>> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<Shape> = node.inputs.iter().map(|id| shapes[id.0]).collect();
            let shape =
                infer(&node.op, &inputs, input).map_err(|reason| Error::layer(node.name(), reason))?;
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// The graph as text, a line a node.
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

/// The shape an operation makes of its inputs' shapes.
fn infer(op: &Op, inputs: &[Shape], picture: Shape) -> Result<Shape, String> {
    let wanted = |channels: usize| match inputs {
        [x, ..] if x.c == channels => Ok(*x),
        [x, ..] => Err(format!("expects {channels} channels, its input has {}", x.c)),
        [] => Err("has no input".into()),
    };
    match (op, inputs) {
        (Op::Input(_), []) if picture.checked_device_bytes(Element::F32).is_none() => {
            Err(format!("an input of {picture} is too large to count"))
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
        (Op::BatchNorm(norm), [_]) => wanted(norm.gamma.data().len()),
        (Op::Activation(_), [x]) => Ok(*x),
        (Op::Add, [a, b]) if a == b => Ok(*a),
        (Op::Add, [a, b]) => Err(format!("cannot add {a} and {b}")),
        (Op::MaxPool(pool), [x]) => {
            let window = pool.window(x.h, x.w).ok_or_else(|| no_room(pool.kernel, *x))?;
            Ok(Shape { h: window.height, w: window.width, ..*x })
        }
        (Op::GlobalPool, [x]) => Ok(Shape { h: 1, w: 1, ..*x }),
        (Op::Scale, [x, gate]) if *gate == (Shape { h: 1, w: 1, ..*x }) => Ok(*x),
        (Op::Scale, [x, gate]) => Err(format!("cannot scale {x} by {gate}")),
        _ => Err(format!("{} inputs are not what {} takes", inputs.len(), op.name(None))),
    }
}

fn no_room(kernel: usize, x: Shape) -> String {
    format!("a {kernel}x{kernel} window does not fit an input of {}x{}", x.h, x.w)
}
