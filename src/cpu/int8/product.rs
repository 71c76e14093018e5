//! Pointwise, dense and fully connected layers: sums of products of four inputs at a time, for a block of outputs of
//! some pixels. A pointwise layer reads the map as it lies, a dense one first copies each pixel's window.

use std::cell::RefCell;

use aligned_vec::{AVec, avec};
use rayon::prelude::*;

use super::{
    finish::{Finish, channel},
    numbers::{Numbers, zero},
    vectors::{Isa, Job, Vectors},
};
use crate::{
    Shape,
    graph::{Affine, Conv, Window},
};

/// Bytes of operands and results that a task should find in its core's cache.
const CACHE: usize = 256 << 10;

/// Weights that a task should read at least: handing over fewer would take longer.
const LEAST_WEIGHTS: usize = 64 << 10;

thread_local! {
    /// The windows that a dense convolution has copied.
    static WINDOWS: RefCell<AVec<u8>> = RefCell::new(avec![]);
}

/// A convolution with its weights as the loops read them.
pub struct Product {
    /// What a dense convolution copies; none if the map's pixels are the rows.
    windows: Option<Windows>,
    /// Fours of inputs.
    fours: usize,
    /// `[blocks][fours][block][4]`
    weights: AVec<i8>,
    finish: Finish,
}

impl Product {
    pub fn new(isa: Isa, conv: &Conv, window: Window, input: Affine, numbers: Numbers) -> Self {
        let (inputs, outputs, taps) = (conv.inputs(), conv.outputs(), conv.kernel() * conv.kernel());
        let (fours, block) = ((inputs * taps).div_ceil(4), isa.block());
        let weight = |at: usize| {
            let (place, four, blocks) = (at / 4 % block, at / 4 / block % fours, at / 4 / block / fours);
            let (output, row) = (channel(block, blocks * block + place), 4 * four + at % 4);
            let (tap, input) = (row / inputs, row % inputs);
            // A row is made whole with what counts nothing.
            let there = output < outputs && tap < taps;
            if there { numbers.weights[(output * inputs + input) * taps + tap] } else { 0 }
        };
        let weights = AVec::from_iter(0, (0..outputs.next_multiple_of(block) * fours * 4).map(weight));
        let alone = taps == 1 && conv.stride == 1 && inputs.is_multiple_of(4);
        let windows = (!alone).then(|| Windows::new(conv, window, zero(input)));
        Self { windows, fours, weights, finish: Finish::new(isa, numbers) }
    }

    /// Bytes of weights, biases and factors.
    pub fn bytes(&self) -> usize {
        self.weights.len() + self.finish.bytes()
    }

    /// Bytes of a value that it makes.
    pub fn size(&self) -> usize {
        self.finish.numbers.size()
    }

    /// From pictures of shape `x` to pictures of shape `y`. `threads` is how many there are.
    pub fn run(
        &self,
        x: Shape,
        input: &[u8],
        y: Shape,
        output: &mut [u8],
        residual: Option<&[u8]>,
        threads: usize,
    ) {
        let (pixels, outputs, size) = (y.pixels(), y.c, self.finish.numbers.size());
        let (row, block) = (4 * self.fours, self.finish.isa.block());
        let blocks = outputs.div_ceil(block);
        let task = |first: usize, pixels: usize, blocks: [usize; 2], output: &mut [u8]| {
            let at = first * outputs + blocks[0] * block;
            let residual = residual.map(|residual| &residual[at..][..output.len() / size]);
            let job = |rows: &[u8], output: &mut [u8]| {
                let rows = rows.as_chunks::<4>().0;
                self.finish.isa.run(Tiles { product: self, rows, pixels, blocks, output, residual, outputs });
            };
            match &self.windows {
                None => job(&input[first * row..][..pixels * row], output),
                Some(windows) => {
                    let mut room = WINDOWS.replace(avec![]);
                    room.resize(room.len().max(pixels * row), 0);
                    windows.copy(x, input, y, first, row, &mut room[..pixels * row]);
                    job(&room[..pixels * row], output);
                    WINDOWS.replace(room);
                }
            }
        };
        if pixels == 1 {
            let share = blocks.div_ceil(threads).max(LEAST_WEIGHTS.div_ceil(block * row));
            let parts = output.par_chunks_mut(share * block * size).enumerate();
            return parts.for_each(|(at, output)| {
                task(0, 1, [at * share, ((at + 1) * share).min(blocks)], output);
            });
        }
        let fit = (CACHE / (row + outputs * size)).max(PIXELS);
        // As many tasks for each thread.
        let tasks = pixels.div_ceil(fit).next_multiple_of(threads);
        let share = pixels.div_ceil(tasks).next_multiple_of(PIXELS);
        if share >= pixels {
            return task(0, pixels, [0, blocks], output);
        }
        output.par_chunks_mut(share * outputs * size).enumerate().for_each(|(at, output)| {
            task(at * share, output.len() / (outputs * size), [0, blocks], output);
        });
    }
}

