//! Graphs in 8 bits, and what they compute: plain loops over integers, one node after another.

use std::sync::Arc;

use goldcrest::{
    Shape, Tensor,
    cpu::{Cpu, Executor},
    graph::{Activation, Affine, Conv, Curve, Graph, Joint, MaxPool, NodeId, Op, Rescale, passes},
};

/// A value: integers and what they stand for, or floating point. Laid out as tensors are.
enum Value {
    Integers(Vec<i8>, Affine),
    Floats(Vec<f32>),
}

impl Value {
    fn floats(&self) -> Vec<f32> {
        match self {
            Self::Integers(values, map) => values.iter().map(|q| map.value(*q)).collect(),
            Self::Floats(values) => values.clone(),
        }
    }

    /// How far each integer is from zero, and a step.
    fn steps(&self) -> (Vec<i32>, f64) {
        let Self::Integers(values, map) = self else { panic!("no integers") };
        (values.iter().map(|q| i32::from(*q) - i32::from(map.zero)).collect(), f64::from(map.scale))
    }
}

/// Every node's value. What is computed in floating point is computed by `cpu`, a node at a time.
pub fn reference(cpu: &Cpu, graph: &Graph, input: &Tensor, taps: bool) -> Vec<Tensor> {
    let shapes = graph.shapes(input.shape().unwrap()).unwrap();
    let mut values: Vec<Value> = Vec::new();
    for (id, node) in graph.nodes() {
        let reads: Vec<(&Value, Shape)> =
            node.inputs.iter().map(|id| (&values[id.index()], shapes[id.index()])).collect();
        let y = shapes[id.index()];
        let all_integers = reads.iter().all(|(value, _)| matches!(value, Value::Integers(..)));
        let value = match (&node.op, node.map) {
            (Op::Input(_), _) => quantised(input.data().to_vec(), node.map),
            (Op::Conv(conv), map)
                if node.steps.is_some()
                    && all_integers
                    && (map.is_some() || conv.activation == Activation::Identity) =>
            {
                convolution(conv, node.steps.as_ref().unwrap(), &reads, y, map)
            }
            (Op::GlobalPool, Some(map)) if all_integers => mean(&reads, map),
            (Op::Scale, Some(map)) if all_integers => gated(&reads, map),
            (Op::Concat(joint), Some(map)) if all_integers => {
                let moved: Vec<(Vec<i8>, Shape)> =
                    reads.iter().map(|(value, x)| (rescaled(value, map), *x)).collect();
                Value::Integers(joined(*joint, &moved, y), map)
            }
            (Op::MaxPool(pool), Some(map)) if all_integers => {
                Value::Integers(largest(*pool, &rescaled(reads[0].0, map), reads[0].1, y), map)
            }
            (op, map) => quantised(in_f32(cpu, op, &reads, y, taps), map),
        };
        values.push(value);
    }
    let tensor = |(value, shape): (&Value, &Shape)| {
        Tensor::new(<[usize; 4]>::from(*shape), value.floats()).expect("a value has its shape")
    };
    values.iter().zip(&shapes).map(tensor).collect()
}

fn quantised(values: Vec<f32>, map: Option<Affine>) -> Value {
    match map {
        Some(map) => Value::Integers(values.into_iter().map(|value| map.quantise(value)).collect(), map),
        None => Value::Floats(values),
    }
}

