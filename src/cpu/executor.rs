//! Runs a graph on the CPU: one operation after another, over slots that are assigned by lifetime.

use web_time::Instant;

use super::{
    Cpu, boxes,
    depthwise::Depthwise,
    int8::{self, Kernel},
    lowering::Lowering,
    memory::{Buffer, Memory},
    pixelwise,
    product::Product,
    resize, threads,
    winograd::Winograd,
};
use crate::{
    Error, Result, Shape, Tensor,
    graph::{
        Affine, Anchor, ConcatAxis, ConvKind, Graph, MaxPool, Node, NodeId, Op, Select, Window, passes,
        too_many_classes,
    },
    plan::{Summary, assign},
    tensor::Element,
};

/// The least number of values that a task converts: below it, scheduling takes longer than converting.
const LEAST: usize = 16 << 10;

/// A graph for one input shape, ready to run.
pub struct Executor {
    cpu: Cpu,
    steps: Vec<Step>,
    summaries: Vec<Summary>,
    /// Maps of `chunk` pictures each, in the order of the planner's slots.
    slots: Vec<Buffer<f32>>,
    /// The whole batch's shape.
    input: Shape,
    /// The number of pictures that run together: at most one per thread, as more would only fill the cache.
    chunk: usize,
    source: SlotValue,
    /// The int8 input in NCHW, if the network's input is int8.
    bytes: Vec<u8>,
    outputs: Vec<SlotValue>,
    /// Every layer's output, if requested.
    taps: Vec<Tap>,
}

/// One operation and its slots.
pub struct Step {
    pub operation: Operation,
    /// The shape for one picture.
    pub shape: Shape,
    /// The slots that it reads, with their shapes for one picture.
    pub reads: Vec<(usize, Shape)>,
    /// The slot that it writes, never one of those that it reads.
    pub write: usize,
}

/// A node's value in its slot.
#[derive(Clone, Copy)]
struct SlotValue {
    slot: usize,
    /// The shape for one picture.
    shape: Shape,
    /// The quantisation, if the value is int8.
    quantisation: Option<Affine>,
}

/// A layer's output, with its name and dimensions in the source library.
struct Tap {
    module: String,
    slot_value: SlotValue,
    /// The dimensions of the whole batch in the library.
    dims: Vec<usize>,
}

pub enum Operation {
    Int8(Box<Kernel>),
    Product(Product),
    Winograd(Winograd),
    Depthwise(Depthwise),
    Mean,
    MaxPool(MaxPool, Window),
    Scale,
    Resize,
    Concat(ConcatAxis),
    Argmax,
    Softmax(usize),
    /// The anchors, and the picture's height and width.
    Boxes(Vec<Anchor>, [usize; 2]),
    Select(Select),
}

impl Operation {
    /// Bytes of its weights, biases and tables.
    fn weight_bytes(&self) -> usize {
        match self {
            Self::Int8(kernel) => kernel.bytes(),
            Self::Product(product) => 4 * product.weights(),
            Self::Winograd(winograd) => 4 * winograd.weights(),
            Self::Depthwise(depthwise) => 4 * depthwise.weights(),
            Self::Boxes(anchors, _) => 4 * anchors.as_flattened().len(),
            _ => 0,
        }
    }