/// Pixels of a tile: 24 sums, four weights and a pixel's inputs are in registers.
const PIXELS: usize = 6;

/// The same where there are half as many registers.
const FEW_PIXELS: usize = 2;

/// Some pixels, and a range of blocks of outputs.
struct Tiles<'a> {
    product: &'a Product,
    /// As many fours for each pixel.
    rows: &'a [[u8; 4]],
    pixels: usize,
    blocks: [usize; 2],
    /// From the first pixel's first channel of the first block on.
    output: &'a mut [u8],
    residual: Option<&'a [u8]>,
    outputs: usize,
}

impl Job for Tiles<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        if V::WIDE { self.all::<V, PIXELS>(v) } else { self.all::<V, FEW_PIXELS>(v) }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn all<V: Vectors, const P: usize>(mut self, v: V) {
        // A block's weights stay in the nearest cache while all pixels pass.
        for block in self.blocks[0]..self.blocks[1] {
            let mut pixel = 0;
            while pixel < self.pixels {
                if self.pixels < P {
                    self.tile::<V, 1>(v, block, pixel);
                    pixel += 1;
                } else {
                    // The last tile makes some pixels again, rather than a smaller one.
                    self.tile::<V, P>(v, block, pixel.min(self.pixels - P));
                    pixel += P;
                }
            }
        }
    }

    #[inline(always)]
    fn tile<V: Vectors, const P: usize>(&mut self, v: V, block: usize, pixel: usize) {
        let Product { fours, weights, finish, .. } = self.product;
        let (fours, each) = (*fours, 4 * V::BLOCK);
        let weights = &weights[block * fours * each..][..fours * each];
        let mut rows = [&self.rows[..0]; P];
        for (p, row) in rows.iter_mut().enumerate() {
            *row = &self.rows[(pixel + p) * fours..][..fours];
        }
        let mut sums = [finish.begin(v, block); P];
        for (four, weights) in weights.chunks_exact(each).enumerate() {
            let mut vectors = [v.weights(weights); 4];
            for (i, vector) in vectors.iter_mut().enumerate() {
                *vector = v.weights(&weights[i * V::BLOCK..]);
            }
            for p in 0..P {
                let maps = v.spread(rows[p][four]);
                for i in 0..4 {
                    sums[p][i] = v.dot(sums[p][i], maps, vectors[i]);
                }
            }
        }
        let at = pixel * self.outputs + (block - self.blocks[0]) * V::BLOCK;
        let residual = self.residual.map(|residual| &residual[at..]);
        let output = &mut self.output[at * finish.numbers.size()..];
        finish.store(v, block, sums, residual, output, self.outputs);
    }
}

/// Where a dense convolution's windows lie.
struct Windows {
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: [usize; 2],
    zero: u8,
}

impl Windows {
    fn new(conv: &Conv, window: Window, zero: u8) -> Self {
        let padding = [window.top, window.left];
        Self { kernel: conv.kernel(), stride: conv.stride, dilation: conv.dilation, padding, zero }
    }

    /// The windows of outputs from the `first` on, a row of so many bytes each. What makes rows whole may be anything.
    fn copy(&self, x: Shape, input: &[u8], y: Shape, first: usize, row: usize, rows: &mut [u8]) {
        let span = self.kernel * x.c;
        for (at, window) in rows.chunks_exact_mut(row).enumerate() {
            let at = first + at;
            let (column, row, picture) = (at % y.w, at / y.w % y.h, at / (y.w * y.h));
            for (ky, taps) in window.chunks_exact_mut(span).take(self.kernel).enumerate() {
                let Some(row) = self.meets(row, ky, self.padding[0], x.h) else {
                    taps.fill(self.zero);
                    continue;
                };
                let line = &input[(picture * x.h + row) * x.w * x.c..][..x.w * x.c];
                let left = self.meets(column, 0, self.padding[1], x.w);
                let right = self.meets(column, self.kernel - 1, self.padding[1], x.w);
                if let (Some(left), Some(_), 1) = (left, right, self.dilation) {
                    // Of a picture with three channels: a length that the compiler knows is one copy.
                    let line = &line[left * x.c..][..span];
                    match (taps.first_chunk_mut::<9>(), line.first_chunk::<9>()) {
                        (Some(taps), Some(line)) if span == 9 => *taps = *line,
                        _ => taps.copy_from_slice(line),
                    }
                    continue;
                }
                for (kx, tap) in taps.chunks_exact_mut(x.c).enumerate() {
                    match self.meets(column, kx, self.padding[1], x.w) {
                        Some(column) => tap.copy_from_slice(&line[column * x.c..][..x.c]),
                        None => tap.fill(self.zero),
                    }
                }
            }
        }
    }

    /// Where tap `k` of the output at `at` meets a map of `size`, in one direction.
    fn meets(&self, at: usize, k: usize, before: usize, size: usize) -> Option<usize> {
        (at * self.stride + k * self.dilation).checked_sub(before).filter(|&at| at < size)
    }
}
