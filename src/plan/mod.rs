//! What runs: which kernels, in which order, over which buffers. Pure data that explains
//! itself; nothing here knows wgpu.

mod choose;
mod memory;

use crate::{
    Error, Result, Shape,
    graph::{Graph, Op, passes},
    kernels::Launch,
};

/// What the planner has to know of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Threads below which units of it idle.
    pub threads: usize,
    /// The most bytes that a shader may bind as one storage buffer.
    pub max_binding: u64,
    /// The most bytes that one buffer may have.
    pub max_buffer: u64,
}

impl Default for Machine {
    /// A GPU of middling size with WebGPU's default limits.
    fn default() -> Self {
        Self { threads: 1 << 14, max_binding: 128 << 20, max_buffer: 256 << 20 }
    }
}

/// A buffer for feature maps, used by one after another. No step reads and writes the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct SlotId(usize);

impl SlotId {
    /// The slot's place in [`Plan::slots`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A feature map in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// Where it is.
    pub slot: SlotId,
    /// Its shape.
    pub shape: Shape,
}

/// A layer's output, as its source library has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// The module whose output it is.
    pub module: String,
    /// Where it is.
    pub value: Value,
    /// Its dimensions: `[N, C, H, W]`, or `[N, C]` of a matrix product.
    pub dims: Vec<usize>,
}

/// Something that a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A feature map.
    Slot(SlotId),
    /// An entry of [`Plan::weights`].
    Weights(usize),
}

/// One dispatch and its buffers.
#[derive(Debug, Clone)]
pub struct Step {
    /// The source library's modules that it computes; timings and errors name the first.
    pub layers: Vec<String>,
    /// The kernel and how much of it.
    pub launch: Launch,
    /// What it reads, in the order of the shader's `reads`.
    pub reads: Vec<Operand>,
    /// What it writes.
    pub writes: SlotId,
    /// The shape of what it writes.
    pub shape: Shape,
    /// Why this kernel with this tile.
    pub why: String,
}

impl Step {
    /// The module that timings and errors name.
    pub fn name(&self) -> &str {
        &self.layers[0]
    }
}

/// A network at one input shape, ready to be given to a device.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The dispatches in order.
    pub steps: Vec<Step>,
    /// Bytes of each slot.
    pub slots: Vec<u64>,
    /// Weights and biases as the kernels read them.
    pub weights: Vec<Vec<f32>>,
    /// Where the picture goes.
    pub input: Value,
    /// Where the answer comes.
    pub output: Value,
    /// Every layer's output, if they were asked for.
    pub taps: Vec<Tap>,
}

impl Plan {
    /// Plans `graph` for inputs of one shape. With `taps` every layer's output is kept in a
    /// slot of its own.
    ///
    /// # Errors
    /// [`Error::Layer`] if an input of that shape does not fit the network or no kernel
    /// computes a layer, [`Error::Limit`] if a map or a weight is larger than the machine allows.
    pub fn new(graph: &Graph, input: Shape, machine: Machine, taps: bool) -> Result<Self> {
        let graph = passes::optimise(graph);
        let shapes = graph.shapes(input)?;
        let (maps, slots) = place(&graph, &shapes, machine, taps)?;

        let mut steps = Vec::new();
        let mut weights = Vec::new();
        for (id, node) in graph.nodes() {
            if let Op::Input(_) = node.op {
                continue;
            }
            let reads: Vec<Shape> = node.inputs.iter().map(|id| shapes[id.index()]).collect();
            let choice = choose::kernel(&node.op, &reads, shapes[id.index()], machine)
                .map_err(|reason| Error::layer(node.name(), reason))?;

            let mut maps_read = node.inputs.iter().map(|id| Operand::Slot(maps[id.index()].slot));
            let x = maps_read.next().expect("every operation but the input reads one");
            let mut operands = vec![x];
            for packed in choice.weights {
                check(node.name(), 4 * packed.len() as u64, machine)?;
                operands.push(Operand::Weights(weights.len()));
                weights.push(packed);
            }
            operands.extend(maps_read);
            // A convolution without a residual never reads that binding; it gets x again.
            operands.resize(choice.launch.shader.reads.len(), x);
            steps.push(Step {
                layers: node.layers.clone(),
                launch: choice.launch,
                reads: operands,
                writes: maps[id.index()].slot,
                shape: shapes[id.index()],
                why: choice.why,
            });
        }

        let first = graph.nodes().position(|(_, node)| matches!(node.op, Op::Input(_)));
        let (Some(first), Some(output)) = (first, maps.last()) else {
            return Err(Error::Input("the network has no input".into()));
        };
        let taps = graph
            .nodes()
            .filter(|(_, node)| taps && !matches!(node.op, Op::Input(_)))
            .map(|(id, node)| {
                let value = maps[id.index()];
                let dims = <[usize; 4]>::from(value.shape);
                let linear = matches!(&node.op, Op::Conv(conv) if conv.linear);
                let dims = if linear { dims[..2].to_vec() } else { dims.to_vec() };
                Tap { module: node.output_name().to_string(), value, dims }
            })
            .collect();
        Ok(Self { steps, slots, weights, input: maps[first], output: *output, taps })
    }

    /// Bytes of every slot together.
    pub fn slot_bytes(&self) -> u64 {
        self.slots.iter().sum()
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(|w| 4 * w.len() as u64).sum()
    }

    /// Device memory that the network takes: slots and weights.
    pub fn peak_bytes(&self) -> u64 {
        self.slot_bytes() + self.weight_bytes()
    }
}

/// A slot for every node's value, from the first step that writes it to the last that reads it.
fn place(graph: &Graph, shapes: &[Shape], machine: Machine, keep: bool) -> Result<(Vec<Value>, Vec<u64>)> {
    let mut lives = Vec::with_capacity(shapes.len());
    for (id, node) in graph.nodes() {
        let bytes = shapes[id.index()].checked_device_bytes().unwrap_or(u64::MAX);
        check(node.output_name(), bytes, machine)?;
        lives.push(memory::Life { bytes, first: id.index(), last: id.index() });
    }
    for (id, node) in graph.nodes() {
        for input in &node.inputs {
            lives[input.index()].last = id.index();
        }
    }
    if let Some(answer) = lives.last_mut() {
        answer.last = usize::MAX;
    }
    if keep {
        lives.iter_mut().for_each(|life| life.last = usize::MAX);
    }
    let (slot_of, slots) = memory::assign(&lives);
    let maps =
        slot_of.iter().zip(shapes).map(|(&slot, &shape)| Value { slot: SlotId(slot), shape }).collect();
    Ok((maps, slots))
}

fn check(what: &str, bytes: u64, machine: Machine) -> Result<()> {
    let limit = machine.max_binding.min(machine.max_buffer);
    if bytes > limit {
        return Err(Error::Limit { what: format!("layer {what}"), needed: bytes, limit });
    }
    Ok(())
}