    /// Returns the f32 operation for `op` and its name, for inputs of these shapes. `picture` is the shape of
    /// the network's input.
    pub fn new(
        op: &Op,
        inputs: &[Shape],
        picture: Shape,
        memory: &mut Memory,
    ) -> Result<(Self, &'static str), String> {
        let x = inputs[0];
        match op {
            Op::Conv(conv) => {
                let window = conv.window(x.h, x.w).ok_or("its window does not fit the map")?;
                match conv.kind() {
                    Some(ConvKind::Depthwise) => {
                        Ok((Self::Depthwise(Depthwise::new(conv, window, memory)), "depthwise"))
                    }
                    Some(_) if Winograd::pays(conv, window) => {
                        Ok((Self::Winograd(Winograd::new(conv, window, memory)), "winograd"))
                    }
                    Some(kind) => {
                        let name = match kind {
                            ConvKind::Dense => "dense",
                            _ if x.h * x.w == 1 => "connected",
                            _ => "pointwise",
                        };
                        Ok((Self::Product(Product::new(conv, window, memory)), name))
                    }
                    None => Err(op.unfused_error()),
                }
            }
            Op::GlobalPool => Ok((Self::Mean, "pool")),
            Op::MaxPool(pool) => {
                let window = pool.window(x.h, x.w).ok_or("its window does not fit the map")?;
                Ok((Self::MaxPool(*pool, window), "max_pool"))
            }
            Op::Scale => Ok((Self::Scale, "scale")),
            Op::Resize(_) => Ok((Self::Resize, "resize")),
            Op::Concat(axis) => Ok((Self::Concat(*axis), "concat")),
            Op::Argmax(_) => match too_many_classes(x.c) {
                Some(reason) => Err(reason),
                None => Ok((Self::Argmax, "argmax")),
            },
            Op::Softmax(classes) => Ok((Self::Softmax(*classes), "softmax")),
            Op::Boxes(anchors) => {
                let maps: Vec<[usize; 2]> = inputs[1..].iter().map(|level| [level.h, level.w]).collect();
                let picture = [picture.h, picture.w];
                Ok((Self::Boxes(anchors.over(&maps, picture), picture), "boxes"))
            }
            Op::Select(select) => Ok((Self::Select(*select), "select")),
            Op::Input(_) | Op::Filter(_) | Op::BatchNorm(_) | Op::Activation(_) | Op::Add => {
                Err(op.unfused_error())
            }
        }
    }
}

impl Executor {
    /// Packs the weights of `graph` and allocates its maps. With `taps`, every layer's output is kept and the
    /// whole batch runs together.
    ///
    /// # Errors
    /// [`Error::Layer`] if an input of that shape does not fit the network or a layer is not supported,
    /// [`Error::Limit`] or [`Error::Memory`] if there is not enough memory for its maps.
    pub fn new(cpu: &Cpu, graph: &Graph, input: Shape, taps: bool) -> Result<Self> {
        let graph = &passes::prepared(graph, taps);
        let shapes = graph.shapes(Shape { n: 1, ..input })?;
        let all = graph.shapes(input)?;
        let chunk = if taps { input.n } else { input.n.min(cpu.info.threads) };
        let lowering = Lowering::new(graph, cpu.isa, [&shapes, &all], input, taps)?;
        let (slot_of, sizes) = assign(&lowering.lives);
        let Lowering { mut steps, summaries, values, .. } = lowering;
        for step in &mut steps {
            step.reads.iter_mut().for_each(|(read, _)| *read = slot_of[*read]);
            step.write = slot_of[step.write];
        }
        let slot_value = |id: NodeId| SlotValue {
            slot: slot_of[values[id.index()]],
            shape: shapes[id.index()],
            quantisation: graph.node(id).quantisation,
        };
        let tap = |(id, node): (NodeId, &Node)| Tap {
            module: node.output_name().to_string(),
            slot_value: slot_value(id),
            dims: node.dims(all[id.index()]),
        };
        let source = graph.source().ok_or_else(|| Error::Input("the network has no input".into()))?;
        let computed = graph.nodes().filter(|(_, node)| taps && !node.inputs.is_empty());
        Ok(Self {
            cpu: cpu.clone(),
            steps,
            summaries,
            slots: allocate(&sizes, chunk)?,
            input,
            chunk,
            source: slot_value(source),
            bytes: Vec::new(),
            outputs: graph.outputs().iter().map(|(_, id)| slot_value(*id)).collect(),
            taps: computed.map(tap).collect(),
        })
    }

    /// The steps in execution order.
    pub fn steps(&self) -> &[Summary] {
        &self.summaries
    }

    /// Bytes of each slot, a reusable buffer for feature maps.
    pub fn slots(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().map(|slot| 4 * slot.len() as u64)
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> u64 {
        self.steps.iter().map(|step| step.operation.weight_bytes() as u64).sum()
    }

    /// Bytes of the maps and weights.
    pub fn peak_bytes(&self) -> u64 {
        self.slots().sum::<u64>() + self.weight_bytes()
    }

    /// Runs once and returns `[N, C, H, W]` for each of the graph's outputs.
    ///
    /// # Errors
    /// [`Error::Input`] if `input` has another shape, [`Error::Overflow`] if a sum inside the network is not
    /// finite.
    pub fn run(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        self.timed(input, |_, _| {})
    }

    /// Runs once and returns the nanoseconds of each step, over the whole batch.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn profile(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        let mut times = vec![0.0; self.steps.len()];
        self.timed(input, |step, seconds| times[step] += 1e9 * seconds)?;
        Ok(times)
    }