fn convolution(
    conv: &Conv,
    steps: &[f32],
    reads: &[(&Value, Shape)],
    y: Shape,
    map: Option<Affine>,
) -> Value {
    let ((input, scale_x), x) = (reads[0].0.steps(), reads[0].1);
    let window = conv.window(x.h, x.w).unwrap();
    let (inputs, kernel) = (conv.weight.dims()[1], conv.kernel());
    let residual = reads.get(1).map(|(value, _)| value.steps());
    let curve = map.filter(|_| conv.activation.bends()).map(|map| Curve::new(conv.activation, map));
    let (mut integers, mut floats) = (Vec::new(), Vec::new());
    for at in 0..y.len() {
        let (column, row, o, n) = (at % y.w, at / y.w % y.h, at / (y.w * y.h) % y.c, at / (y.w * y.h * y.c));
        let step = f64::from(steps[o]);
        let bias = conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[o]));
        let most = f64::from(1 << 30);
        let mut sum = (bias / (scale_x * step)).round_ties_even().clamp(-most, most) as i32;
        for i in 0..inputs {
            let c = if conv.groups == 1 { i } else { o };
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let row = (row * conv.stride + ky * conv.dilation).checked_sub(window.top);
                    let column = (column * conv.stride + kx * conv.dilation).checked_sub(window.left);
                    let (Some(row), Some(column)) = (row, column) else { continue };
                    if row < x.h && column < x.w {
                        let weight = conv.weight.data()[((o * inputs + i) * kernel + ky) * kernel + kx];
                        let weight = (weight / steps[o]).round().clamp(-127.0, 127.0) as i32;
                        sum += weight * input[((n * x.c + c) * x.h + row) * x.w + column];
                    }
                }
            }
        }
        if let Some((residual, scale_r)) = &residual {
            let most = 1 << 29;
            sum += Rescale::new(scale_r / (scale_x * step)).apply(residual[at]).clamp(-most, most);
        }
        match (map, &curve) {
            (Some(_), Some(curve)) => {
                let rescale = Rescale::new(scale_x * step / f64::from(curve.step));
                integers.push(curve.at(rescale.apply(sum)));
            }
            (Some(map), None) => {
                let rescale = Rescale::new(scale_x * step / f64::from(map.scale));
                let [least, most] = map.limits(conv.activation).map(i64::from);
                let moved = i64::from(rescale.apply(sum)) + i64::from(map.zero);
                integers.push(moved.clamp(least, most) as i8);
            }
            (None, _) => floats.push(sum as f32 * (scale_x as f32 * steps[o])),
        }
    }
    map.map_or(Value::Floats(floats), |map| Value::Integers(integers, map))
}

/// The integer of what is so many steps from zero.
fn moved(rescale: Rescale, steps: i32, map: Affine) -> i8 {
    (i64::from(rescale.apply(steps)) + i64::from(map.zero)).clamp(-128, 127) as i8
}

fn rescaled(value: &Value, map: Affine) -> Vec<i8> {
    let (steps, scale) = value.steps();
    let rescale = Rescale::new(scale / f64::from(map.scale));
    steps.into_iter().map(|steps| moved(rescale, steps, map)).collect()
}

fn mean(reads: &[(&Value, Shape)], map: Affine) -> Value {
    let ((steps, scale), x) = (reads[0].0.steps(), reads[0].1);
    let pixels = x.h * x.w;
    let rescale = Rescale::new(scale / (pixels as f64 * f64::from(map.scale)));
    let means = steps.chunks(pixels).map(|plane| moved(rescale, plane.iter().sum(), map)).collect();
    Value::Integers(means, map)
}

fn gated(reads: &[(&Value, Shape)], map: Affine) -> Value {
    let ((steps, scale_x), x) = (reads[0].0.steps(), reads[0].1);
    let (gates, scale_g) = reads[1].0.steps();
    let rescale = Rescale::new(scale_x * scale_g / f64::from(map.scale));
    let scaled = |(at, steps): (usize, &i32)| moved(rescale, steps * gates[at / (x.h * x.w)], map);
    Value::Integers(steps.iter().enumerate().map(scaled).collect(), map)
}

fn largest<T: Copy + PartialOrd>(pool: MaxPool, input: &[T], x: Shape, y: Shape) -> Vec<T> {
    let window = pool.window(x.h, x.w).unwrap();
    let value = |at: usize| {
        let (column, row, plane) = (at % y.w, at / y.w % y.h, at / (y.w * y.h));
        let mut most = None;
        for ky in 0..pool.kernel {
            for kx in 0..pool.kernel {
                let row = (row * pool.stride + ky).checked_sub(window.top).filter(|at| *at < x.h);
                let column = (column * pool.stride + kx).checked_sub(window.left).filter(|at| *at < x.w);
                let (Some(row), Some(column)) = (row, column) else { continue };
                let value = input[(plane * x.h + row) * x.w + column];
                most = if most.is_none_or(|most| value > most) { Some(value) } else { most };
            }
        }
        most.expect("a window meets its map")
    };
    (0..y.len()).map(value).collect()
}

