//! A graph on the CPU: one operation after another over slots that lifetimes were assigned to.

use aligned_vec::{AVec, avec};
use web_time::Instant;

use super::{Cpu, boxes, depthwise::Depthwise, pixelwise, product::Product, resize};
use crate::{
    Error, Result, Shape, Tensor,
    graph::{Anchor, ConvKind, Cost, Graph, Joint, MaxPool, Op, Select, Window, passes, too_many_classes},
    plan::{Life, Summary, Work, assign},
    tensor::Element,
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
    /// Slots of the answers, and their shapes of a picture.
    answers: Vec<(usize, Shape)>,
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
    /// Of the whole batch, as the library has them.
    dims: Vec<usize>,
}

enum Operation {
    Product(Product),
    Depthwise(Depthwise),
    Mean,
    Largest(MaxPool, Window),
    Scale,
    Resize,
    Join(Joint),
    Argmax,
    Softmax(usize),
    /// With the picture's rows and columns.
    Boxes(Vec<Anchor>, [usize; 2]),
    Select(Select),
}

impl Operation {
    /// Values of its weights and biases.
    fn weights(&self) -> usize {
        match self {
            Self::Product(product) => product.weights(),
            Self::Depthwise(depthwise) => depthwise.weights(),
            Self::Boxes(anchors, _) => anchors.as_flattened().len(),
            _ => 0,
        }
    }

