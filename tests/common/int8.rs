//! Int8 graphs, and their reference results: the references of kernels, node by node.

use std::sync::Arc;

use goldcrest::{
    Shape, Tensor,
    cpu::{Cpu, Executor},
    graph::{Affine, ConcatAxis, Conv, ConvKind, Graph, NodeId, Op, passes},
    kernels::{Layer, Maps, int8, join_int8, max_pool, pointwise, scale},
};

/// Computes every node's value. The CPU computes the floating-point nodes, one at a time.
pub fn reference(cpu: &Cpu, graph: &Graph, input: &Tensor, taps: bool) -> Vec<Tensor> {
    let shapes = graph.shapes(input.shape().unwrap()).unwrap();
    let mut values: Vec<Tensor> = Vec::new();
    for (id, node) in graph.nodes() {
        let inputs: Vec<Shape> = node.inputs.iter().map(|id| shapes[id.index()]).collect();
        let reads: Vec<Tensor> = node.inputs.iter().map(|id| values[id.index()].clone()).collect();
        let y = shapes[id.index()];
        let layer = Layer { op: &node.op, inputs, y, picture: [0, 0], gated: false, int8: graph.int8(id) };
        let second = reads.get(1);
        values.push(match (&node.op, &layer.int8) {
            (Op::Input(_), _) => quantised(input.clone(), node.quantisation),
            (Op::Concat(_), Some(_)) => join_int8::reference(&layer, &reads),
            (_, Some(_)) => int8::reference(&layer, Maps { x: &reads[0], residual: second, gate: second }),
            (op, None) => quantised(in_f32(cpu, op, &reads, y, taps), node.quantisation),
        });
    }
    values
}

/// Rounds values to the nearest ones that their quantisation represents.
fn quantised(values: Tensor, map: Option<Affine>) -> Tensor {
    let Some(map) = map else { return values };
    Tensor::from_fn(values.dims(), |at| map.value(map.quantise(values.data()[at])))
}

/// Computes one operation in floating point.
fn in_f32(cpu: &Cpu, op: &Op, reads: &[Tensor], y: Shape, taps: bool) -> Tensor {
    let (x, shape) = (&reads[0], reads[0].shape().unwrap());
    let y_dims = <[usize; 4]>::from(y);
    match (op, &reads[1..]) {
        (Op::Concat(ConcatAxis::Channels), _) => {
            let planes = |part: &Tensor, n: usize| {
                let each = part.data().len() / y.n;
                part.data()[n * each..][..each].to_vec()
            };
            let values = (0..y.n).flat_map(|n| reads.iter().flat_map(move |part| planes(part, n)));
            Tensor::new(y_dims, values.collect::<Vec<f32>>()).unwrap()
        }
        (Op::MaxPool(pool), _) => max_pool::reference(*pool, x, y, pool.window(shape.h, shape.w).unwrap()),
        (Op::Scale, [gates]) => scale::reference(x, gates),
        (Op::Conv(conv), [residual]) if conv.kind() == Some(ConvKind::Pointwise) => {
            pointwise::reference(conv, x, y, Some(residual))
        }
        (_, []) => {
            let mut graph = Graph::default();
            let picture = graph.push("input", Op::Input(shape.c), &[]);
            let alone = graph.push("alone", op.clone(), &[picture]);
            graph.add_output("alone", alone);
            let mut executor = Executor::new(cpu, &graph, shape, taps).unwrap();
            let output = executor.run(x).unwrap().remove(0);
            Tensor::new(y_dims, output.into_data()).unwrap()
        }
        (op, _) => panic!("{} with several inputs in floating point", op.name(None)),
    }
}

/// Quantises a convolution's weights to int8. Returns it and the scale of each output, for 127 as its largest
/// weight.
pub fn quantise_weights(conv: &Conv) -> (Conv, Arc<[f32]>) {
    let each = conv.weight.data().len() / conv.outputs();
    let largest = |weights: &[f32]| weights.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
    let scales: Arc<[f32]> =
        conv.weight.data().chunks(each).map(|weights| largest(weights).max(1e-9) / 127.0).collect();
    let weight = Tensor::from_fn(conv.weight.dims(), |i| {
        let scale = scales[i / each];
        (conv.weight.data()[i] / scale).round() * scale
    });
    (Conv { weight: Arc::new(weight), ..conv.clone() }, scales)
}

/// Sets a node's quantisation, and quantises the weights of a convolution.
pub fn make_int8(graph: &mut Graph, id: NodeId, map: Option<Affine>) {
    let node = graph.node_mut(id);
    node.quantisation = map;
    if let Op::Conv(conv) = &node.op {
        let (conv, scales) = quantise_weights(conv);
        (node.op, node.weight_scales) = (Op::Conv(conv), Some(scales));
    }
}

/// An int8 network with floating-point outputs, calibrated on `input`.
pub fn calibrated(cpu: &Cpu, graph: &Graph, input: &Tensor) -> Graph {
    let mut graph = passes::prepared(graph, false);
    let mut executor = Executor::new(cpu, &graph, input.shape().unwrap(), true).unwrap();
    executor.run(input).unwrap();
    let taps = executor.taps().unwrap();
    let range = |values: &[f32]| {
        let (least, most) = values.iter().fold((0.0f32, 0.0f32), |(a, b), v| (a.min(*v), b.max(*v)));
        Affine::over(least, most)
    };
    let nodes: Vec<(NodeId, Affine)> = graph
        .nodes()
        .filter(|(id, _)| !graph.is_output(*id))
        .map(|(id, node)| {
            let tap = taps.iter().find(|(module, _)| module == node.output_name());
            (id, range(tap.map_or(input.data(), |(_, values)| values.data())))
        })
        .collect();
    let outputs: Vec<NodeId> = graph.outputs().iter().map(|(_, id)| *id).collect();
    for (id, map) in nodes {
        make_int8(&mut graph, id, Some(map));
    }
    for id in outputs {
        make_int8(&mut graph, id, None);
    }
    graph
}
