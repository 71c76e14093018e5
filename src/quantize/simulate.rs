//! A graph in 8 bits as it would be computed in integers, in floating point: each value is rounded to what its integers
//! stand for. It has the executor's face.

use crate::{
    Result, Shape, Tensor,
    cpu::{Cpu, Executor},
    graph::{Activation, Conv, Extent, Graph, Joint, NodeId, Op, passes},
};

/// A graph for one picture, ready to run.
pub(super) enum Runner {
    /// Nothing has to be rounded.
    Exact(Box<Executor>),
    Rounded {
        graph: Graph,
        shapes: Vec<Shape>,
        parts: Vec<Option<Executor>>,
        values: Vec<Tensor>,
    },
}

impl Runner {
    /// As [`Executor::new`].
    pub fn new(cpu: &Cpu, graph: &Graph, input: Shape, taps: bool) -> Result<Self> {
        if graph.nodes().all(|(_, node)| node.map.is_none()) {
            return Ok(Self::Exact(Box::new(Executor::new(cpu, graph, input, taps)?)));
        }
        let graph = passes::prune(graph);
        let shapes = graph.shapes(input)?;
        let part = |(id, node): (NodeId, &crate::graph::Node)| {
            let op = match &node.op {
                Op::Conv(conv) => Op::Conv(Conv { activation: Activation::Identity, ..conv.clone() }),
                Op::Resize(_) => {
                    let Shape { h, w, .. } = shapes[id.index()];
                    Op::Resize(Extent::Exact([h, w]))
                }
                Op::GlobalPool | Op::MaxPool(_) => node.op.clone(),
                _ => return Ok(None),
            };
            let x = shapes[node.inputs[0].index()];
            let mut alone = Graph::default();
            let source = alone.push("input", Op::Input(x.c), &[]);
            alone.push(node.name(), op, &[source]);
            Executor::new(cpu, &alone, x, false).map(Some)
        };
        let parts = graph.nodes().map(part).collect::<Result<_>>()?;
        Ok(Self::Rounded { graph, shapes, parts, values: Vec::new() })
    }

    /// As [`Executor::run`].
    pub fn run(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        let (graph, shapes, parts, values) = match self {
            Self::Exact(executor) => return executor.run(input),
            Self::Rounded { graph, shapes, parts, values } => (graph, shapes, parts, values),
        };
        values.clear();
        for (id, node) in graph.nodes() {
            let of = |at: usize| &values[node.inputs[at].index()];
            let shape = shapes[id.index()];
            let mut value = match (&node.op, &mut parts[id.index()]) {
                (Op::Input(_), _) => input.clone(),
                (_, Some(part)) => part.run(of(0))?.remove(0),
                (Op::Scale, None) => {
                    let plane = shape.h * shape.w;
                    Tensor::from_fn(of(0).dims(), |i| of(0).data()[i] * of(1).data()[i / plane])
                }
                (Op::Concat(joint), None) => {
                    let parts: Vec<&Tensor> = (0..node.inputs.len()).map(of).collect();
                    Tensor::new(<[usize; 4]>::from(shape), joined(*joint, shape.c, &parts))?
                }
                (op, None) => return Err(crate::Error::layer(node.name(), op.alone())),
            };
            if let Op::Conv(conv) = &node.op {
                let residual = node.inputs.get(1).map(|id| &values[id.index()]);
                for (i, value) in value.data_mut().iter_mut().enumerate() {
                    let sum = *value + residual.map_or(0.0, |residual| residual.data()[i]);
                    *value = conv.activation.apply(sum);
                }
            }
            if let Some(affine) = node.map {
                value.data_mut().iter_mut().for_each(|value| *value = affine.value(affine.quantise(*value)));
            }
            values.push(value);
        }
        Ok(graph.answers().iter().map(|(_, id)| values[id.index()].clone()).collect())
    }

    /// As [`Executor::taps`].
    pub fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        match self {
            Self::Exact(executor) => executor.taps(),
            Self::Rounded { graph, values, .. } => {
                let named = graph.nodes().zip(values).skip(1);
                Ok(named.map(|((_, node), value)| (node.output_name().to_owned(), value.clone())).collect())
            }
        }
    }
}

/// The values of joined maps of one picture.
fn joined(joint: Joint, channels: usize, parts: &[&Tensor]) -> Vec<f32> {
    match joint {
        Joint::Channels => parts.iter().flat_map(|part| part.data()).copied().collect(),
        Joint::Pixels => {
            let planes = |c: usize| {
                parts.iter().flat_map(move |part| {
                    let plane = part.data().len() / channels;
                    part.data()[c * plane..][..plane].iter().copied()
                })
            };
            (0..channels).flat_map(planes).collect()
        }
    }
}