    /// Runs once and calls `clock` after each step with its index and seconds.
    fn timed(&mut self, input: &Tensor, mut clock: impl FnMut(usize, f64) + Send) -> Result<Vec<Tensor>> {
        let shape = input.shape()?;
        if shape != self.input {
            return Err(Error::Input(format!("the input has the shape {shape}, expected {}", self.input)));
        }
        let Self { cpu, steps, slots, chunk, source, bytes, outputs, summaries, .. } = self;
        source.quantisation.map(|_| input.quantisable()).transpose()?;
        let room = |output: &SlotValue| Vec::with_capacity(shape.n * output.shape.len());
        let mut values: Vec<Vec<f32>> = outputs.iter().map(room).collect();
        let threads = cpu.info.threads;
        for pictures in input.data().chunks(*chunk * shape.len() / shape.n) {
            let n = pictures.len() * shape.n / shape.len();
            let picture = Shape { n, ..shape };
            // One `install` for all steps, so that threads stay awake between them.
            let overflowed = cpu.install(|| {
                source.fill(picture, pictures, bytes, slots, threads);
                steps.iter().enumerate().find_map(|(at, step)| {
                    let begun = Instant::now();
                    let finite = step.run(slots, n, threads);
                    clock(at, begun.elapsed().as_secs_f64());
                    (!finite).then_some(at)
                })
            });
            if let Some(at) = overflowed {
                let layer = summaries[at].name().to_string();
                return Err(Error::Overflow { layer, element: Element::F32 });
            }
            for (values, output) in values.iter_mut().zip(&*outputs) {
                values.extend(output.values(n, slots));
            }
        }
        let dims = |output: &SlotValue| <[usize; 4]>::from(Shape { n: shape.n, ..output.shape });
        let tensor = |(values, output)| Tensor::new(dims(output), values);
        values.into_iter().zip(&*outputs).map(tensor).collect()
    }

    /// Returns every layer's output in the last run, under its module's name.
    ///
    /// # Errors
    /// Only on a bug in this crate.
    pub fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        let tensor = |tap: &Tap| {
            let values = tap.slot_value.values(self.chunk, &self.slots);
            Ok((tap.module.clone(), Tensor::new(tap.dims.clone(), values)?))
        };
        self.taps.iter().map(tensor).collect()
    }
}

impl SlotValue {
    /// Writes NCHW pictures to the slot. For an int8 slot they are first quantised into `bytes`.
    fn fill(
        &self,
        shape: Shape,
        pictures: &[f32],
        bytes: &mut Vec<u8>,
        slots: &mut [Buffer<f32>],
        threads: usize,
    ) {
        let slot = &mut slots[self.slot];
        match self.quantisation {
            None => to_nhwc(shape, pictures, &mut slot[..shape.len()], threads),
            Some(quantisation) => {
                bytes.resize(shape.len(), 0);
                int8::quantise(quantisation, pictures, bytes, threads);
                to_nhwc(shape, bytes, &mut bytemuck::cast_slice_mut(slot)[..shape.len()], threads);
            }
        }
    }

    /// Reads the values of `n` pictures as NCHW.
    fn values(&self, n: usize, slots: &[Buffer<f32>]) -> Vec<f32> {
        let (shape, slot) = (Shape { n, ..self.shape }, &slots[self.slot]);
        match self.quantisation {
            None => to_nchw(shape, &slot[..shape.len()], |value| value),
            Some(quantisation) => {
                let bytes = &bytemuck::cast_slice(slot)[..shape.len()];
                to_nchw(shape, bytes, |byte| int8::value(quantisation, byte))
            }
        }
    }
}

impl Step {
    /// Computes `n` pictures. Returns false if a sum is not finite.
    fn run(&self, slots: &mut [Buffer<f32>], n: usize, threads: usize) -> bool {
        // Taken out while other slots are borrowed: no step writes a slot that it reads.
        let mut written = std::mem::take(&mut slots[self.write]);
        let finite = match &self.operation {
            Operation::Int8(kernel) => {
                let reads = self
                    .reads
                    .iter()
                    .map(|(slot, shape)| (Shape { n, ..*shape }, bytemuck::cast_slice(&slots[*slot])));
                let y = Shape { n, ..self.shape };
                kernel.run(&reads.collect::<Vec<_>>(), y, bytemuck::cast_slice_mut(&mut written), threads);
                true
            }
            operation => self.run_in_f32(operation, slots, n, &mut written, threads),
        };
        slots[self.write] = written;
        finite
    }

