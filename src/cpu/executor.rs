//! A graph on the CPU: one operation after another over slots that lifetimes were assigned to.

use aligned_vec::{AVec, avec};
use web_time::Instant;

use super::{Cpu, connected::Connected, depthwise::Depthwise, pixelwise, product::Product};
use crate::{
    Error, Result, Shape, Tensor,
    graph::{ConvKind, Cost, Graph, MaxPool, Op, Window, passes},
    plan::{Life, Summary, Work, assign},
};

/// A graph for one input shape, ready to run.
pub struct Executor {
    cpu: Cpu,
    steps: Vec<Step>,
    summaries: Vec<Summary>,
    /// Maps of `share` pictures, in the order of the planner's slots.
    slots: Vec<AVec<f32>>,
    /// The whole batch's shape.
    input: Shape,
    /// Pictures that go through the network together: one a thread, more would only fill the cache.
    share: usize,
    source: usize,
    answer: (usize, Shape),
    /// Every layer's output, if they were asked for.
    taps: Vec<Tap>,
}

/// One operation.
struct Step {
    operation: Operation,
    /// Of a picture.
    shape: Shape,
    /// Slots and shapes that it reads.
    reads: Vec<(usize, Shape)>,
    /// The slot that it writes, never one of those that it reads.
    write: usize,
}

/// A layer's output, as its source library has it.
struct Tap {
    module: String,
    slot: usize,
    /// Of a picture.
    shape: Shape,
    /// True if it has no rows and columns there.
    linear: bool,
}

enum Operation {
    Connected(Connected),
    Product(Product),
    Depthwise(Depthwise),
    Mean,
    Largest(MaxPool, Window),
    Scale,
}

impl Operation {
    /// Values of its weights and biases.
    fn weights(&self) -> usize {
        match self {
            Self::Connected(connected) => connected.weights(),
            Self::Product(product) => product.weights(),
            Self::Depthwise(depthwise) => depthwise.weights(),
            Self::Mean | Self::Largest(..) | Self::Scale => 0,
        }
    }

    fn new(op: &Op, x: Shape) -> Result<(Self, &'static str), String> {
        match op {
            Op::Conv(conv) => {
                let window = conv.window(x.h, x.w).ok_or("its window does not fit the map")?;
                match conv.kind() {
                    Some(ConvKind::Depthwise) => {
                        Ok((Self::Depthwise(Depthwise::new(conv, window)), "depthwise"))
                    }
                    Some(ConvKind::Pointwise) if x.h * x.w == 1 => {
                        Ok((Self::Connected(Connected::new(conv)), "connected"))
                    }
                    Some(ConvKind::Pointwise) => Ok((Self::Product(Product::new(conv, window)), "pointwise")),
                    Some(ConvKind::Dense) => Ok((Self::Product(Product::new(conv, window)), "dense")),
                    None => Err(format!("{} groups of channels: 1 or one a channel is known", conv.groups)),
                }
            }
            Op::GlobalPool => Ok((Self::Mean, "pool")),
            Op::MaxPool(pool) => {
                let window = pool.window(x.h, x.w).ok_or("its window does not fit the map")?;
                Ok((Self::Largest(*pool, window), "max_pool"))
            }
            Op::Scale => Ok((Self::Scale, "scale")),
            Op::Input(_) | Op::BatchNorm(_) | Op::Activation(_) | Op::Add => Err(op.alone()),
        }
    }
}

