//! Checks of the integer kernels: in a network with one layer of each kind, every layer is compared with its
//! reference over the preceding layers' outputs, and a fused block with the references of its layers.

use std::sync::Arc;

use super::{Check, convolution};
use crate::{
    Error, Result, Shape, Tensor,
    gpu::{Executor, Gpu},
    graph::{Activation, Affine, ConcatAxis, Conv, Extent, Graph, MaxPool, Node, NodeId, Op},
    kernels::{Layer, Maps, block_int8, dequantise, int8, join_int8, product_int8, quantise, resize},
    plan::{Fuse, Options, Plan},
    tensor::{Element, distance},
};

/// The weight scale.
const STEP: f32 = 1.0 / 128.0;

/// The shape of the picture.
const PICTURE: Shape = Shape::new(2, 3, 13, 17);

/// Checks every integer kernel.
#[cfg(not(target_arch = "wasm32"))]
pub fn checks(gpu: &Gpu, element: Element) -> Result<Vec<Check>> {
    let graph = graph();
    let plan =
        Plan::new(&graph, PICTURE, gpu.machine(element), &Options { taps: true, ..Options::default() })?;
    let picture = picture();
    let mut executor = pollster::block_on(Executor::new(gpu, &plan, |_, _| {}))?;
    executor.run(&picture)?;
    let taps = executor.taps()?;
    let found = |id: NodeId| {
        let module = graph.node(id).output_name();
        let tap = taps.iter().find(|(name, _)| name == module);
        tap.map(|(_, value)| value).ok_or_else(|| Error::Device(format!("{module} was not computed")))
    };
    let shapes = graph.shapes(PICTURE)?;
    let mut checks = Vec::new();
    for (id, node) in graph.nodes() {
        let values: Vec<Tensor> = node
            .inputs
            .iter()
            .map(|&id| match (&graph.node(id).op, graph.node(id).quantisation) {
                // The quantised picture, which the first layer reads, has no tap.
                (Op::Input(_), Some(map)) => Ok(quantised(&picture, map)),
                _ => found(id).map(|value| as_map(value, shapes[id.index()])),
            })
            .collect::<Result<_>>()?;
        let Some(expected) = expected(&graph, id, node, &shapes, &values) else { continue };
        let error = distance(&as_map(found(id)?, shapes[id.index()]), &expected);
        let steps = plan.steps.iter().filter(|step| step.layers == node.layers);
        checks.extend(steps.map(|step| Check { kernel: step.launch.shader.name, element, error }));
    }
    // Conversions are not layers: their errors are those of the kernels that read them.
    let error_of = |kernel: &str| {
        checks.iter().find(|check| check.kernel == kernel).map_or(f64::NAN, |check| check.error)
    };
    let readers = [
        (quantise::SHADER.name, error_of(product_int8::SHADER.name)),
        (dequantise::SHADER.name, error_of(resize::SHADER.name)),
    ];
    checks.extend(readers.map(|(kernel, error)| Check { kernel, element, error }));
    for fuse in [Fuse::Pair, Fuse::Block] {
        checks.extend(block_check(gpu, element, fuse)?);
    }
    Ok(checks)
}

/// Checks the block kernel, if the device has room for it.
#[cfg(not(target_arch = "wasm32"))]
fn block_check(gpu: &Gpu, element: Element, fuse: Fuse) -> Result<Option<Check>> {
    let graph = blocks();
    let options = Options { fuse, ..Options::default() };
    let plan = Plan::new(&graph, PICTURE, gpu.machine(element), &options)?;
    let kernel = block_int8::SHADER.name;
    if !plan.steps.iter().any(|step| step.launch.shader.name == kernel) {
        return Ok(None);
    }
    let picture = picture();
    let found = pollster::block_on(Executor::new(gpu, &plan, |_, _| {}))?.run(&picture)?;
    let shapes = graph.shapes(PICTURE)?;
    let mut values: Vec<Tensor> = Vec::new();
    for (id, node) in graph.nodes() {
        let reads: Vec<Tensor> = node.inputs.iter().map(|id| values[id.index()].clone()).collect();
        let value = match (&node.op, node.quantisation) {
            (Op::Input(_), Some(map)) => Some(quantised(&picture, map)),
            _ => expected(&graph, id, node, &shapes, &reads),
        };
        values.extend(value);
    }
    let expected = values.last().zip(found.first());
    Ok(expected.map(|(expected, found)| Check { kernel, element, error: distance(found, expected) }))
}

/// Multiples of 1/64, which f16 represents exactly; many lie between two quantised values.
fn picture() -> Tensor {
    let wave = Tensor::wave(PICTURE, 0.37);
    Tensor::from_fn(wave.dims(), |at| (wave.data()[at] * 64.0).round() / 64.0)
}

fn quantised(values: &Tensor, map: Affine) -> Tensor {
    Tensor::from_fn(values.dims(), |at| map.value(map.quantise(values.data()[at])))
}

