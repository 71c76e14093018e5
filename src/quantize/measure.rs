//! What a network in 8 bits answers, and how far that is from what it answers in floating point.

use std::collections::HashMap;

use crate::{
    Result, Tensor,
    cpu::{Cpu, Executor},
    graph::{Graph, NodeId, Op, passes},
};

/// The answers of a graph to each of some pictures.
pub(super) fn answers(cpu: &Cpu, graph: &Graph, inputs: &[&Tensor]) -> Result<Vec<Vec<Tensor>>> {
    let Some(first) = inputs.first() else { return Ok(Vec::new()) };
    let mut executor = Executor::new(cpu, graph, first.shape()?, false)?;
    inputs.iter().map(|input| executor.run(input)).collect()
}

/// A graph whose nodes' values can be looked at.
pub(super) struct Watched<'g> {
    executor: Executor,
    named: HashMap<&'g str, NodeId>,
    source: Option<NodeId>,
}

impl<'g> Watched<'g> {
    /// Of one picture like `input`.
    pub fn new(cpu: &Cpu, graph: &'g Graph, input: &Tensor) -> Result<Self> {
        // What no answer needs is left out.
        let executor = Executor::new(cpu, &passes::prune(graph), input.shape()?, true)?;
        let named = graph.nodes().map(|(id, node)| (node.output_name(), id)).collect();
        Ok(Self { executor, named, source: graph.source() })
    }

    /// The values of all nodes that answers need, the picture's among them.
    pub fn values(&mut self, input: &Tensor) -> Result<Vec<(NodeId, Tensor)>> {
        self.executor.run(input)?;
        let taps = self.executor.taps()?.into_iter();
        let mut values: Vec<(NodeId, Tensor)> =
            taps.filter_map(|(name, value)| Some((*self.named.get(name.as_str())?, value))).collect();
        values.extend(self.source.map(|source| (source, input.clone())));
        Ok(values)
    }
}

/// A graph whose answers are judged: scores before they are scaled to the picture's size, which tells nothing new.
pub(super) fn judged(graph: &Graph) -> Graph {
    let before = |id: NodeId| match graph.node(id).op {
        Op::Resize(_) => graph.node(id).inputs[0],
        _ => id,
    };
    graph.answering(graph.answers().into_iter().map(|(name, id)| (name.to_owned(), before(id))).collect())
}

/// The squares of what values are off, and of what they should be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Noise {
    off: f64,
    whole: f64,
}

impl Noise {
    /// Takes in some values.
    pub fn add(&mut self, found: &[f32], wanted: &[f32]) {
        for (found, wanted) in found.iter().zip(wanted) {
            self.off += (f64::from(*found) - f64::from(*wanted)).powi(2);
            self.whole += f64::from(*wanted).powi(2);
        }
    }

    /// The one's share of the other.
    pub fn share(self) -> f64 {
        if self.off == 0.0 { 0.0 } else { self.off / self.whole }
    }
}

/// The noise in answers to some pictures: of a network with several answers that of the worst.
pub(super) fn noise(found: &[Vec<Tensor>], wanted: &[&[Tensor]]) -> f64 {
    let parts = wanted.first().map_or(0, |answer| answer.len());
    let of = |part: usize| {
        let mut noise = Noise::default();
        found.iter().zip(wanted).for_each(|(f, w)| noise.add(f[part].data(), w[part].data()));
        noise.share()
    };
    (0..parts).map(of).fold(0.0, f64::max)
}

/// How many of the best classes are others than they should be, and of how many: of pictures, of pixels or of boxes.
/// `classes` are those that a run of channels has; the first answer holds them.
pub(super) fn changed(found: &[Vec<Tensor>], wanted: &[&[Tensor]], classes: usize) -> [u64; 2] {
    let (mut changed, mut all) = (0, 0);
    for (found, wanted) in found.iter().zip(wanted) {
        let (found, wanted) = (best(&found[0], classes), best(&wanted[0], classes));
        all += wanted.len() as u64;
        changed += found.iter().zip(&wanted).filter(|(a, b)| a != b).count() as u64;
    }
    [changed, all]
}

/// The best class of each run of channels at each pixel; of a single class whether it is there.
fn best(answer: &Tensor, classes: usize) -> Vec<usize> {
    let [n, channels] = [answer.dims()[0], answer.dims()[1]];
    let plane = answer.data().len() / (n * channels).max(1);
    let value = |run: usize, class: usize, pixel: usize| {
        let channel = run % (channels / classes) * classes + class;
        answer.data()[(run / (channels / classes) * channels + channel) * plane + pixel]
    };
    let places = (0..n * channels / classes).flat_map(|run| (0..plane).map(move |pixel| (run, pixel)));
    let best = |(run, pixel): (usize, usize)| match classes {
        1 => usize::from(value(run, 0, pixel) > 0.0),
        _ => (1..classes).fold(0, |best, class| {
            if value(run, class, pixel) > value(run, best, pixel) { class } else { best }
        }),
    };
    places.map(best).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_of_each_run_at_each_pixel() {
        // Two runs of two classes at two pixels.
        let answer = Tensor::new([1, 4, 1, 2], vec![1.0, 5.0, 2.0, 4.0, -1.0, -2.0, -3.0, -1.0]).unwrap();
        assert_eq!(best(&answer, 2), [1, 0, 0, 1]);
        assert_eq!(best(&answer, 4), [1, 0]);
        assert_eq!(best(&answer, 1), [1, 1, 1, 1, 0, 0, 0, 0]);
        let other = Tensor::new([1, 4, 1, 2], vec![3.0, 5.0, 2.0, 4.0, -1.0, -2.0, -3.0, -1.0]).unwrap();
        assert_eq!(changed(&[vec![other.clone()]], &[std::slice::from_ref(&answer)], 2), [1, 4]);
        let share = noise(&[vec![other]], &[&[answer][..]]);
        assert!((share - 4.0 / 61.0).abs() < 1e-9, "{share}");
    }
}
