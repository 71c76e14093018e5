//! Lowers a graph's nodes to steps on values. A value is int8 or f32. A step in f32 reads dequantised copies
//! of int8 values; if its node's value is int8, another step quantises the result.

use super::{
    executor::{Operation, Step},
    int8::{Isa, Kernel},
    memory::Memory,
};
use crate::{
    Error, Result, Shape,
    graph::{Affine, Cost, Graph, Node, NodeId},
    plan::{Lifetime, Summary, Work},
};

/// A graph's steps. They still have indices of values in place of slots.
pub struct Lowering<'a> {
    graph: &'a Graph,
    isa: Isa,
    /// The nodes' shapes for one picture, and for the whole batch.
    shapes: [&'a [Shape]; 2],
    /// True if every value is kept until the end.
    taps: bool,
    /// For weights.
    memory: Memory,
    pub steps: Vec<Step>,
    pub summaries: Vec<Summary>,
    /// The lifetime of each value.
    pub lives: Vec<Lifetime>,
    /// The index of each node's value.
    pub values: Vec<usize>,
    /// The index of each node's dequantised copy, if it has one.
    copies: Vec<Option<usize>>,
}

/// A step before its output value is allocated.
struct DraftStep {
    operation: Operation,
    kernel: &'static str,
    /// Indices of values, and their shapes.
    reads: Vec<(usize, Shape)>,
    work: Work,
}

impl<'a> Lowering<'a> {
    /// Lowers `graph` for a batch of shape `input`.
    ///
    /// # Errors
    /// [`Error::Layer`] if a layer is not supported.
    pub fn new(
        graph: &'a Graph,
        isa: Isa,
        shapes: [&'a [Shape]; 2],
        input: Shape,
        taps: bool,
    ) -> Result<Self> {
        let (steps, summaries, lives) = (Vec::new(), Vec::new(), Vec::new());
        let (values, copies) = (Vec::new(), vec![None; graph.nodes().len()]);
        let memory = Memory::default();
        let mut lowering = Self { graph, isa, shapes, taps, memory, steps, summaries, lives, values, copies };
        let costs = graph.costs(shapes[1]);
        for (id, node) in graph.nodes() {
            let value = lowering
                .node(id, node, costs[id.index()], input)
                .map_err(|reason| Error::layer(node.name(), reason))?;
            lowering.values.push(value);
        }
        Ok(lowering)
    }

    /// Adds a node's steps and returns the index of its value.
    fn node(&mut self, id: NodeId, node: &Node, cost: Cost, picture: Shape) -> Result<usize, String> {
        if node.inputs.is_empty() {
            return Ok(self.value(id, node.quantisation, true));
        }
        let [shapes, _] = self.shapes;
        let inputs: Vec<Shape> = node.inputs.iter().map(|id| shapes[id.index()]).collect();
        let int8 = self.graph.int8(id);
        let is_int8 = int8.is_some();
        let (operation, kernel) = match int8 {
            Some(int8) => {
                let (kernel, name) = Kernel::new(self.isa, node, &inputs, &int8, &mut self.memory)?;
                (Operation::Int8(Box::new(kernel)), name)
            }
            None => Operation::new(&node.op, &inputs, picture, &mut self.memory)?,
        };
        let reads = node.reads().iter().map(|read| {
            let value = if is_int8 { self.values[read.index()] } else { self.in_f32(*read) };
            (value, shapes[read.index()])
        });
        let reads = reads.collect();
        let draft = DraftStep { operation, kernel, reads, work: Work { bytes: cost.bytes, macs: cost.macs } };
        let Some(quantisation) = node.quantisation.filter(|_| !is_int8) else {
            return Ok(self.step(id, draft, node.quantisation, true));
        };
        let computed = self.step(id, draft, None, false);
        let quantise = self.conversion(id, computed, Kernel::Quantise(quantisation), "quantise");
        Ok(self.step(id, quantise, Some(quantisation), true))
    }

    /// Returns a node's value in f32, dequantised on first use.
    fn in_f32(&mut self, id: NodeId) -> usize {
        let value = self.values[id.index()];
        let Some(quantisation) = self.graph.node(id).quantisation else { return value };
        if let Some(copy) = self.copies[id.index()] {
            return copy;
        }
        let dequantise = self.conversion(id, value, Kernel::Dequantise(quantisation), "dequantise");
        let copy = self.step(id, dequantise, None, false);
        self.copies[id.index()] = Some(copy);
        copy
    }

    /// Drafts the step that quantises or dequantises a node's value.
    fn conversion(&self, id: NodeId, value: usize, kernel: Kernel, name: &'static str) -> DraftStep {
        let [shapes, batch_shapes] = self.shapes;
        DraftStep {
            operation: Operation::Int8(Box::new(kernel)),
            kernel: name,
            reads: vec![(value, shapes[id.index()])],
            work: Work { bytes: 5 * batch_shapes[id.index()].len() as u64, macs: 0 },
        }
    }

    /// Adds a step of a node and returns the value that it writes. `is_result` is false for an intermediate
    /// value.
    fn step(&mut self, id: NodeId, draft: DraftStep, quantisation: Option<Affine>, is_result: bool) -> usize {
        let [shapes, batch_shapes] = self.shapes;
        let DraftStep { operation, kernel, reads, work } = draft;
        let write = self.value(id, quantisation, is_result);
        for (read, _) in &reads {
            self.lives[*read].last = self.lives[*read].last.max(self.steps.len() + 1);
        }
        let layers = self.graph.node(id).layers.clone();
        self.summaries.push(Summary { layers, kernel, shape: batch_shapes[id.index()], work });
        self.steps.push(Step { operation, shape: shapes[id.index()], reads, write });
        write
    }

    /// Allocates a value, which the next step writes.
    fn value(&mut self, id: NodeId, quantisation: Option<Affine>, is_result: bool) -> usize {
        let first = if self.graph.node(id).inputs.is_empty() { 0 } else { self.steps.len() + 1 };
        let kept = is_result && (self.taps || self.graph.is_output(id));
        let values = self.shapes[0][id.index()].len() as u64;
        let bytes = if quantisation.is_some() { values.next_multiple_of(4) } else { 4 * values };
        self.lives.push(Lifetime { bytes, first, last: if kept { usize::MAX } else { first } });
        self.lives.len() - 1
    }
}
