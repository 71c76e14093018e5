//! Int8 operations without weights, and conversions between int8 and f32.

use super::{
    epilogue::{Scales, widened},
    numbers::{byte, integer, zero},
    vectors::{Isa, Job, Vectors},
};
use crate::{
    Shape,
    cpu::threads,
    graph::{Affine, Rescale},
};

/// The least number of values per task: below it, scheduling takes longer than computing.
const LEAST: usize = 16 << 10;

/// A lookup table from one map's bytes to another's.
pub struct Table(Box<[u8; 256]>);

impl Table {
    pub fn new(from: Affine, to: Affine) -> Self {
        let rescale = Rescale::new(f64::from(from.scale) / f64::from(to.scale));
        let entry = |at: usize| rescaled(rescale, at as i32 - i32::from(zero(from)), to);
        Self(Box::new(std::array::from_fn(entry)))
    }

    pub fn apply(&self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.0[usize::from(*byte)]);
    }
}

/// Rescales an offset from the zero point to a byte of the map `to`.
fn rescaled(rescale: Rescale, offset: i32, to: Affine) -> u8 {
    rescale.apply(offset).saturating_add(i32::from(zero(to))).clamp(0, 255) as u8
}

/// Averages each channel over a picture's pixels.
pub fn mean([from, to]: [Affine; 2], x: Shape, input: &[u8], output: &mut [u8]) {
    let pixels = x.h * x.w;
    let rescale = Rescale::new(f64::from(from.scale) / (pixels as f64 * f64::from(to.scale)));
    let zeros = (pixels as i32).wrapping_mul(zero(from).into());
    let mut sums = vec![0i32; x.c];
    for (picture, means) in input.chunks_exact(pixels * x.c).zip(output.chunks_exact_mut(x.c)) {
        vectorised!({
            sums.fill(0);
            for pixel in picture.chunks_exact(x.c) {
                sums.iter_mut().zip(pixel).for_each(|(sum, byte)| *sum = sum.wrapping_add((*byte).into()));
            }
        });
        for (mean, sum) in means.iter_mut().zip(&sums) {
            *mean = rescaled(rescale, sum.wrapping_sub(zeros), to);
        }
    }
}

/// The product of each channel and its gate.
pub struct Scale {
    isa: Isa,
    rescale: Rescale,
    scales: Option<Scales>,
    zeros: [u8; 2],
    to: Affine,
}

impl Scale {
    pub fn new(isa: Isa, [from, gate, to]: [Affine; 3]) -> Self {
        let factor = f64::from(from.scale) * f64::from(gate.scale) / f64::from(to.scale);
        let rescale = Rescale::new(factor);
        let scales = Scales::new(isa, &vec![rescale; isa.block()], &vec![255 * 255; isa.block()]);
        Self { isa, rescale, scales, zeros: [from, gate].map(zero), to }
    }

    pub fn run(&self, x: Shape, input: &[u8], gates: &[u8], output: &mut [u8], threads: usize) {
        let row = x.w * x.c;
        threads::bands(threads, output, row, LEAST, |first, band| {
            let rows = band.chunks_exact_mut(row).zip(input[first * row..].chunks_exact(row));
            for (at, (output, input)) in rows.enumerate() {
                let gates = &gates[(first + at) / x.h * x.c..][..x.c];
                self.isa.run(Pixels { scale: self, input, gates, output });
            }
        });
    }
}

/// Pixels of one picture to scale.
struct Pixels<'a> {
    scale: &'a Scale,
    input: &'a [u8],
    gates: &'a [u8],
    output: &'a mut [u8],
}

impl Job for Pixels<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let Scale { rescale, scales, zeros, to, .. } = self.scale;
        let channels = self.gates.len();
        let Some(scales) = scales else {
            for (at, (output, input)) in self.output.iter_mut().zip(self.input).enumerate() {
                let [x, gate] = [*input, self.gates[at % channels]].map(i32::from);
                let product = (x - i32::from(zeros[0])) * (gate - i32::from(zeros[1]));
                *output = rescaled(*rescale, product, *to);
            }
            return;
        };
        let offsets = [v.splat(-i32::from(zeros[0])), v.splat(-i32::from(zeros[1]))];
        for first in (0..channels).step_by(V::BLOCK) {
            let count = V::BLOCK.min(channels - first);
            let gates = widened(v, &self.gates[first..][..count], offsets[1]);
            let pixels = self.input.chunks_exact(channels).zip(self.output.chunks_exact_mut(channels));
            for (input, output) in pixels {
                let mut values = widened(v, &input[first..][..count], offsets[0]);
                for (value, gate) in values.iter_mut().zip(gates) {
                    *value = v.multiply(*value, gate);
                }
                let [values] = scales.apply(v, 0, [values]);
                v.store_bytes(v.pack(values, zero(*to), [0, 255]), &mut output[first..][..count]);
            }
        }
    }
}

/// Quantises values to the nearest bytes.
pub fn quantise(quantisation: Affine, input: &[f32], output: &mut [u8], threads: usize) {
    threads::bands(threads, output, 1, LEAST, |first, output| {
        vectorised!({
            output
                .iter_mut()
                .zip(&input[first..])
                .for_each(|(to, from)| *to = quantised(quantisation, *from));
        });
    });
}

/// Quantises a value to the nearest byte.
#[inline(always)]
fn quantised(quantisation: Affine, value: f32) -> u8 {
    byte(quantisation.quantise(value))
}

/// Converts bytes to the values that they represent.
pub fn dequantise(quantisation: Affine, input: &[u8], output: &mut [f32], threads: usize) {
    threads::bands(threads, output, 1, LEAST, |first, output| {
        vectorised!({
            output.iter_mut().zip(&input[first..]).for_each(|(to, from)| *to = value(quantisation, *from));
        });
    });
}

/// The value that a byte represents.
pub fn value(quantisation: Affine, byte: u8) -> f32 {
    quantisation.value(integer(byte))
}