fn joined<T: Copy>(joint: Joint, inputs: &[(Vec<T>, Shape)], y: Shape) -> Vec<T> {
    let mut output = Vec::new();
    for n in 0..y.n {
        match joint {
            Joint::Channels => {
                for (values, x) in inputs {
                    let picture = x.c * x.h * x.w;
                    output.extend_from_slice(&values[n * picture..][..picture]);
                }
            }
            Joint::Pixels => {
                for c in 0..y.c {
                    for (values, x) in inputs {
                        let plane = x.h * x.w;
                        output.extend_from_slice(&values[(n * x.c + c) * plane..][..plane]);
                    }
                }
            }
        }
    }
    output
}

/// One operation in floating point.
fn in_f32(cpu: &Cpu, op: &Op, reads: &[(&Value, Shape)], y: Shape, taps: bool) -> Vec<f32> {
    let floats: Vec<(Vec<f32>, Shape)> = reads.iter().map(|(value, x)| (value.floats(), *x)).collect();
    let (input, x) = &floats[0];
    match (op, &floats[1..]) {
        (Op::Concat(joint), _) => joined(*joint, &floats, y),
        (Op::MaxPool(pool), _) => largest(*pool, input, *x, y),
        (Op::Scale, [(gates, _)]) => {
            input.iter().enumerate().map(|(at, value)| value * gates[at / (x.h * x.w)]).collect()
        }
        (_, []) => {
            let mut graph = Graph::default();
            let picture = graph.push("input", Op::Input(x.c), &[]);
            let alone = graph.push("alone", op.clone(), &[picture]);
            graph.answer("alone", alone);
            let input = Tensor::new(<[usize; 4]>::from(*x), input.clone()).unwrap();
            let mut executor = Executor::new(cpu, &graph, *x, taps).unwrap();
            executor.run(&input).unwrap().remove(0).data().to_vec()
        }
        (op, _) => panic!("{} of several inputs in floating point", op.name(None)),
    }
}

/// The convolution with weights that are whole steps, 127 of them the largest of an output, and the steps.
pub fn stepped(conv: &Conv) -> (Conv, Arc<[f32]>) {
    let each = conv.weight.data().len() / conv.outputs();
    let largest = |weights: &[f32]| weights.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
    let steps: Arc<[f32]> =
        conv.weight.data().chunks(each).map(|weights| largest(weights).max(1e-9) / 127.0).collect();
    let weight = Tensor::from_fn(conv.weight.dims(), |i| {
        let step = steps[i / each];
        (conv.weight.data()[i] / step).round() * step
    });
    (Conv { weight: Arc::new(weight), ..conv.clone() }, steps)
}

/// Gives a node a map, and a convolution steps.
pub fn in_integers(graph: &mut Graph, id: NodeId, map: Option<Affine>) {
    let node = graph.node_mut(id);
    node.map = map;
    if let Op::Conv(conv) = &node.op {
        let (conv, steps) = stepped(conv);
        (node.op, node.steps) = (Op::Conv(conv), Some(steps));
    }
}

/// A network in 8 bits, but for its answers: the ranges are those of `input`.
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
        .filter(|(id, _)| !graph.is_answer(*id))
        .map(|(id, node)| {
            let tap = taps.iter().find(|(module, _)| module == node.output_name());
            (id, range(tap.map_or(input.data(), |(_, values)| values.data())))
        })
        .collect();
    let answers: Vec<NodeId> = graph.answers().iter().map(|(_, id)| *id).collect();
    for (id, map) in nodes {
        in_integers(&mut graph, id, Some(map));
    }
    for id in answers {
        in_integers(&mut graph, id, None);
    }
    graph
}