    /// [`Step::run`] for an f32 operation.
    fn run_in_f32(
        &self,
        operation: &Operation,
        slots: &[Buffer<f32>],
        n: usize,
        written: &mut [f32],
        threads: usize,
    ) -> bool {
        let y = Shape { n, ..self.shape };
        let output = &mut written[..y.len()];
        let read = |at: usize| {
            let (slot, shape) = self.reads[at];
            let shape = Shape { n, ..shape };
            (shape, &slots[slot][..shape.len()])
        };
        let (x, input) = read(0);
        let residual = (self.reads.len() > 1).then(|| read(1).1);
        let mut finite = true;
        match operation {
            Operation::Int8(_) => {}
            Operation::Product(product) => finite = product.run(x, input, y, output, residual, threads),
            Operation::Winograd(winograd) => finite = winograd.run(x, input, y, output, residual, threads),
            Operation::Depthwise(depthwise) => finite = depthwise.run(x, input, y, output, residual, threads),
            Operation::Mean => pixelwise::mean(x, input, output),
            Operation::MaxPool(pool, window) => {
                pixelwise::max_pool(*pool, *window, x, input, y, output, f32::NEG_INFINITY, threads)
            }
            Operation::Scale => pixelwise::scale(x, input, read(1).1, output, threads),
            Operation::Resize => resize::resize(x, input, y, output, threads),
            Operation::Concat(axis) => {
                pixelwise::concat(*axis, (0..self.reads.len()).map(read), y, output, |_, _| {});
            }
            Operation::Argmax => resize::argmax(x, input, y, output, threads),
            Operation::Softmax(classes) => boxes::softmax(*classes, input, y, output, threads),
            Operation::Boxes(anchors, picture) => boxes::decode(anchors, *picture, input, output),
            Operation::Select(select) => boxes::select(*select, x, input, y, output, threads),
        }
        finite
    }
}

/// Allocates slots for `pictures` pictures, of `sizes` bytes per picture.
fn allocate(sizes: &[u64], pictures: usize) -> Result<Vec<Buffer<f32>>> {
    let needed = sizes.iter().sum::<u64>().saturating_mul(pictures as u64);
    let limit = super::available_bytes();
    if needed > limit {
        return Err(Error::Limit { what: "the network's maps".into(), needed, limit });
    }
    let mut memory = Memory::default();
    let room = |bytes: &u64| memory.zeros((bytes / 4) as usize * pictures);
    // The process's limit may be lower than the available memory.
    let slots: Option<_> = sizes.iter().map(room).collect();
    slots.ok_or_else(|| Error::Memory("the network's maps".into()))
}

/// Transposes NCHW to NHWC.
fn to_nhwc<T: Copy + Send + Sync>(shape: Shape, values: &[T], output: &mut [T], threads: usize) {
    let (plane, row) = (shape.h * shape.w, shape.w * shape.c);
    threads::bands(threads, output, row, LEAST, |first, band| {
        for (at, output) in band.chunks_exact_mut(row).enumerate() {
            let at = first + at;
            let start = at / shape.h * shape.c * plane + at % shape.h * shape.w;
            let row = |c: usize| &values[start + c * plane..][..shape.w];
            vectorised!(match shape.c {
                // A constant number of channels, for faster code.
                3 => {
                    let channels = row(0).iter().zip(row(1)).zip(row(2));
                    for (pixel, ((r, g), b)) in output.as_chunks_mut::<3>().0.iter_mut().zip(channels) {
                        *pixel = [*r, *g, *b];
                    }
                }
                channels => (0..channels).for_each(|c| {
                    let pixels = output[c..].iter_mut().step_by(channels).zip(row(c));
                    pixels.for_each(|(y, x)| *y = *x);
                }),
            });
        }
    });
}

fn to_nchw<T: Copy>(shape: Shape, values: &[T], from: impl Fn(T) -> f32) -> Vec<f32> {
    let plane = shape.h * shape.w;
    let mut output = Vec::with_capacity(values.len());
    for picture in values.chunks_exact(shape.c * plane) {
        for c in 0..shape.c {
            output.extend(picture[c..].iter().step_by(shape.c).map(|value| from(*value)));
        }
    }
    output
}
