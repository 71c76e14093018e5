//! Recalibration of a subnet's batch norms. A slice inherits the statistics of the supernet's largest subnet;
//! with these, any other subnet predicts no better than chance.

use std::sync::Arc;

use rayon::prelude::*;

use crate::{
    Error, Result, Shape, Tensor,
    cpu::{Cpu, Executor},
    graph::{Activation, BatchNorm, Graph, NodeId, Op},
    zoo::{Network, Slice},
};

/// Sets the batch norms of `slice` to the statistics of `batches`, and returns its network. Each batch is
/// normalised with its own statistics, as in training; the result is the average over the batches.
///
/// # Errors
/// Those of [`Slice::network`]; [`Error::Input`] if there is no batch, or it does not fit the network.
pub fn calibrate(cpu: &Cpu, slice: &mut Slice, batches: &[Tensor]) -> Result<Network> {
    let mut network = slice.network()?;
    if batches.is_empty() {
        return Err(Error::Input("calibrating batch norms needs at least one batch of pictures".into()));
    }
    let mut sums: Vec<(NodeId, Moments)> = Vec::new();
    for batch in batches {
        let found = moments(cpu, &network.graph, batch)?;
        if sums.is_empty() {
            sums = found;
            continue;
        }
        for ((_, sum), (_, found)) in sums.iter_mut().zip(&found) {
            sum.mean.iter_mut().zip(&found.mean).for_each(|(sum, value)| *sum += value);
            sum.variance.iter_mut().zip(&found.variance).for_each(|(sum, value)| *sum += value);
        }
    }
    for (id, sum) in sums {
        let node = network.graph.node_mut(id);
        let name = node.output_name().to_owned();
        let Op::BatchNorm(norm) = &mut node.op else { continue };
        let tensor = |values: &[f64]| {
            Tensor::from_fn([values.len()], |channel| (values[channel] / batches.len() as f64) as f32)
        };
        let [mean, variance] = [tensor(&sum.mean), tensor(&sum.variance)];
        (norm.mean, norm.variance) = (Arc::new(mean.clone()), Arc::new(variance.clone()));
        slice.set_statistics(&name, mean, variance);
    }
    Ok(network)
}

/// Mean and variance of each channel.
struct Moments {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

/// Computes the moments of every batch norm's input. Preceding batch norms use the batch's own moments.
fn moments(cpu: &Cpu, graph: &Graph, batch: &Tensor) -> Result<Vec<(NodeId, Moments)>> {
    let mut uses = graph.uses();
    let mut values: Vec<Option<Tensor>> = Vec::new();
    let mut found = Vec::new();
    for (id, node) in graph.nodes() {
        let mut read: Vec<Tensor> = Vec::new();
        for input in &node.inputs {
            let left = &mut uses[input.index()];
            *left -= 1;
            let value = &mut values[input.index()];
            // The last reader takes the value instead of a copy.
            read.extend(if *left == 0 { value.take() } else { value.clone() });
        }
        let mut read = read.into_iter();
        let value = match (&node.op, read.next(), read.next()) {
            (Op::Input(_), ..) => batch.clone(),
            (Op::Conv(_), Some(x), None) => {
                let mut single = Graph::default();
                let input = single.push("input", Op::Input(x.shape()?.c), &[]);
                single.push(node.name(), node.op.clone(), &[input]);
                let outputs = Executor::new(cpu, &single, x.shape()?, false)?.run(&x)?;
                outputs.into_iter().next().ok_or_else(|| Error::layer(node.name(), "has no output"))?
            }
            (Op::BatchNorm(norm), Some(x), None) => {
                let (moments, normalised) = normalised(norm, x)?;
                found.push((id, moments));
                normalised
            }
            (Op::Activation(activation), Some(x), None) => applied(*activation, x)?,
            (Op::GlobalPool, Some(x), None) => means(&x)?,
            (Op::Scale, Some(x), Some(by)) => {
                let plane = plane(x.shape()?);
                combined(x, |at| by.data()[at / plane], |x, by| x * by)?
            }
            (Op::Add, Some(x), Some(y)) => combined(x, |at| y.data()[at], |x, y| x + y)?,
            _ => return Err(Error::layer(node.name(), node.op.unfused_error())),
        };
        values.push(Some(value));
    }
    Ok(found)
}

fn plane(shape: Shape) -> usize {
    shape.h * shape.w
}

/// Computes the moments of each channel and normalises the values with them.
fn normalised(norm: &BatchNorm, x: Tensor) -> Result<(Moments, Tensor)> {
    let shape = x.shape()?;
    let plane = plane(shape);
    let count = (shape.n * plane) as f64;
    let of_channel = |channel: usize| {
        let rows = || x.data().chunks_exact(plane).skip(channel).step_by(shape.c).flatten();
        let mean = rows().map(|value| f64::from(*value)).sum::<f64>() / count;
        let variance = rows().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
        (mean, variance)
    };
    let (mean, variance): (Vec<f64>, Vec<f64>) = (0..shape.c).into_par_iter().map(of_channel).unzip();
    let affine = |channel: usize| {
        let scale = f64::from(norm.gamma.data()[channel]) / (variance[channel] + norm.epsilon).sqrt();
        let shift = f64::from(norm.beta.data()[channel]) - mean[channel] * scale;
        (scale as f32, shift as f32)
    };
    let mut values = x.into_data();
    values.par_chunks_exact_mut(plane).enumerate().for_each(|(row, values)| {
        let (scale, shift) = affine(row % shape.c);
        values.iter_mut().for_each(|value| *value = value.mul_add(scale, shift));
    });
    Ok((Moments { mean, variance }, Tensor::new(<[usize; 4]>::from(shape), values)?))
}

fn applied(activation: Activation, x: Tensor) -> Result<Tensor> {
    let dims = x.dims().to_vec();
    let mut values = x.into_data();
    values.par_iter_mut().with_min_len(1 << 12).for_each(|value| *value = activation.apply(*value));
    Tensor::new(dims, values)
}

fn means(x: &Tensor) -> Result<Tensor> {
    let shape = x.shape()?;
    let plane = plane(shape);
    let mean = |values: &[f32]| (values.iter().map(|v| f64::from(*v)).sum::<f64>() / plane as f64) as f32;
    Tensor::new([shape.n, shape.c, 1, 1], x.data().par_chunks_exact(plane).map(mean).collect())
}

/// Applies `with` to each value and to `other` at the value's index.
fn combined(
    x: Tensor,
    other: impl Fn(usize) -> f32 + Sync,
    with: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<Tensor> {
    let dims = x.dims().to_vec();
    let mut values = x.into_data();
    let each = values.par_iter_mut().with_min_len(1 << 12).enumerate();
    each.for_each(|(at, value)| *value = with(*value, other(at)));
    Tensor::new(dims, values)
}
