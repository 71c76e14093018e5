//! Checks of an adapter: since drivers have bugs, every kernel is compared with its reference.

mod integers;
mod layers;
mod textures;

use std::sync::Arc;

use serde::Serialize;
use web_time::Instant;

use super::{Gpu, pace::Pace};
use crate::{
    Error, Result, Shape, Tensor,
    graph::{Activation, Conv, Padding, Window},
    kernels::{
        self, Launch, Machine, MatrixUnits, argmax, block, broadcast, copy, depthwise, exchange,
        gate::{self, Gate},
        mask, matrix, multiply_add, pointwise, pointwise_pool, pool,
        rank::{self, BoxInstance},
        reduce,
        suppress::{self, Suppression},
    },
    tensor::{Element, Form, distance, layout},
};

/// The result of checking an adapter.
#[derive(Debug, Clone, Serialize)]
pub struct Trust {
    /// The results of the kernels.
    pub checks: Vec<Check>,
    /// True if rounding explains all errors.
    pub trusted: bool,
    /// The duration in seconds, compilation included.
    pub seconds: f64,
}

/// The result of checking one kernel.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The kernel.
    pub kernel: &'static str,
    /// The element type of its maps and weights.
    pub element: Element,
    /// The relative error, ||out - reference|| / ||reference||.
    pub error: f64,
}

impl Check {
    /// Returns whether rounding explains the error; false for NaN.
    pub fn passed(&self) -> bool {
        self.error <= tolerance(self.element)
    }
}

/// The largest relative error that rounding explains.
fn tolerance(element: Element) -> f64 {
    match element {
        Element::F32 => 1e-5,
        // Inputs, weights and the block kernel's two intermediate maps have 11 bits.
        Element::F16 => 2e-3,
    }
}

/// Runs every kernel that the device supports, in f32 and, if available, in f16, and compares the results
/// with those of its reference. Most of the maps have odd sizes.
///
/// # Errors
/// [`Error::Device`] if the device rejects a kernel or is lost.
pub fn check(gpu: &Gpu) -> Result<Trust> {
    let start = Instant::now();
    let mut checks = Vec::new();
    for element in gpu.elements() {
        let machine = gpu.machine(element);
        let mut all = layers::cases(&machine)?;
        all.extend(cases(&machine)?);
        // Most of the time is compilation, which takes all cores.
        let launches: Vec<&Launch> = all.iter().map(|case| &case.launch).collect();
        pollster::block_on(gpu.pipelines(&launches, element, Pace::Blocking, &mut |_, _| {}))?;
        for case in &all {
            checks.push(case.check(gpu, element)?);
        }
        checks.extend(integers::checks(gpu, element)?);
        checks.extend(textures::checks(gpu, element)?);
    }
    let trusted = checks.iter().all(Check::passed);
    Ok(Trust { checks, trusted, seconds: start.elapsed().as_secs_f64() })
}

/// Returns whether the device's matrix units compute correctly.
pub(super) fn matrices(gpu: &Gpu, units: MatrixUnits, element: Element) -> Result<bool> {
    let machine = Machine { matrices: Some(units), element, ..Machine::default() };
    Ok(layers::product(&matrix::Matrix, &machine)?.check(gpu, element)?.passed())
}

struct Case {
    launch: Launch,
    reads: Vec<Vec<f32>>,
    expected: Tensor,
}

impl Case {
    fn check(&self, gpu: &Gpu, element: Element) -> Result<Check> {
        let reads: Vec<&[f32]> = self.reads.iter().map(Vec::as_slice).collect();
        let shape = self.expected.shape()?;
        // The output, and for the block kernel the tile sums, which it does not write here.
        let lens = &[layout::len(shape), 4][..self.launch.shader.writes.len()];
        let out = gpu.dispatch(&self.launch, element, &reads, lens)?;
        let kernel = self.launch.shader.name;
        let found = if [argmax::SHADER.name, mask::SHADER.name].contains(&kernel) {
            Form::Labels.tensor(shape, bytemuck::cast_slice(&out[0]))
        } else if kernel == rank::SHADER.name {
            numbers(bytemuck::cast_slice(&out[0]))
        } else {
            layout::from_device(shape, &out[0])
        };
        Ok(Check { kernel, element, error: distance(&found, &self.expected) })
    }
}

