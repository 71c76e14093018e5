//! Value ranges of maps, and the quantisation with the least squared error over the observed values. It may
//! clip the few largest values.

use crate::graph::{Activation, Affine};

/// Cells per [`Histogram`].
const CELLS: usize = 2048;

/// Candidate ends on each side: this many equal steps from 0 to the outermost value.
const ENDS: usize = 64;

/// The range of one map's values, over many pictures.
#[derive(Debug, Clone)]
pub(super) struct Extent {
    /// The smallest value.
    pub least: f32,
    /// The largest value.
    pub most: f32,
    /// The largest magnitude in each channel.
    pub channels: Vec<f32>,
}

impl Extent {
    /// An empty extent of `channels` channels.
    pub fn new(channels: usize) -> Self {
        Self { least: 0.0, most: 0.0, channels: vec![0.0; channels] }
    }

    /// Adds a picture's values, channel by channel.
    pub fn add(&mut self, values: &[f32]) {
        let plane = values.len() / self.channels.len().max(1);
        for (largest, plane) in self.channels.iter_mut().zip(values.chunks(plane.max(1))) {
            for &value in plane {
                self.least = self.least.min(value);
                self.most = self.most.max(value);
                *largest = largest.max(value.abs());
            }
        }
    }
}

/// A histogram of values within a known range.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    least: f32,
    cell: f32,
    counts: Vec<u64>,
}

impl Histogram {
    /// An empty histogram, with `least <= 0 <= most`.
    pub fn new(least: f32, most: f32) -> Self {
        Self { least, cell: (most - least) / CELLS as f32, counts: vec![0; CELLS] }
    }

    /// Counts values except zeros, which integers represent exactly.
    pub fn add(&mut self, values: &[f32]) {
        let per_cell = 1.0 / self.cell.max(f32::MIN_POSITIVE);
        for &value in values.iter().filter(|value| **value != 0.0) {
            let at = ((value - self.least) * per_cell) as usize;
            self.counts[at.min(CELLS - 1)] += 1;
        }
    }

    /// The sum of squared errors if values are quantised over `least` to `most`.
    fn loss(&self, least: f32, most: f32) -> f64 {
        let affine = Affine::over(least, most);
        let cells = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let lost = cells.map(|(at, &count)| {
            // A cell's midpoint stands for all its values.
            let value = self.least + (at as f32 + 0.5) * self.cell;
            let off = f64::from(affine.value(affine.quantise(value)) - value);
            count as f64 * off * off
        });
        lost.sum()
    }

    /// The quantisation with the least loss, over ends between 0 and the outermost values. The two ends are
    /// optimised alternately until the loss stops falling: there is rarely more than one minimum.
    pub fn best(&self) -> Affine {
        let most = self.least + self.cell * CELLS as f32;
        let ends = |outermost: f32| (1..=ENDS).rev().map(move |i| outermost * i as f32 / ENDS as f32);
        let (mut low, mut high) = (self.least, most);
        let mut lost = self.loss(low, high);
        loop {
            let before = lost;
            for (end, is_low) in
                ends(self.least).map(|end| (end, true)).chain(ends(most).map(|end| (end, false)))
            {
                let (least, most) = if is_low { (end, high) } else { (low, end) };
                let loss = self.loss(least, most);
                if loss < lost {
                    (low, high, lost) = (least, most, loss);
                }
            }
            if lost >= before {
                return Affine::over(low, high);
            }
        }
    }
}

/// The range of a map's histogram: the range of its values, but with its activation's lower bound if it has
/// one.
pub(super) fn ends(extent: &Extent, activation: Activation) -> [f32; 2] {
    let Extent { least, most, .. } = *extent;
    match activation {
        Activation::Relu | Activation::Relu6 => [0.0, most],
        // The least value of x relu6(x + 3) / 6, at x = -1.5.
        Activation::HardSwish => [-0.375, most],
        // The least value of swish, at x = -1.278.
        Activation::Swish => [-0.278_464_55, most],
        Activation::HardSigmoid | Activation::Sigmoid => [0.0, most],
        Activation::Identity => [least, most],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The least loss over all pairs of candidate ends.
    fn brute_force(histogram: &Histogram) -> f64 {
        let (least, most) = (histogram.least, histogram.least + histogram.cell * CELLS as f32);
        let end = |outermost: f32, i: usize| outermost * i as f32 / ENDS as f32;
        let pairs = (1..=ENDS).flat_map(|low| (1..=ENDS).map(move |high| (low, high)));
        let losses = pairs.map(|(low, high)| histogram.loss(end(least, low), end(most, high)));
        losses.fold(f64::INFINITY, f64::min)
    }

    fn of(values: &[f32]) -> Histogram {
        let mut extent = Extent::new(1);
        extent.add(values);
        let mut histogram = Histogram::new(extent.least, extent.most);
        histogram.add(values);
        histogram
    }

    fn loss_of(histogram: &Histogram) -> f64 {
        let Affine { scale, zero } = histogram.best();
        let end = |q: i8| scale * f32::from(i16::from(q) - i16::from(zero));
        histogram.loss(end(-128), end(127))
    }

    #[test]
    fn clipping_is_as_good_as_exhaustive_search() {
        let mut random = Random::new(7);
        let mut normal = || (0..12).map(|_| random.unit() - 0.5).sum::<f32>();
        let even: Vec<f32> = (0..40_000).map(|_| normal()).collect();
        let tailed: Vec<f32> = even.iter().map(|v| v * v * v).collect();
        let relu: Vec<f32> = tailed.iter().map(|v| v.max(0.0)).collect();
        let mut outlier = even.clone();
        outlier.push(60.0);
        let mut both = even.clone();
        both.extend([60.0, -35.0]);
        for (name, values) in
            [("even", even), ("tailed", tailed), ("relu", relu), ("outlier", outlier), ("both", both)]
        {
            let histogram = of(&values);
            let (found, best) = (loss_of(&histogram), brute_force(&histogram));
            assert!(found <= 1.02 * best, "{name}: {found:e}, and {best:e} is possible");
        }
    }

    #[test]
    fn a_single_outlier_is_clipped_and_uniform_values_are_not() {
        let even: Vec<f32> = (0..=10_000).map(|i| i as f32 / 5_000.0 - 1.0).collect();
        let whole = of(&even).best();
        assert!((whole.value(127) - 1.0).abs() < 0.02 && (whole.value(-128) + 1.0).abs() < 0.02, "{whole:?}");
        let mut outlier: Vec<f32> = even.iter().cycle().take(2_000_000).copied().collect();
        outlier.push(20.0);
        assert!(of(&outlier).best().value(127) < 12.0, "{:?}", of(&outlier).best());
    }

    #[test]
    fn degenerate_maps_have_a_valid_quantisation() {
        for values in [&[0.0; 4][..], &[], &[3.0], &[-3.0]] {
            let affine = of(values).best();
            assert!(affine.scale > 0.0 && affine.scale.is_finite(), "{values:?}: {affine:?}");
            for value in values {
                assert!((affine.value(affine.quantise(*value)) - value).abs() <= affine.scale, "{values:?}");
            }
        }
    }
}