/// A vector, reshaped to a map.
fn as_map(value: &Tensor, shape: Shape) -> Tensor {
    Tensor::from_fn(<[usize; 4]>::from(shape), |at| value.data()[at])
}

/// The reference output of a node for these inputs.
fn expected(graph: &Graph, id: NodeId, node: &Node, shapes: &[Shape], values: &[Tensor]) -> Option<Tensor> {
    let y = shapes[id.index()];
    let x = values.first()?;
    let layer = Layer {
        op: &node.op,
        inputs: node.inputs.iter().map(|id| shapes[id.index()]).collect(),
        y,
        picture: [PICTURE.h, PICTURE.w],
        gated: false,
        int8: graph.int8(id),
    };
    let second = values.get(1);
    Some(match &node.op {
        Op::Resize(_) => resize::reference(x, y),
        Op::Concat(_) => join_int8::reference(&layer, values),
        _ => int8::reference(&layer, Maps { x, residual: second, gate: second }),
    })
}

/// A network with one layer of each kind, and with every kind of epilogue: clamp, table, residual, floating point.
fn graph() -> Graph {
    let mut graph = Graph::default();
    let picture = graph.push("picture", Op::Input(PICTURE.c), &[]);
    let stem = graph.push("stem", conv(3, 20, 1, 3, 2, Activation::HardSwish), &[picture]);
    let depthwise = graph.push("depthwise", conv(20, 20, 20, 5, 1, Activation::Relu6), &[stem]);
    let mean = graph.push("mean", Op::GlobalPool, &[depthwise]);
    let gate = graph.push("gate", conv(20, 20, 1, 1, 1, Activation::HardSigmoid), &[mean]);
    let scaled = graph.push("scaled", Op::Scale, &[depthwise, gate]);
    let project = graph.push("project", conv(20, 20, 1, 1, 1, Activation::Identity), &[scaled, stem]);
    let largest = graph.push("largest", Op::MaxPool(MaxPool { kernel: 3, stride: 1 }), &[project]);
    let joined = graph.push("joined", Op::Concat(ConcatAxis::Channels), &[largest, stem]);
    let resized = graph.push("resized", Op::Resize(Extent::Exact([9, 8])), &[joined]);
    let logits = graph.push("logits", conv(40, 7, 1, 1, 1, Activation::Identity), &[joined]);
    quantise_maps(&mut graph, &[picture, stem, depthwise, mean, gate, scaled, project, largest, joined]);
    quantise_weights(&mut graph, &[stem, depthwise, gate, project, logits]);
    graph.add_output("resized", resized);
    graph.add_output("logits", logits);
    graph
}

/// Two inverted residuals with clamps and tables, after a stem.
#[cfg(not(target_arch = "wasm32"))]
fn blocks() -> Graph {
    let mut graph = Graph::default();
    let picture = graph.push("picture", Op::Input(PICTURE.c), &[]);
    let stem = graph.push("stem", conv(PICTURE.c, 16, 1, 3, 1, Activation::HardSwish), &[picture]);
    let mut layers = vec![stem];
    let mut last = stem;
    for (stride, kernel, outputs) in [(1, 3, 16), (2, 5, 11)] {
        let expand = graph.push("expand", conv(16, 38, 1, 1, 1, Activation::HardSwish), &[last]);
        let depthwise =
            graph.push("depthwise", conv(38, 38, 38, kernel, stride, Activation::Relu6), &[expand]);
        let reads = [depthwise, last];
        let ends = conv(38, outputs, 1, 1, 1, Activation::Identity);
        last = graph.push("project", ends, &reads[..if stride == 1 { 2 } else { 1 }]);
        layers.extend([expand, depthwise, last]);
    }
    quantise_weights(&mut graph, &layers);
    quantise_maps(&mut graph, &[&[picture], &layers[..]].concat());
    graph
}

/// A convolution with weights that int8 represents.
fn conv(
    inputs: usize,
    outputs: usize,
    groups: usize,
    kernel: usize,
    stride: usize,
    activation: Activation,
) -> Op {
    let conv = convolution(inputs, outputs, groups, kernel, stride, activation);
    let weight = Tensor::from_fn(conv.weight.dims(), |at| (conv.weight.data()[at] / STEP).round() * STEP);
    Op::Conv(Conv { weight: Arc::new(weight), ..conv })
}

fn quantise_maps(graph: &mut Graph, ids: &[NodeId]) {
    for (at, id) in ids.iter().enumerate() {
        graph.node_mut(*id).quantisation = Some(Affine::over(-1.0 - 0.1 * at as f32, 1.5));
    }
}

fn quantise_weights(graph: &mut Graph, ids: &[NodeId]) {
    for id in ids {
        let node = graph.node_mut(*id);
        if let Op::Conv(conv) = &node.op {
            node.weight_scales = Some(vec![STEP; conv.outputs()].into());
        }
    }
}