/// A case for every kernel that fuses layers, presents results, or probes the device.
fn cases(machine: &Machine) -> Result<Vec<Case>> {
    let x = Shape::new(2, 21, 9, 13);
    let picture = Tensor::wave(x, 0.37);
    let mut cases = vec![
        Case {
            launch: copy::launch(x),
            reads: vec![on_device(&picture, x)],
            expected: copy::reference(&picture),
        },
        Case {
            launch: multiply_add::launch(x, 3, Element::F32),
            reads: vec![on_device(&picture, x)],
            expected: multiply_add::reference(&picture, 3),
        },
        exchange_case(),
        pooled_case(&picture, x)?,
        block_case(&picture, x)?,
        reduce_case(x),
        mask_case(),
    ];
    cases.extend(gate_cases(&picture, x, machine));
    cases.extend(box_cases());
    cases.extend(machine.subgroup.map(|_| broadcast_case()));
    Ok(cases)
}

/// Workgroup memory, with a partly filled last workgroup.
fn exchange_case() -> Case {
    let x = Shape::new(2, 4, 9, 13);
    let values = Tensor::wave(x, 0.37);
    Case {
        launch: exchange::launch(x, 3),
        reads: vec![on_device(&values, x)],
        expected: exchange::reference(&values, 3),
    }
}

/// Subgroup broadcasts over equal pixels, so that the order of lanes does not matter.
fn broadcast_case() -> Case {
    let x = Shape::new(2, 4, 9, 13);
    let values = Tensor::from_fn(<[usize; 4]>::from(x), |at| [0.3, -0.7, 1.1, 0.0][at / (x.h * x.w) % 4]);
    Case {
        launch: broadcast::launch(x, 3),
        reads: vec![on_device(&values, x)],
        expected: broadcast::reference(&values, 3),
    }
}

/// A fused head.
fn pooled_case(picture: &Tensor, x: Shape) -> Result<Case> {
    let conv = convolution(x.c, 30, 1, 1, 1, Activation::HardSwish);
    let y = output(&conv, x)?;
    Ok(Case {
        launch: pointwise_pool::launch(
            &conv,
            x,
            y,
            pointwise_pool::Tile { pixels: 4, workgroup_o: 8, depth: 4 },
        ),
        reads: vec![on_device(picture, x), pointwise::pack(&conv), kernels::pack_bias(&conv)],
        expected: pointwise_pool::reference(&conv, picture, y),
    })
}

/// A fused inverted residual.
fn block_case(picture: &Tensor, x: Shape) -> Result<Case> {
    let convs = [
        convolution(x.c, 36, 1, 1, 1, Activation::HardSwish),
        convolution(36, 36, 36, 3, 1, Activation::Relu6),
        convolution(36, x.c, 1, 1, 1, Activation::Identity),
    ];
    let [expand, depthwise, project] = &convs;
    let middle = Shape { c: 36, ..x };
    let window = window_of(depthwise, x)?;
    let expanded = pointwise::reference(expand, picture, middle, None);
    let filtered = depthwise::reference(depthwise, &expanded, middle, window, None);
    let convs = block::Convs { expand: Some(expand), depthwise, project: Some(project) };
    let shapes = block::Shapes { x, middle, y: x, window };
    let tile = block::Tile { height: 4, width: 4, chunk: 4, run: 2, threads: 64, splits: 1, staged: true };
    let input = on_device(picture, x);
    Ok(Case {
        launch: block::launch(convs, shapes, true, false, tile),
        reads: vec![
            input.clone(),
            depthwise::pack(depthwise),
            block::pack_products(convs),
            block::pack_bias(convs),
            input,
        ],
        expected: pointwise::reference(project, &filtered, x, Some(picture)),
    })
}

/// Squeeze-excite's gate over a map of one tile, and its first layer alone.
fn gate_cases(picture: &Tensor, x: Shape, machine: &Machine) -> [Case; 2] {
    let squeeze = convolution(x.c, 30, 1, 1, 1, Activation::Relu);
    let widen = convolution(30, x.c, 1, 1, 1, Activation::HardSigmoid);
    let pixels = (x.h * x.w) as f32;
    let sums = pool::reference(picture);
    let sums = Tensor::from_fn(sums.dims(), |i| sums.data()[i] * pixels);
    [Some(&widen), None].map(|widen| Case {
        launch: Gate { squeeze: &squeeze, widen, map: x, tiles: 1 }.launch(machine),
        reads: vec![
            on_device(&sums, Shape { h: 1, w: 1, ..x }),
            pointwise::pack(&squeeze),
            pointwise::pack(widen.unwrap_or(&squeeze)),
            [Some(&squeeze), widen].into_iter().flatten().flat_map(kernels::pack_bias).collect(),
        ],
        expected: gate::reference(&squeeze, widen, picture),
    })
}

