//! Int8 matrix products for pointwise, dense and fully connected layers: dot products of four inputs at a
//! time, for a block of outputs of several pixels. A pointwise layer reads the map in place; a dense one
//! first copies each pixel's window.

use std::cell::RefCell;

use aligned_vec::{AVec, avec};

use super::{
    epilogue::{Epilogue, channel},
    numbers::{Numbers, zero},
    vectors::{Isa, Job, Vectors},
};
use crate::{
    Shape,
    cpu::{
        memory::{Buffer, Memory},
        threads,
        windows::Windows,
    },
    graph::{Affine, Conv, Window},
};

/// Bytes of operands and results that a task keeps in its core's cache.
const CACHE: usize = 256 << 10;

/// The least number of weights per task: below it, scheduling takes longer than computing.
const LEAST_WEIGHTS: usize = 64 << 10;

thread_local! {
    /// The copied windows of a dense convolution.
    static WINDOWS: RefCell<AVec<u8>> = RefCell::new(avec![]);
}

/// A convolution with packed weights.
pub struct Product {
    /// The windows to copy. None if the map's pixels are the rows.
    windows: Option<Windows>,
    /// The byte that represents 0, which pads windows off the map.
    zero: u8,
    /// Groups of four inputs.
    fours: usize,
    /// `[blocks][fours][block][4]`
    weights: Buffer<i8>,
    epilogue: Epilogue,
}

impl Product {
    pub fn new(
        isa: Isa,
        conv: &Conv,
        window: Window,
        input: Affine,
        numbers: Numbers,
        memory: &mut Memory,
    ) -> Self {
        let (inputs, outputs, taps) = (conv.inputs(), conv.outputs(), conv.kernel() * conv.kernel());
        let (fours, block) = ((inputs * taps).div_ceil(4), isa.block());
        let weight = |at: usize| {
            let (index, four, blocks) = (at / 4 % block, at / 4 / block % fours, at / 4 / block / fours);
            let (output, row) = (channel(block, blocks * block + index), 4 * four + at % 4);
            let (tap, input) = (row / inputs, row % inputs);
            // Zero weights pad a row to whole groups.
            let exists = output < outputs && tap < taps;
            if exists { numbers.integers.weights[(output * inputs + input) * taps + tap] } else { 0 }
        };
        let weights: Vec<i8> = (0..outputs.next_multiple_of(block) * fours * 4).map(weight).collect();
        let weights = memory.copy_of(&weights);
        let in_place = taps == 1 && conv.stride == 1 && inputs.is_multiple_of(4);
        let windows = (!in_place).then(|| Windows::new(conv, window));
        Self { windows, zero: zero(input), fours, weights, epilogue: Epilogue::new(isa, numbers) }
    }

    /// Bytes of weights, biases and factors.
    pub fn bytes(&self) -> usize {
        self.weights.len() + self.epilogue.bytes()
    }

    /// Bytes per output value.
    pub fn size(&self) -> usize {
        self.epilogue.numbers.size()
    }

    /// Runs on maps of shape `x`, giving maps of shape `y`, on `threads` threads.
    pub fn run(
        &self,
        x: Shape,
        input: &[u8],
        y: Shape,
        output: &mut [u8],
        residual: Option<&[u8]>,
        threads: usize,
    ) {
        let (pixels, outputs, size) = (y.pixels(), y.c, self.epilogue.numbers.size());
        let (row, block) = (4 * self.fours, self.epilogue.isa.block());
        let blocks = outputs.div_ceil(block);
        let task = |first: usize, pixels: usize, blocks: [usize; 2], output: &mut [u8]| {
            let at = first * outputs + blocks[0] * block;
            let residual = residual.map(|residual| &residual[at..][..output.len() / size]);
            let job = |rows: &[u8], output: &mut [u8]| {
                let rows = rows.as_chunks::<4>().0;
                self.epilogue.isa.run(Tiles {
                    product: self,
                    rows,
                    pixels,
                    blocks,
                    output,
                    residual,
                    outputs,
                });
            };
            match &self.windows {
                None => job(&input[first * row..][..pixels * row], output),
                Some(windows) => {
                    let mut room = WINDOWS.replace(avec![]);
                    room.resize(room.len().max(pixels * row), 0);
                    self.copy_windows(windows, x, input, y, first, &mut room[..pixels * row]);
                    job(&room[..pixels * row], output);
                    WINDOWS.replace(room);
                }
            }
        };
        if pixels == 1 {
            let blocks_per_task = blocks.div_ceil(threads).max(LEAST_WEIGHTS.div_ceil(block * row));
            let per_block = block * size;
            return threads::bands(
                threads,
                output,
                per_block,
                blocks_per_task * per_block,
                |first, output| {
                    task(0, 1, [first, first + output.len().div_ceil(per_block)], output);
                },
            );
        }
        let fit = (CACHE / (row + outputs * size)).max(PIXELS);
        // The same number of tasks per thread.
        let tasks = pixels.div_ceil(fit).next_multiple_of(threads);
        let pixels_per_task = pixels.div_ceil(tasks).next_multiple_of(PIXELS);
        let per_pixel = outputs * size;
        threads::bands(threads, output, per_pixel, pixels_per_task * per_pixel, |first, output| {
            task(first, output.len() / per_pixel, [0, blocks], output);
        });
    }

