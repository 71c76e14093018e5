//! Which of the integers beside it each weight becomes. The nearest loses least of the weights, and not of what a layer
//! makes: its inputs go together, and what one weight is off others can make up for.
//!
//! With `C` the covariance of what an output reads, weights that are off by `e` leave the error `e' C e`, that of the mean
//! aside, which the bias takes up. With `C = R' R`, `R` upper triangular, it is a sum of squares, the last of which
//! depends on the last weight alone, the one before on the last two: from the last on, each weight gets the integer with
//! which its square is least (Babai's nearest plane, "On Lovász' lattice reduction and the nearest lattice point
//! problem", 1986; with the inverse of `C` it is known from large language models, arXiv 2210.17323). Weights whose
//! inputs vary most come last, and so are rounded first, while all others can still make up for them.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    draft::{Draft, conv},
    measure::{Watched, judged},
    weights::quantise,
};
use crate::{
    Result, Shape, Tensor,
    cpu::Cpu,
    graph::{Conv, Window},
};

/// Outputs of a picture whose inputs are looked at.
const PLACES: usize = 128;

/// The most inputs of an output: those of more have the nearest integers, as their covariances are too large.
const MOST: usize = 2304;

/// What is added to variances, as a share of their mean: inputs that vary little may vary elsewhere.
const DAMPING: f64 = 0.01;

impl Draft {
    /// Rounds the weights of all layers by what they read for `inputs`.
    pub fn round(&mut self, cpu: &Cpu, inputs: &[&Tensor], mut done: impl FnMut(usize)) -> Result<()> {
        let exact = judged(&self.exact);
        let shapes = exact.shapes(inputs[0].shape()?)?;
        let mut watched = Watched::new(cpu, &exact, inputs[0])?;
        let mut grams: Vec<Option<Gram>> =
            self.layers.iter().map(|layer| Gram::new(conv(&exact, layer.id))).collect();
        for (at, input) in inputs.iter().enumerate() {
            done(at);
            let mut values = vec![None; exact.nodes().len()];
            watched.values(input)?.into_iter().for_each(|(id, value)| values[id.index()] = Some(value));
            let add = |(gram, layer): (&mut Option<Gram>, &super::draft::Layer)| {
                let from = exact.node(layer.id).inputs[0].index();
                if let Some((gram, value)) = gram.as_mut().zip(values[from].as_ref()) {
                    gram.add(conv(&exact, layer.id), shapes[from], value.data());
                }
            };
            cpu.share(|| grams.par_iter_mut().zip(&self.layers).for_each(add));
        }
        let round = |(layer, gram): (&mut super::draft::Layer, Option<Gram>)| {
            if let Some(gram) = gram.filter(|gram| gram.count > 1.0) {
                let weight = gram.rounded(conv(&exact, layer.id), &layer.eight.steps);
                layer.eight.weight = Arc::new(weight);
            }
        };
        cpu.share(|| self.layers.par_iter_mut().zip(grams).for_each(round));
        Ok(())
    }
}

/// Sums over what outputs read, and over products of two of it.
struct Gram {
    /// Inputs of an output.
    size: usize,
    /// Places that were looked at.
    count: f64,
    /// `[groups][size]`
    sums: Vec<f64>,
    /// `[groups][size][size]`, of which the second input is the first or one before it.
    products: Vec<f32>,
}

impl Gram {
    /// Of nothing yet; none for outputs with too many inputs.
    fn new(conv: &Conv) -> Option<Self> {
        let size = conv.weight.data().len() / conv.outputs();
        let (sums, products) = (vec![0.0; conv.groups * size], Vec::new());
        (size <= MOST).then_some(Self { size, count: 0.0, sums, products })
    }