    /// What computes `op` of inputs of these shapes, for such a picture, and what it is called.
    fn new(op: &Op, inputs: &[Shape], picture: Shape) -> Result<(Self, &'static str), String> {
        let x = inputs[0];
        match op {
            Op::Conv(conv) => {
                let window = conv.window(x.h, x.w).ok_or("its window does not fit the map")?;
                match conv.kind() {
                    Some(ConvKind::Depthwise) => {
                        Ok((Self::Depthwise(Depthwise::new(conv, window)), "depthwise"))
                    }
                    Some(kind) => {
                        let name = match kind {
                            ConvKind::Dense => "dense",
                            _ if x.h * x.w == 1 => "connected",
                            _ => "pointwise",
                        };
                        Ok((Self::Product(Product::new(conv, window)), name))
                    }
                    None => Err(op.alone()),
                }
            }
            Op::GlobalPool => Ok((Self::Mean, "pool")),
            Op::MaxPool(pool) => {
                let window = pool.window(x.h, x.w).ok_or("its window does not fit the map")?;
                Ok((Self::Largest(*pool, window), "max_pool"))
            }
            Op::Scale => Ok((Self::Scale, "scale")),
            Op::Resize(_) => Ok((Self::Resize, "resize")),
            Op::Concat(joint) => Ok((Self::Join(*joint), "concat")),
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
            Op::Input(_) | Op::Filter(_) | Op::BatchNorm(_) | Op::Activation(_) | Op::Add => Err(op.alone()),
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
        let graph = &passes::prepared(graph, taps);
        let shapes = graph.shapes(Shape { n: 1, ..input })?;
        let all = graph.shapes(input)?;
        let costs = graph.costs(&all);
        let share = if taps { input.n } else { input.n.min(cpu.info.threads) };
        let answers = graph.answers();
        let mut lives: Vec<Life> = graph
            .nodes()
            .map(|(id, _)| {
                let kept = taps || graph.is_answer(id);
                let last = if kept { usize::MAX } else { id.index() };
                Life { bytes: 4 * shapes[id.index()].len() as u64, first: id.index(), last }
            })
            .collect();
        for (id, node) in graph.nodes() {
            for input in node.reads() {
                lives[input.index()].last = lives[input.index()].last.max(id.index());
            }
        }
        let (slot_of, sizes) = assign(&lives);
        let (mut source, mut tapped) = (None, Vec::new());
        let (mut steps, mut summaries) = (Vec::new(), Vec::new());
        for (id, node) in graph.nodes() {
            let (slot, shape) = (slot_of[id.index()], shapes[id.index()]);
            if node.inputs.is_empty() {
                source = Some(slot);
                continue;
            }
            let inputs: Vec<Shape> = node.inputs.iter().map(|id| shapes[id.index()]).collect();
            let (operation, kernel) = Operation::new(&node.op, &inputs, input)
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
                reads: node.reads().iter().map(|id| (slot_of[id.index()], shapes[id.index()])).collect(),
                write: slot,
            });
            if taps {
                tapped.push(Tap {
                    module: node.output_name().to_string(),
                    slot,
                    shape,
                    dims: node.dims(whole),
                });
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
            answers: answers.iter().map(|(_, id)| (slot_of[id.index()], shapes[id.index()])).collect(),
            taps: tapped,
        })
    }

    /// What runs, in this order.
    pub fn steps(&self) -> &[Summary] {
        &self.summaries
    }

    /// Bytes of each slot that maps share.
    pub fn slots(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().map(|slot| 4 * slot.len() as u64)
    }

    /// Bytes of the weights, as they are packed.
    pub fn weight_bytes(&self) -> u64 {
        4 * self.steps.iter().map(|step| step.operation.weights()).sum::<usize>() as u64
    }

    /// Bytes of the maps and weights.
    pub fn peak_bytes(&self) -> u64 {
        self.slots().sum::<u64>() + self.weight_bytes()
    }

    /// Runs once: `[N, C, H, W]` of each of the graph's answers.
    ///
    /// # Errors
    /// [`Error::Input`] if `input` has another shape, [`Error::Overflow`] if a sum inside the network is not finite.
    pub fn run(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
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
    fn timed(&mut self, input: &Tensor, mut clock: impl FnMut(usize, f64) + Send) -> Result<Vec<Tensor>> {
        let shape = input.shape()?;
        if shape != self.input {
            return Err(Error::Input(format!("has the shape {shape}, planned was {}", self.input)));
        }
        let Self { cpu, steps, slots, share, source, answers, summaries, .. } = self;
        let room = |(_, answer): &(usize, Shape)| Vec::with_capacity(shape.n * answer.len());
        let mut values: Vec<Vec<f32>> = answers.iter().map(room).collect();
        let threads = cpu.info.threads;
        for pictures in input.data().chunks(*share * shape.len() / shape.n) {
            let n = pictures.len() * shape.n / shape.len();
            let picture = Shape { n, ..shape };
            to_nhwc(picture, pictures, &mut slots[*source][..picture.len()]);
            // Once for all steps, so that threads stay awake between them.
            let overflowed = cpu.pool.install(|| {
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
            for (values, &(slot, answer)) in values.iter_mut().zip(&*answers) {
                let answer = Shape { n, ..answer };
                values.extend(to_nchw(answer, &slots[slot][..answer.len()]));
            }
        }
        let tensor =
            |(values, &(_, answer))| Tensor::new(<[usize; 4]>::from(Shape { n: shape.n, ..answer }), values);
        values.into_iter().zip(&*answers).map(tensor).collect()
    }

    /// Every layer's output in the last run, under its module's name.
    ///
    /// # Errors
    /// None that would not be a mistake of this crate's.
    pub fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        let tensor = |tap: &Tap| {
            let shape = Shape { n: self.share, ..tap.shape };
            let values = to_nchw(shape, &self.slots[tap.slot][..shape.len()]);
            Ok((tap.module.clone(), Tensor::new(tap.dims.clone(), values)?))
        };
        self.taps.iter().map(tensor).collect()
    }
}

impl Step {
    /// Computes `n` pictures; false if a sum is not finite.
    fn run(&self, slots: &mut [AVec<f32>], n: usize, threads: usize) -> bool {
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
        let mut finite = true;
        match &self.operation {
            Operation::Product(product) => finite = product.run(x, input, y, output, residual, threads),
            Operation::Depthwise(depthwise) => finite = depthwise.run(x, input, y, output, residual, threads),
            Operation::Mean => pixelwise::mean(x, input, output),
            Operation::Largest(pool, window) => pixelwise::largest(*pool, *window, x, input, y, output),
            Operation::Scale => pixelwise::scale(x, input, read(1).1, output),
            Operation::Resize => resize::resize(x, input, y, output),
            Operation::Join(joint) => {
                pixelwise::join(*joint, (0..self.reads.len()).map(read), y, output);
            }
            Operation::Argmax => resize::argmax(x, input, y, output),
            Operation::Softmax(classes) => boxes::softmax(*classes, input, y, output),
            Operation::Boxes(anchors, picture) => boxes::decode(anchors, *picture, input, output),
            Operation::Select(select) => boxes::select(*select, x, input, y, output),
        }
        slots[self.write] = written;
        finite
    }
}

/// Slots of so many bytes for each of so many pictures.
fn rooms(sizes: &[u64], pictures: usize) -> Result<Vec<AVec<f32>>> {
    let needed = sizes.iter().sum::<u64>().saturating_mul(pictures as u64);
    let limit = super::available_bytes();
    if needed > limit {
        return Err(Error::Limit { what: "the network's maps".into(), needed, limit });
    }
    let room = |bytes: &u64| {
        let values = (bytes / 4) as usize * pictures;
        let mut room = avec![];
        // What is free may be more than this process may have.
        room.try_reserve_exact(values).map_err(|_| Error::Memory("the network's maps".into()))?;
        room.resize(values, 0.0);
        Ok(room)
    };
    sizes.iter().map(room).collect()
}

fn to_nhwc(shape: Shape, values: &[f32], output: &mut [f32]) {
    let plane = shape.h * shape.w;
    let pictures = values.chunks_exact(shape.c * plane).zip(output.chunks_exact_mut(shape.c * plane));
    for (values, output) in pictures {
        // Of pictures whose channels' number the compiler knows.
        if let (3, (pixels, [])) = (shape.c, output.as_chunks_mut::<3>()) {
            let (red, rest) = values.split_at(plane);
            let (green, blue) = rest.split_at(plane);
            for (((pixel, r), g), b) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
                *pixel = [*r, *g, *b];
            }
            continue;
        }
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
