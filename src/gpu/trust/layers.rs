//! Cases for all single-layer kernels that the planner may choose.

use std::sync::Arc;

use super::{Case, convolution, on_device, output};
use crate::{
    Error, Result, Shape, Tensor,
    graph::{Activation, Anchors, Extent, MaxPool, Op, Select},
    kernels::{LAYERS, Layer, LayerKernel, Machine, Maps, Tile, boxes, pack_bias},
    tensor::Element,
};

/// A layer with its inputs.
struct Sample {
    op: Op,
    inputs: Vec<Shape>,
    y: Shape,
    x: Tensor,
    residual: Option<Tensor>,
    gate: Option<Tensor>,
}

/// The height and width of the picture that boxes refer to.
const PICTURE: [usize; 2] = [90, 130];

impl Sample {
    /// A layer with the single input `x`.
    fn plain(op: Op, y: Shape, x: Tensor) -> Result<Self> {
        Ok(Self { op, inputs: vec![x.shape()?], y, x, residual: None, gate: None })
    }

    fn layer(&self) -> Layer<'_> {
        let inputs = self.inputs.clone();
        let gated = self.gate.is_some() && !matches!(self.op, Op::Scale);
        Layer { op: &self.op, inputs, y: self.y, picture: PICTURE, gated, int8: None }
    }

    fn case(&self, kernel: &dyn LayerKernel, machine: &Machine, tile: Tile) -> Result<Case> {
        let layer = self.layer();
        let maps = Maps { x: &self.x, residual: self.residual.as_ref(), gate: self.gate.as_ref() };
        let launch = kernel.launch(&layer, machine, tile);
        let map = |map: Option<&Tensor>| {
            // For inputs that the specialised kernel does not read, any map will do.
            let map = map.unwrap_or(&self.x);
            Ok(on_device(map, map.shape()?))
        };
        let read = |name: &&str| match (*name, &self.op) {
            ("residual", _) => map(maps.residual),
            ("gate", _) => map(maps.gate),
            ("weight", Op::Conv(conv)) => Ok(kernel.packing(machine).map_or_else(Vec::new, |p| p.of(conv))),
            ("bias", Op::Conv(conv)) => Ok(pack_bias(conv)),
            ("anchor", _) => Ok(boxes::anchors(&layer).into_flattened()),
            _ => map(None),
        };
        let reads = launch.shader.reads.iter().map(read).collect::<Result<_>>()?;
        Ok(Case { expected: kernel.reference(&layer, maps), launch, reads })
    }
}

/// Cases for every layer kernel that the machine supports: one with the middle one of its tiles, one with a tile of
/// another split-K factor, and one with f16 accumulators, as far as there are such tiles.
pub fn cases(machine: &Machine) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for sample in samples()? {
        for kernel in LAYERS {
            let tiles = kernel.tiles(&sample.layer(), machine);
            let middle = tiles.get(tiles.len() / 2);
            let split = tiles.iter().find(|tile| middle.is_some_and(|middle| tile.split != middle.split));
            let half = tiles.iter().find(|tile| tile.arithmetic == Element::F16);
            for &tile in middle.into_iter().chain(split).chain(half) {
                cases.push(sample.case(kernel, machine, tile)?);
            }
        }
    }
    Ok(cases)
}

/// A product with gate and residual, with the largest of the kernel's tiles.
pub fn product(kernel: &dyn LayerKernel, machine: &Machine) -> Result<Case> {
    let sample = gated()?;
    let tile = kernel.tiles(&sample.layer(), machine).first().copied();
    sample.case(kernel, machine, tile.ok_or_else(|| Error::Device("the kernel has no tile".into()))?)
}