    /// Takes in what some outputs, evenly chosen, read of a picture's map of shape `x`.
    fn add(&mut self, conv: &Conv, x: Shape, map: &[f32]) {
        let Some(window) = conv.window(x.h, x.w) else { return };
        let (size, outputs) = (self.size, window.height * window.width);
        let places = outputs.min(PLACES);
        self.products.resize(conv.groups * size * size, 0.0);
        self.count += places as f64;
        let mut read = vec![0.0; places * size];
        for group in 0..conv.groups {
            for (place, read) in read.chunks_exact_mut(size).enumerate() {
                gather(conv, x, window, group, (2 * place + 1) * outputs / (2 * places), map, read);
            }
            let sums = &mut self.sums[group * size..][..size];
            let products = &mut self.products[group * size * size..][..size * size];
            for read in read.chunks_exact(size) {
                sums.iter_mut().zip(read).for_each(|(sum, value)| *sum += f64::from(*value));
                for (i, row) in products.chunks_exact_mut(size).enumerate().filter(|(i, _)| read[*i] != 0.0) {
                    row[..=i].iter_mut().zip(read).for_each(|(sum, value)| *sum += read[i] * value);
                }
            }
        }
    }

    /// The weights of `conv` as whole steps.
    fn rounded(&self, conv: &Conv, steps: &[f32]) -> Tensor {
        let (size, each) = (self.size, conv.outputs() / conv.groups);
        let mut weights = conv.weight.data().to_vec();
        for (group, weights) in weights.chunks_exact_mut(each * size).enumerate() {
            let order = self.order(group);
            let factors = self.factors(group, &order, conv.bias.is_some());
            let outputs = weights.par_chunks_exact_mut(size).zip(&steps[group * each..][..each]);
            outputs.for_each(|(weights, step)| nearest_plane(weights, *step, &order, &factors));
        }
        Tensor::from_fn(conv.weight.dims(), |at| weights[at])
    }

    /// A group's inputs, those that vary most last.
    fn order(&self, group: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.size).collect();
        let variance = |i: usize| self.covariance(group, i, i, true);
        order.sort_by(|a, b| variance(*a).total_cmp(&variance(*b)).then(a.cmp(b)));
        order
    }

    /// The covariance of two inputs of a group, or the mean of their products where no bias takes up their means.
    fn covariance(&self, group: usize, i: usize, j: usize, biased: bool) -> f64 {
        let (size, sums) = (self.size, &self.sums[group * self.size..]);
        let product = f64::from(self.products[(group * size + i.max(j)) * size + i.min(j)]) / self.count;
        if biased { product - sums[i] * sums[j] / (self.count * self.count) } else { product }
    }

    /// The rows of `R`, of inputs in this order, each over its diagonal.
    fn factors(&self, group: usize, order: &[usize], biased: bool) -> Vec<f32> {
        let size = self.size;
        let diagonal: f64 = order.iter().map(|&i| self.covariance(group, i, i, biased).max(0.0)).sum();
        let damping = (DAMPING * diagonal / size as f64).max(f64::from(f32::MIN_POSITIVE));
        // Cholesky's lower triangle, row by row: each is a sum of products of two rows.
        let mut lower = vec![0.0f64; size * size];
        for i in 0..size {
            for j in 0..=i {
                let (before, row) = lower.split_at(i * size);
                let other = if i == j { &row[..j] } else { &before[j * size..][..j] };
                let sum: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
                let left = self.covariance(group, order[i], order[j], biased) - sum;
                lower[i * size + j] = match i == j {
                    true => (left + damping).max(damping * 1e-3).sqrt(),
                    false => left / lower[j * size + j],
                };
            }
        }
        let over = |at: usize| {
            let (i, j) = (at / size, at % size);
            if j > i { (lower[j * size + i] / lower[i * size + i]) as f32 } else { 0.0 }
        };
        (0..size * size).map(over).collect()
    }
}

/// What the output at `place` reads of a group's channels, in the order of its weights: zeros beyond the map.
fn gather(conv: &Conv, x: Shape, window: Window, group: usize, place: usize, map: &[f32], read: &mut [f32]) {
    let (k, channels) = (conv.kernel(), conv.inputs() / conv.groups);
    let meets = |at: usize, tap: usize, before: usize, size: usize| {
        (at * conv.stride + tap * conv.dilation).checked_sub(before).filter(|at| *at < size)
    };
    for (i, value) in read.iter_mut().enumerate() {
        let (channel, ky, kx) = (group * channels + i / (k * k), i / k % k, i % k);
        let row = meets(place / window.width, ky, window.top, x.h);
        let at = row.zip(meets(place % window.width, kx, window.left, x.w));
        *value = at.map_or(0.0, |(row, column)| map[(channel * x.h + row) * x.w + column]);
    }
}

