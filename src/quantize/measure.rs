//! The outputs of a quantised network, and their distance from the f32 outputs.

use std::collections::HashMap;

use crate::{
    Result, Tensor,
    cpu::{Cpu, Executor},
    graph::{Graph, NodeId, Op, passes},
};

/// Runs a graph on each input. Returns its outputs per input.
pub(super) fn outputs(cpu: &Cpu, graph: &Graph, inputs: &[&Tensor]) -> Result<Vec<Vec<Tensor>>> {
    let Some(first) = inputs.first() else { return Ok(Vec::new()) };
    let mut executor = Executor::new(cpu, graph, first.shape()?, false)?;
    inputs.iter().map(|input| executor.run(input)).collect()
}

/// An executor that returns every node's value.
pub(super) struct Watched<'g> {
    executor: Executor,
    named: HashMap<&'g str, NodeId>,
    source: Option<NodeId>,
}

impl<'g> Watched<'g> {
    /// Prepares `graph` for single pictures of `input`'s shape.
    pub fn new(cpu: &Cpu, graph: &'g Graph, input: &Tensor) -> Result<Self> {
        // Nodes that no output needs are removed.
        let executor = Executor::new(cpu, &passes::prune(graph), input.shape()?, true)?;
        let named = graph.nodes().map(|(id, node)| (node.output_name(), id)).collect();
        Ok(Self { executor, named, source: graph.source() })
    }

    /// Returns the values of all nodes that outputs need, including the picture's.
    pub fn values(&mut self, input: &Tensor) -> Result<Vec<(NodeId, Tensor)>> {
        self.executor.run(input)?;
        let taps = self.executor.taps()?.into_iter();
        let mut values: Vec<(NodeId, Tensor)> =
            taps.filter_map(|(name, value)| Some((*self.named.get(name.as_str())?, value))).collect();
        values.extend(self.source.map(|source| (source, input.clone())));
        Ok(values)
    }
}

/// The graph whose outputs are compared: score maps before they are resized to the picture, which adds no
/// information.
pub(super) fn compared(graph: &Graph) -> Graph {
    let before = |id: NodeId| match graph.node(id).op {
        Op::Resize(_) => graph.node(id).inputs[0],
        _ => id,
    };
    graph.with_outputs(graph.outputs().into_iter().map(|(name, id)| (name.to_owned(), before(id))).collect())
}

/// Sums of squared errors and of squared reference values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Noise {
    error: f64,
    reference: f64,
}

impl Noise {
    /// Adds values.
    pub fn add(&mut self, found: &[f32], wanted: &[f32]) {
        for (found, wanted) in found.iter().zip(wanted) {
            self.error += (f64::from(*found) - f64::from(*wanted)).powi(2);
            self.reference += f64::from(*wanted).powi(2);
        }
    }

    /// The sum of squared errors divided by the sum of squared reference values.
    pub fn ratio(self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.reference }
    }
}

/// The noise in the outputs for some pictures: the maximum over the outputs.
pub(super) fn noise(found: &[Vec<Tensor>], wanted: &[&[Tensor]]) -> f64 {
    let parts = wanted.first().map_or(0, |outputs| outputs.len());
    let of = |part: usize| {
        let mut noise = Noise::default();
        found.iter().zip(wanted).for_each(|(f, w)| noise.add(f[part].data(), w[part].data()));
        noise.ratio()
    };
    (0..parts).map(of).fold(0.0, f64::max)
}

/// Returns the number of best classes that differ from the reference, and the number of all best classes: one
/// per picture, pixel or box. `classes` is the number of classes per run of channels in the first output.
pub(super) fn changed(found: &[Vec<Tensor>], wanted: &[&[Tensor]], classes: usize) -> [u64; 2] {
    let (mut changed, mut all) = (0, 0);
    for (found, wanted) in found.iter().zip(wanted) {
        let (found, wanted) = (best(&found[0], classes), best(&wanted[0], classes));
        all += wanted.len() as u64;
        changed += found.iter().zip(&wanted).filter(|(a, b)| a != b).count() as u64;
    }
    [changed, all]
}

/// The best class of each run of channels at each pixel. With a single class, 1 if its score is positive.
fn best(output: &Tensor, classes: usize) -> Vec<usize> {
    let [n, channels] = [output.dims()[0], output.dims()[1]];
    let plane = output.data().len() / (n * channels).max(1);
    let value = |run: usize, class: usize, pixel: usize| {
        let channel = run % (channels / classes) * classes + class;
        output.data()[(run / (channels / classes) * channels + channel) * plane + pixel]
    };
    let positions = (0..n * channels / classes).flat_map(|run| (0..plane).map(move |pixel| (run, pixel)));
    let best = |(run, pixel): (usize, usize)| match classes {
        1 => usize::from(value(run, 0, pixel) > 0.0),
        _ => (1..classes).fold(0, |best, class| {
            if value(run, class, pixel) > value(run, best, pixel) { class } else { best }
        }),
    };
    positions.map(best).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_classes_are_per_run_and_pixel() {
        // Two runs of two classes at two pixels.
        let output = Tensor::new([1, 4, 1, 2], vec![1.0, 5.0, 2.0, 4.0, -1.0, -2.0, -3.0, -1.0]).unwrap();
        assert_eq!(best(&output, 2), [1, 0, 0, 1]);
        assert_eq!(best(&output, 4), [1, 0]);
        assert_eq!(best(&output, 1), [1, 1, 1, 1, 0, 0, 0, 0]);
        let other = Tensor::new([1, 4, 1, 2], vec![3.0, 5.0, 2.0, 4.0, -1.0, -2.0, -3.0, -1.0]).unwrap();
        assert_eq!(changed(&[vec![other.clone()]], &[std::slice::from_ref(&output)], 2), [1, 4]);
        let share = noise(&[vec![other]], &[&[output][..]]);
        assert!((share - 4.0 / 61.0).abs() < 1e-9, "{share}");
    }
}