    /// Copies the windows of outputs from `first` on, one per row. The bytes that pad a row may have any
    /// value.
    fn copy_windows(
        &self,
        windows: &Windows,
        x: Shape,
        input: &[u8],
        y: Shape,
        first: usize,
        rows: &mut [u8],
    ) {
        let (row, zero) = (4 * self.fours, self.zero);
        let span = windows.kernel * x.c;
        // A window without dilation is contiguous along an axis if its first and last taps are on the map.
        let whole = |at: usize, axis: usize, size: usize| {
            let [first, last] =
                [0, windows.kernel - 1].map(|k| windows.tap_position(at, k, windows.padding[axis], size));
            last.and(first).filter(|_| windows.dilation == 1)
        };
        let (mut column, mut line, mut picture) = (first % y.w, first / y.w % y.h, first / (y.w * y.h));
        let mut top = whole(line, 0, x.h);
        for begin in (0..rows.len()).step_by(row) {
            let left = whole(column, 1, x.w);
            if let (Some(top), Some(left)) = (top, left) {
                let from = ((picture * x.h + top) * x.w + left) * x.c;
                copy(&input[from..], x.w * x.c, &mut rows[begin..], span, windows.kernel);
            } else {
                for ky in 0..windows.kernel {
                    let taps = &mut rows[begin + ky * span..];
                    let Some(line) = windows.tap_position(line, ky, windows.padding[0], x.h) else {
                        taps[..span].fill(zero);
                        continue;
                    };
                    let line = &input[(picture * x.h + line) * x.w * x.c..];
                    for (kx, tap) in taps[..span].chunks_exact_mut(x.c).enumerate() {
                        match windows.tap_position(column, kx, windows.padding[1], x.w) {
                            Some(column) => tap.copy_from_slice(&line[column * x.c..][..x.c]),
                            None => tap.fill(zero),
                        }
                    }
                }
            }
            column += 1;
            if column == y.w {
                (column, line) = (0, line + 1);
                if line == y.h {
                    (line, picture) = (0, picture + 1);
                }
                top = whole(line, 0, x.h);
            }
        }
    }
}

/// Pixels per tile: registers hold 24 vectors of sums, four of weights and one of inputs.
const PIXELS: usize = 6;

/// Pixels per tile without [`Vectors::LARGE_TILES`].
const FEW_PIXELS: usize = 2;

/// Some pixels, and a range of output blocks.
struct Tiles<'a> {
    product: &'a Product,
    /// `fours` groups of four inputs per pixel.
    rows: &'a [[u8; 4]],
    pixels: usize,
    blocks: [usize; 2],
    /// Starts at the first channel of the first block of the first pixel.
    output: &'a mut [u8],
    residual: Option<&'a [u8]>,
    outputs: usize,
}

impl Job for Tiles<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        if V::LARGE_TILES { self.all::<V, PIXELS>(v) } else { self.all::<V, FEW_PIXELS>(v) }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn all<V: Vectors, const P: usize>(mut self, v: V) {
        // A block's weights stay in the L1 cache for all pixels.
        for block in self.blocks[0]..self.blocks[1] {
            let mut pixel = 0;
            while pixel < self.pixels {
                if self.pixels < P {
                    self.tile::<V, 1>(v, block, pixel);
                    pixel += 1;
                } else {
                    // The last tile overlaps the previous one instead of being smaller.
                    self.tile::<V, P>(v, block, pixel.min(self.pixels - P));
                    pixel += P;
                }
            }
        }
    }

    #[inline(always)]
    fn tile<V: Vectors, const P: usize>(&mut self, v: V, block: usize, pixel: usize) {
        let Product { fours, weights, epilogue, .. } = self.product;
        let each = fours * 4 * V::BLOCK;
        let rows = &self.rows[pixel * fours..][..P * fours];
        let sums = sums::<V, P>(v, epilogue.begin(v, block), rows, &weights[block * each..][..each]);
        let at = pixel * self.outputs + (block - self.blocks[0]) * V::BLOCK;
        let residual = self.residual.map(|residual| &residual[at..]);
        let output = &mut self.output[at * epilogue.numbers.size()..];
        epilogue.store(v, block, sums, residual, output, self.outputs);
    }
}

/// Computes a block's sums of `P` rows, starting from `bias`.
#[inline(always)]
#[allow(unsafe_code)]
fn sums<V: Vectors, const P: usize>(
    v: V,
    bias: [V::Vector; 4],
    rows: &[[u8; 4]],
    weights: &[i8],
) -> [[V::Vector; 4]; P] {
    let fours = rows.len() / P;
    assert!(rows.len() == P * fours && weights.len() == fours * 4 * V::BLOCK);
    let mut sums = [bias; P];
    for four in 0..fours {
        let mut vectors = [v.weights(v.splat(0)); 4];
        for (i, vector) in vectors.iter_mut().enumerate() {
            // SAFETY: as asserted above, there are four blocks of weights per group.
            *vector =
                v.weights(unsafe { v.read(weights.as_ptr().cast::<u8>().add((4 * four + i) * V::BLOCK)) });
        }
        for (p, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as asserted above, each of the rows has `fours` groups.
            let maps = v.spread(unsafe { *rows.as_ptr().add(p * fours + four) });
            for (sum, weights) in sums.iter_mut().zip(vectors) {
                *sum = v.dot(*sum, maps, weights);
            }
        }
    }
    sums
}

/// Copies `count` runs of `span` bytes, which are `line` bytes apart in `from` and adjacent in `to`. The bytes
/// after them in `to` may change: they are written later, or are padding.
#[inline(always)]
fn copy(from: &[u8], line: usize, to: &mut [u8], span: usize, count: usize) {
    let (last, whole) = (count - 1, 16);
    // Windows of three-channel pictures: a constant length is one move.
    if span <= whole && last * line + whole <= from.len() && last * span + whole <= to.len() {
        for at in 0..count {
            to[at * span..][..whole].copy_from_slice(&from[at * line..][..whole]);
        }
    } else {
        for at in 0..count {
            to[at * span..][..span].copy_from_slice(&from[at * line..][..span]);
        }
    }
}