/// An output's weights as whole steps: from the last of `order` on, each with what those after it are off.
fn nearest_plane(weights: &mut [f32], step: f32, order: &[usize], factors: &[f32]) {
    let size = order.len();
    // What weights are off, in order.
    let mut off = vec![0.0f32; size];
    for i in (0..size).rev() {
        let weight = weights[order[i]];
        let row = &factors[i * size..][..size];
        let others: f32 = row[i + 1..].iter().zip(&off[i + 1..]).map(|(factor, off)| factor * off).sum();
        let found = f32::from(quantise(weight + others, step)) * step;
        off[i] = weight - found;
        weights[order[i]] = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::{Activation, Padding},
        random::Random,
    };

    /// Eight channels that go together, as neighbours do, and a layer of them.
    fn case(groups: usize) -> (Conv, Tensor) {
        let mut random = Random::new(3);
        let common = |i: usize| (0.3 * (i % 12) as f32).sin() + (0.2 * (i / 12 % 12) as f32).cos();
        let map = Tensor::from_fn([1, 8, 12, 12], |i| common(i) + 0.1 * random.unit());
        let weight = Tensor::from_fn([8, 8 / groups, 3, 3], |_| random.unit() - 0.5);
        let conv = Conv {
            weight: Arc::new(weight),
            bias: Some(Arc::new(Tensor::from_fn([8], |_| 0.0))),
            stride: 1,
            dilation: 1,
            padding: Padding::Symmetric,
            groups,
            activation: Activation::Identity,
            linear: false,
        };
        (conv, map)
    }

    /// The error that weights leave in what the layer makes, but for its mean.
    fn error(gram: &Gram, conv: &Conv, weights: &[f32]) -> f64 {
        let (size, each) = (gram.size, conv.outputs() / conv.groups);
        let mut error = 0.0;
        for (output, exact) in conv.weight.data().chunks_exact(size).enumerate() {
            let off = |i: usize| f64::from(exact[i] - weights[output * size + i]);
            for i in 0..size {
                error += (0..size)
                    .map(|j| off(i) * off(j) * gram.covariance(output / each, i, j, true))
                    .sum::<f64>();
            }
        }
        error
    }

    #[test]
    fn what_goes_together_makes_up_for_one_another() {
        for groups in [1, 8] {
            let (conv, map) = case(groups);
            let mut gram = Gram::new(&conv).unwrap();
            gram.add(&conv, map.shape().unwrap(), map.data());
            let steps = [0.05; 8];
            let nearest: Vec<f32> =
                conv.weight.data().iter().map(|w| f32::from(quantise(*w, 0.05)) * 0.05).collect();
            let rounded = gram.rounded(&conv, &steps);
            let (before, after) = (error(&gram, &conv, &nearest), error(&gram, &conv, rounded.data()));
            assert!(after < 0.5 * before, "{groups} groups: {after:e}, {before:e} with the nearest");
            for weight in rounded.data() {
                let q = weight / 0.05;
                assert!((q - q.round()).abs() < 1e-4 && q.abs() <= 127.0, "{weight}");
            }
        }
    }

    #[test]
    fn inputs_that_do_not_vary_leave_the_nearest_integers() {
        let (conv, map) = case(1);
        let still = Tensor::from_fn(map.dims(), |_| 0.0);
        let mut gram = Gram::new(&conv).unwrap();
        gram.add(&conv, still.shape().unwrap(), still.data());
        let rounded = gram.rounded(&conv, &[0.05; 8]);
        let nearest = |w: &f32| f32::from(quantise(*w, 0.05)) * 0.05;
        assert!(rounded.data().iter().zip(conv.weight.data()).all(|(a, b)| *a == nearest(b)));
    }
}