impl Executor {
    /// Packs the weights of `graph` and makes room for its maps. With `taps` every layer's output
    /// stays, and the whole batch goes through together.
    ///
    /// # Errors
    /// [`Error::Layer`] if an input of that shape does not fit the network or nothing computes a
    /// layer, [`Error::Limit`] if there is no room for its maps.
    pub fn new(cpu: &Cpu, graph: &Graph, input: Shape, taps: bool) -> Result<Self> {
        let graph = &passes::optimise(graph);
        let shapes = graph.shapes(Shape { n: 1, ..input })?;
        let all = graph.shapes(input)?;
        let costs = graph.costs(&all);
        let share = if taps { input.n } else { input.n.min(cpu.info.threads) };
        let Some((last, _)) = graph.nodes().next_back() else {
            return Err(Error::Input("the network computes nothing".into()));
        };
        let mut lives: Vec<Life> = graph
            .nodes()
            .map(|(id, _)| {
                let last = if taps || id == last { usize::MAX } else { id.index() };
                Life { bytes: 4 * shapes[id.index()].len() as u64, first: id.index(), last }
            })
            .collect();
        for (id, node) in graph.nodes() {
            for input in &node.inputs {
                lives[input.index()].last = lives[input.index()].last.max(id.index());
            }
        }
        let (slot_of, sizes) = assign(&lives);
        let (mut source, mut tapped) = (None, Vec::new());
        let (mut steps, mut summaries) = (Vec::new(), Vec::new());
        for (id, node) in graph.nodes() {
            let (slot, shape) = (slot_of[id.index()], shapes[id.index()]);
            let Some(first) = node.inputs.first() else {
                source = Some(slot);
                continue;
            };
            let (operation, kernel) = Operation::new(&node.op, shapes[first.index()])
                .map_err(|reason| Error::layer(node.name(), reason))?;
            let (whole, Cost { bytes, macs, .. }) = (all[id.index()], costs[id.index()]);
            summaries.push(Summary {
                layers: node.layers.clone(),
                kernel,
                shape: whole,
                work: Work { bytes, macs },
            });
            steps.push(Step {
                operation,
                shape,
                reads: node.inputs.iter().map(|id| (slot_of[id.index()], shapes[id.index()])).collect(),
                write: slot,
            });
            if taps {
                let linear = matches!(&node.op, Op::Conv(conv) if conv.linear);
                tapped.push(Tap { module: node.output_name().to_string(), slot, shape, linear });
            }
        }
        Ok(Self {
            cpu: cpu.clone(),
            steps,
            summaries,
            slots: rooms(&sizes, share)?,
            input,
            share,
            source: source.ok_or_else(|| Error::Input("the network has no input".into()))?,
            answer: (slot_of[last.index()], shapes[last.index()]),
            taps: tapped,
        })
    }

    /// What runs, in this order.
    pub fn steps(&self) -> &[Summary] {
        &self.summaries
    }

    /// Bytes of the maps and weights.
    pub fn peak_bytes(&self) -> u64 {
        let weights = self.steps.iter().map(|step| step.operation.weights());
        4 * (self.slots.iter().map(|slot| slot.len()).chain(weights).sum::<usize>() as u64)
    }

    /// Runs once: `[N, C, H, W]` of the last layer.
    ///
    /// # Errors
    /// [`Error::Input`] if `input` has another shape.
    pub fn run(&mut self, input: &Tensor) -> Result<Tensor> {
        self.timed(input, |_, _| {})
    }