/// The sum of three partial sums of a projection.
fn reduce_case(y: Shape) -> Case {
    let conv = convolution(4, y.c, 1, 1, 1, Activation::Relu6);
    let parts = Shape { n: 3 * y.n, ..y };
    let values = Tensor::wave(parts, 0.53);
    let residual = Tensor::wave(y, 0.19);
    Case {
        launch: reduce::launch(&conv, y, 3, true),
        reads: vec![on_device(&values, parts), kernels::pack_bias(&conv), on_device(&residual, y)],
        expected: reduce::reference(&conv, &values, y, Some(&residual)),
    }
}

/// A map shrunk in height and stretched in width, with rows of the same length as label maps have.
fn mask_case() -> Case {
    let x = Shape::new(1, 1, 9, 13);
    let y = Shape { h: 7, w: 256, ..x };
    let class = |at: usize| (at * at % 251) as u8;
    let classes: Vec<u8> = (0..x.len()).map(class).collect();
    let seen = mask::reference(&classes, x, [y.h, y.w]);
    Case {
        launch: mask::launch(x, [y.h, y.w]),
        reads: vec![mask::pack(&classes, x.w)],
        expected: Tensor::from_fn(<[usize; 4]>::from(y), |at| f32::from(seen[at])),
    }
}

/// Overlapping boxes, many with equal scores: suppression and ranking.
fn box_cases() -> [Case; 2] {
    let (classes, pairs, anchors) = (5, 40, 97);
    let x = Shape::new(1, 4, classes, pairs);
    let candidates = Tensor::from_fn(<[usize; 4]>::from(x), |at| {
        let (channel, slot) = (at / (classes * pairs), at % (classes * pairs));
        match channel % 2 {
            0 => ((slot * 7919 + channel * 31) % 17) as f32 / 17.0,
            _ => ((slot * 53 + channel * 13) % anchors) as f32,
        }
    });
    let all = Shape::new(1, 4, 1, anchors);
    let boxes = Tensor::from_fn(<[usize; 4]>::from(all), |at| {
        let (side, anchor) = (at / anchors, at % anchors);
        let first = (anchor * [37, 61][side % 2] % 50) as f32;
        if side < 2 { first } else { first + (anchor * 17 % 40) as f32 }
    });
    let suppression = Suppression { min_score: 0.2, overlap: 0.4, most: 60 };
    let stay = suppress::reference(&candidates, &boxes, suppression);
    let most = 30;
    let found = rank::reference(&stay, &boxes, [100, 100], most);
    let corners = on_device(&boxes, all);
    [
        Case {
            launch: suppress::launch(x, anchors, suppression),
            reads: vec![on_device(&candidates, x), corners.clone()],
            expected: stay.clone(),
        },
        Case {
            launch: rank::launch(x, [100, 100], most, 4),
            reads: vec![on_device(&stay, x), corners],
            expected: numbers(&found),
        },
    ]
}

/// Instances as comparable numbers, eight each.
fn numbers(found: &[BoxInstance]) -> Tensor {
    let each =
        |f: &BoxInstance| [f.bounds.as_slice(), &[f.score, f.class as f32, f.anchor as f32, 0.0]].concat();
    let numbers: Vec<f32> = found.iter().flat_map(each).collect();
    Tensor::from_fn([1, 8, 1, found.len()], |at| numbers[at])
}

fn convolution(
    inputs: usize,
    outputs: usize,
    groups: usize,
    kernel: usize,
    stride: usize,
    activation: Activation,
) -> Conv {
    Conv {
        weight: Arc::new(Tensor::wave(Shape::new(outputs, inputs / groups, kernel, kernel), 0.71)),
        bias: Some(Arc::new(Tensor::from_fn([outputs], |i| (i as f32 * 0.9).cos()))),
        stride,
        dilation: 1,
        padding: if stride == 2 { Padding::Same } else { Padding::Symmetric },
        groups,
        activation,
        linear: false,
    }
}

fn window_of(conv: &Conv, x: Shape) -> Result<Window> {
    conv.window(x.h, x.w).ok_or_else(|| Error::Device("the window does not fit".into()))
}

fn output(conv: &Conv, x: Shape) -> Result<Shape> {
    let window = window_of(conv, x)?;
    Ok(Shape::new(x.n, conv.outputs(), window.height, window.width))
}

fn on_device(tensor: &Tensor, shape: Shape) -> Vec<f32> {
    let mut values = vec![0.0; layout::len(shape)];
    layout::to_device(tensor, shape, &mut values);
    values
}