/// Layers of odd shapes for every kind of operation, and a product with gate and residual.
fn samples() -> Result<Vec<Sample>> {
    let x = Shape::new(2, 21, 9, 13);
    let picture = Tensor::wave(x, 0.37);
    let mut samples = vec![gated()?];
    for conv in [
        convolution(x.c, 30, 1, 1, 1, Activation::HardSwish),
        convolution(x.c, x.c, x.c, 5, 2, Activation::Relu6),
        convolution(x.c, 17, 1, 3, 2, Activation::HardSigmoid),
    ] {
        let y = output(&conv, x)?;
        samples.push(Sample::plain(Op::Conv(conv), y, picture.clone())?);
    }
    let pool = MaxPool { kernel: 3, stride: 2 };
    let window = pool.window(x.h, x.w).ok_or_else(|| Error::Device("the window does not fit".into()))?;
    let pooled = Shape { h: window.height, w: window.width, ..x };
    let (gates, resized) = (Shape { h: 1, w: 1, ..x }, Shape { h: 20, w: 10, ..x });
    samples.extend([
        Sample::plain(Op::MaxPool(pool), pooled, picture.clone())?,
        Sample::plain(Op::GlobalPool, gates, picture.clone())?,
        Sample::plain(Op::Resize(Extent::Exact([20, 10])), resized, picture.clone())?,
        // Three anchors per pixel.
        Sample::plain(Op::Softmax(7), Shape::new(x.n, 3 * x.h * x.w, 1, 7), picture.clone())?,
        Sample {
            op: Op::Scale,
            inputs: vec![x, gates],
            y: x,
            x: picture,
            residual: None,
            gate: Some(Tensor::wave(gates, 1.3)),
        },
        argmax()?,
        decoded(),
        selected()?,
    ]);
    Ok(samples)
}

fn gated() -> Result<Sample> {
    let x = Shape::new(2, 70, 9, 13);
    let conv = convolution(x.c, 90, 1, 1, 1, Activation::HardSwish);
    let y = output(&conv, x)?;
    let gate = Tensor::wave(Shape { h: 1, w: 1, ..x }, 1.3);
    Ok(Sample {
        op: Op::Conv(conv),
        inputs: vec![x, y],
        y,
        x: Tensor::wave(x, 0.37),
        residual: Some(Tensor::wave(y, 0.19)),
        gate: Some(Tensor::from_fn(gate.dims(), |i| gate.data()[i].abs())),
    })
}

/// Integers with many ties, and sizes at which resizing does not round, so that the result is unambiguous.
fn argmax() -> Result<Sample> {
    let x = Shape::new(2, 21, 8, 4);
    let values = Tensor::wave(x, 0.37);
    let values = Tensor::from_fn(values.dims(), |i| (values.data()[i] * 9.0).round());
    Sample::plain(Op::Argmax(Extent::Exact([16, 2])), Shape { c: 1, h: 16, w: 2, ..x }, values)
}

/// Six anchors per pixel on two levels; some boxes extend beyond the picture.
fn decoded() -> Sample {
    let anchors = Anchors { scales: vec![0.2, 0.6, 0.95], ratios: vec![2.0, 3.0] };
    let levels = [Shape::new(2, 8, 3, 4), Shape::new(2, 8, 2, 2)];
    let pixels = levels.iter().map(|level| level.h * level.w).sum();
    let x = Shape::new(2, 4 * anchors.each(), 1, pixels);
    Sample {
        y: Shape::new(x.n, 4, 1, pixels * anchors.each()),
        op: Op::Boxes(Arc::new(anchors)),
        inputs: [x].into_iter().chain(levels).collect(),
        x: Tensor::wave(x, 0.37),
        residual: None,
        gate: None,
    }
}

/// The twenty best scores of each of four classes, with ties at the cutoff.
fn selected() -> Result<Sample> {
    let (x, most) = (Shape::new(2, 300, 1, 5), 20);
    let scores = Tensor::wave(x, 0.37);
    let scores = Tensor::from_fn(scores.dims(), |i| (scores.data()[i] * 9.0).round() / 9.0);
    let y = Shape::new(x.n, 4, x.w - 1, most / 2);
    Sample::plain(Op::Select(Select { threshold: 0.25, most }), y, scores)
}