    /// Runs once and gives the nanoseconds of each step, over the whole batch.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn profile(&mut self, input: &Tensor) -> Result<Vec<f64>> {
        let mut times = vec![0.0; self.steps.len()];
        self.timed(input, |step, seconds| times[step] += 1e9 * seconds)?;
        Ok(times)
    }

    /// Runs once; `clock` hears of each step when it is done, and of its seconds.
    fn timed(&mut self, input: &Tensor, mut clock: impl FnMut(usize, f64) + Send) -> Result<Tensor> {
        let shape = input.shape()?;
        if shape != self.input {
            return Err(Error::Input(format!("has the shape {shape}, planned was {}", self.input)));
        }
        let (slot, answer) = self.answer;
        let mut values = Vec::with_capacity(shape.n * answer.len());
        let Self { cpu, steps, slots, share, source, .. } = self;
        let threads = cpu.info.threads;
        for pictures in input.data().chunks(*share * shape.len() / shape.n) {
            let n = pictures.len() * shape.n / shape.len();
            let picture = Shape { n, ..shape };
            to_nhwc(picture, pictures, &mut slots[*source][..picture.len()]);
            // Once for all steps, so that threads stay awake between them.
            cpu.pool.install(|| {
                for (at, step) in steps.iter().enumerate() {
                    let begun = Instant::now();
                    step.run(slots, n, threads);
                    clock(at, begun.elapsed().as_secs_f64());
                }
            });
            let answer = Shape { n, ..answer };
            values.extend(to_nchw(answer, &slots[slot][..answer.len()]));
        }
        Tensor::new(<[usize; 4]>::from(Shape { n: shape.n, ..answer }), values)
    }

    /// Every layer's output in the last run, under its module's name.
    ///
    /// # Errors
    /// None that would not be a mistake of this crate's.
    pub fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        let tensor = |tap: &Tap| {
            let shape = Shape { n: self.share, ..tap.shape };
            let values = to_nchw(shape, &self.slots[tap.slot][..shape.len()]);
            let dims = <[usize; 4]>::from(shape);
            let dims = if tap.linear { &dims[..2] } else { &dims[..] };
            Ok((tap.module.clone(), Tensor::new(dims, values)?))
        };
        self.taps.iter().map(tensor).collect()
    }
}

impl Step {
    /// Computes `n` pictures.
    fn run(&self, slots: &mut [AVec<f32>], n: usize, threads: usize) {
        // Taken out, since other slots are read meanwhile: no step writes what it reads.
        let mut written = std::mem::replace(&mut slots[self.write], avec![]);
        let y = Shape { n, ..self.shape };
        let output = &mut written[..y.len()];
        let read = |at: usize| {
            let (slot, shape) = self.reads[at];
            let shape = Shape { n, ..shape };
            (shape, &slots[slot][..shape.len()])
        };
        let (x, input) = read(0);
        let residual = (self.reads.len() > 1).then(|| read(1).1);
        match &self.operation {
            Operation::Connected(connected) => connected.run(input, output, residual),
            Operation::Product(product) => product.run(x, input, y, output, residual, threads),
            Operation::Depthwise(depthwise) => depthwise.run(x, input, y, output, residual),
            Operation::Mean => pixelwise::mean(x, input, output),
            Operation::Largest(pool, window) => pixelwise::largest(*pool, *window, x, input, y, output),
            Operation::Scale => pixelwise::scale(x, input, read(1).1, output),
        }
        slots[self.write] = written;
    }
}

/// Slots of so many bytes for each of so many pictures.
fn rooms(sizes: &[u64], pictures: usize) -> Result<Vec<AVec<f32>>> {
    let needed = sizes.iter().sum::<u64>().saturating_mul(pictures as u64);
    let limit = super::available_bytes();
    if needed > limit {
        return Err(Error::Limit { what: "the network's maps".into(), needed, limit });
    }
    Ok(sizes.iter().map(|bytes| avec![0.0; (bytes / 4) as usize * pictures]).collect())
}

fn to_nhwc(shape: Shape, values: &[f32], output: &mut [f32]) {
    let plane = shape.h * shape.w;
    let pictures = values.chunks_exact(shape.c * plane).zip(output.chunks_exact_mut(shape.c * plane));
    for (values, output) in pictures {
        for (at, pixel) in output.chunks_exact_mut(shape.c).enumerate() {
            pixel.iter_mut().zip(values[at..].iter().step_by(plane)).for_each(|(to, from)| *to = *from);
        }
    }
}

fn to_nchw(shape: Shape, values: &[f32]) -> Vec<f32> {
    let plane = shape.h * shape.w;
    let pictures = values.chunks_exact(shape.c * plane);
    let channels = pictures.flat_map(|picture| (0..shape.c).map(move |c| &picture[c..]));
    channels.flat_map(|from| from.iter().step_by(shape.c).copied()).collect()
}
