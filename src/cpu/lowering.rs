//! From a graph's nodes to steps on values. A node's value lies in 8 bits or in floating point; what computes in
//! floating point reads copies of values of 8 bits, and its own is made one in a step more if it is to be.

use super::{
    executor::{Operation, Step},
    int8::{Isa, Kernel},
};
use crate::{
    Error, Result, Shape,
    graph::{Affine, Cost, Graph, Node, NodeId},
    plan::{Life, Summary, Work},
};

/// The steps of a graph, whose slots are the numbers of values.
pub struct Lowering<'a> {
    graph: &'a Graph,
    isa: Isa,
    /// Of a picture, and of the whole batch.
    shapes: [&'a [Shape]; 2],
    /// Whether every value stays.
    taps: bool,
    pub steps: Vec<Step>,
    pub summaries: Vec<Summary>,
    /// When each value is there.
    pub lives: Vec<Life>,
    /// The value of each node.
    pub values: Vec<usize>,
    /// The copy of it in floating point, if it lies in 8 bits and was asked for.
    copies: Vec<Option<usize>>,
}

/// A step to be.
struct Draft {
    operation: Operation,
    kernel: &'static str,
    /// Values, and their shapes.
    reads: Vec<(usize, Shape)>,
    work: Work,
}

impl<'a> Lowering<'a> {
    /// Of `graph`, for a batch of pictures of shape `input`.
    ///
    /// # Errors
    /// [`Error::Layer`] if nothing computes a layer.
    pub fn new(
        graph: &'a Graph,
        isa: Isa,
        shapes: [&'a [Shape]; 2],
        input: Shape,
        taps: bool,
    ) -> Result<Self> {
        let (steps, summaries, lives) = (Vec::new(), Vec::new(), Vec::new());
        let (values, copies) = (Vec::new(), vec![None; graph.nodes().len()]);
        let mut lowering = Self { graph, isa, shapes, taps, steps, summaries, lives, values, copies };
        let costs = graph.costs(shapes[1]);
        for (id, node) in graph.nodes() {
            let value = lowering
                .node(id, node, costs[id.index()], input)
                .map_err(|reason| Error::layer(node.name(), reason))?;
            lowering.values.push(value);
        }
        Ok(lowering)
    }

    /// Adds what computes a node, and gives its value.
    fn node(&mut self, id: NodeId, node: &Node, cost: Cost, picture: Shape) -> Result<usize, String> {
        if node.inputs.is_empty() {
            return Ok(self.value(id, node.map, true));
        }
        let [shapes, _] = self.shapes;
        let inputs: Vec<Shape> = node.inputs.iter().map(|id| shapes[id.index()]).collect();
        let around = self.graph.int8(id);
        let integers = around.is_some();
        let (operation, kernel) = match around {
            Some(around) => {
                let (kernel, name) = Kernel::new(self.isa, node, &inputs, &around)?;
                (Operation::Int8(Box::new(kernel)), name)
            }
            None => Operation::new(&node.op, &inputs, picture)?,
        };
        let reads = node.reads().iter().map(|read| {
            let value = if integers { self.values[read.index()] } else { self.in_f32(*read) };
            (value, shapes[read.index()])
        });
        let reads = reads.collect();
        let draft = Draft { operation, kernel, reads, work: Work { bytes: cost.bytes, macs: cost.macs } };
        let Some(map) = node.map.filter(|_| !integers) else {
            return Ok(self.step(id, draft, node.map, true));
        };
        let computed = self.step(id, draft, None, false);
        let quantise = self.between_formats(id, computed, Kernel::Quantise(map), "quantise");
        Ok(self.step(id, quantise, Some(map), true))
    }

    /// A node's value in floating point, copied if it has to be.
    fn in_f32(&mut self, id: NodeId) -> usize {
        let value = self.values[id.index()];
        let Some(map) = self.graph.node(id).map else { return value };
        if let Some(copy) = self.copies[id.index()] {
            return copy;
        }
        let dequantise = self.between_formats(id, value, Kernel::Dequantise(map), "dequantise");
        let copy = self.step(id, dequantise, None, false);
        self.copies[id.index()] = Some(copy);
        copy
    }

    /// The way of a node's value between 8 bits and floating point.
    fn between_formats(&self, id: NodeId, value: usize, kernel: Kernel, name: &'static str) -> Draft {
        let [shapes, all] = self.shapes;
        Draft {
            operation: Operation::Int8(Box::new(kernel)),
            kernel: name,
            reads: vec![(value, shapes[id.index()])],
            work: Work { bytes: 5 * all[id.index()].len() as u64, macs: 0 },
        }
    }

    /// Adds a step of a node's, and gives the value that it writes: the node's own, or one on the way.
    fn step(&mut self, id: NodeId, draft: Draft, map: Option<Affine>, own: bool) -> usize {
        let [shapes, all] = self.shapes;
        let Draft { operation, kernel, reads, work } = draft;
        let write = self.value(id, map, own);
        for (read, _) in &reads {
            self.lives[*read].last = self.lives[*read].last.max(self.steps.len() + 1);
        }
        let layers = self.graph.node(id).layers.clone();
        self.summaries.push(Summary { layers, kernel, shape: all[id.index()], work });
        self.steps.push(Step { operation, shape: shapes[id.index()], reads, write });
        write
    }

    /// Makes a value, which the step to be added writes.
    fn value(&mut self, id: NodeId, map: Option<Affine>, own: bool) -> usize {
        let first = if self.graph.node(id).inputs.is_empty() { 0 } else { self.steps.len() + 1 };
        let kept = own && (self.taps || self.graph.is_answer(id));
        let values = self.shapes[0][id.index()].len() as u64;
        let bytes = if map.is_some() { values.next_multiple_of(4) } else { 4 * values };
        self.lives.push(Life { bytes, first, last: if kept { usize::MAX } else { first } });
        self.lives.len() - 1
    }
}
