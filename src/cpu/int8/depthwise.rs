//! Int8 depthwise convolution, a block of channels of one pixel at a time. For each output row, the input
//! rows are interleaved first: each 32-bit lane gets four taps of a column. All outputs whose windows contain
//! a column then share it.

use std::cell::RefCell;

use aligned_vec::{AVec, avec};

use super::{
    epilogue::{Epilogue, channel},
    numbers::{Numbers, zero},
    vectors::{Isa, Job, MAX_BLOCK, Vectors},
};
use crate::{
    Shape,
    cpu::{
        memory::{Buffer, Memory},
        threads,
    },
    graph::{Affine, Conv, Window},
};

/// Adjacent outputs that share each load of a weight.
const RUN: usize = 4;

/// The least number of output bytes per task: below it, scheduling takes longer than computing.
const LEAST: usize = 16 << 10;

thread_local! {
    /// The interleaved columns of an output row.
    static COLUMNS: RefCell<AVec<u8>> = RefCell::new(avec![]);
}

/// The taps of an output. Passed as a constant to inlined code, so that offsets are constant.
#[derive(Clone, Copy)]
struct Taps {
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Groups of four taps per column.
    fours: usize,
}

impl Taps {
    const fn new(kernel: usize, stride: usize, dilation: usize) -> Self {
        Self { kernel, stride, dilation, fours: kernel.div_ceil(4) }
    }

    /// The number of columns that the windows of `width` outputs span.
    fn columns(self, width: usize) -> usize {
        (width - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
    }
}

/// A depthwise convolution with packed weights.
pub struct Depthwise {
    taps: Taps,
    padding: [usize; 2],
    zero: u8,
    /// `[blocks][kernel][fours][block][4]`
    weights: Buffer<i8>,
    epilogue: Epilogue,
}

impl Depthwise {
    pub fn new(
        isa: Isa,
        conv: &Conv,
        window: Window,
        input: Affine,
        numbers: Numbers,
        memory: &mut Memory,
    ) -> Self {
        let (kernel, channels, block) = (conv.kernel(), conv.outputs(), isa.block());
        let taps = Taps::new(kernel, conv.stride, conv.dilation);
        let fours = taps.fours;
        let weight = |at: usize| {
            let (index, four, kx) = (at / 4 % block, at / 4 / block % fours, at / 4 / block / fours % kernel);
            let c = channel(block, at / 4 / block / fours / kernel * block + index);
            let ky = 4 * four + at % 4;
            if c < channels && ky < kernel {
                numbers.integers.weights[(c * kernel + ky) * kernel + kx]
            } else {
                0
            }
        };
        let all = channels.next_multiple_of(block) * kernel * fours * 4;
        Self {
            taps,
            padding: [window.top, window.left],
            zero: zero(input),
            weights: memory.copy_of(&(0..all).map(weight).collect::<Vec<_>>()),
            epilogue: Epilogue::new(isa, numbers),
        }
    }

    /// Bytes of weights, biases and factors.
    pub fn bytes(&self) -> usize {
        self.weights.len() + self.epilogue.bytes()
    }

    /// Bytes per output value.
    pub fn size(&self) -> usize {
        self.epilogue.numbers.size()
    }

    /// Runs on maps of shape `x`, giving maps of shape `y`, with the rows split over `threads` threads.
    pub fn run(
        &self,
        x: Shape,
        input: &[u8],
        y: Shape,
        output: &mut [u8],
        residual: Option<&[u8]>,
        threads: usize,
    ) {
        let picture = x.h * x.w * x.c;
        let row = y.w * y.c * self.epilogue.numbers.size();
        threads::bands(threads, output, row, LEAST, |first, band| {
            let mut columns = COLUMNS.replace(avec![]);
            let room = self.taps.columns(y.w) * self.taps.fours * 4 * self.epilogue.isa.block();
            columns.resize(columns.len().max(room), 0);
            for (at, output) in band.chunks_exact_mut(row).enumerate() {
                let at = first + at;
                self.epilogue.isa.run(Row {
                    conv: self,
                    x,
                    input: &input[at / y.h * picture..][..picture],
                    y: at % y.h,
                    width: y.w,
                    output,
                    residual: residual.map(|residual| &residual[at * y.w * y.c..][..y.w * y.c]),
                    columns: &mut columns[..room],
                });
            }
            COLUMNS.replace(columns);
        });
    }
}

/// One output row.
struct Row<'a> {
    conv: &'a Depthwise,
    x: Shape,
    /// The picture's input map.
    input: &'a [u8],
    /// The row's index.
    y: usize,
    width: usize,
    output: &'a mut [u8],
    residual: Option<&'a [u8]>,
    /// `[columns][fours][block][4]`
    columns: &'a mut [u8],
}

impl Job for Row<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let taps = self.conv.taps;
        // Only for long vectors: the code is long.
        if V::LANES < 8 {
            return self.all(v, taps);
        }
        match (taps.kernel, taps.stride, taps.dilation) {
            (3, 1, 1) => self.all(v, Taps::new(3, 1, 1)),
            (3, 2, 1) => self.all(v, Taps::new(3, 2, 1)),
            (5, 1, 1) => self.all(v, Taps::new(5, 1, 1)),
            (5, 2, 1) => self.all(v, Taps::new(5, 2, 1)),
            _ => self.all(v, taps),
        }
    }
}

impl Row<'_> {
    /// Computes all blocks.
    #[inline(always)]
    fn all<V: Vectors>(mut self, v: V, taps: Taps) {
        for block in 0..self.x.c.div_ceil(V::BLOCK) {
            self.interleave(v, taps, block);
            let mut column = 0;
            while column < self.width {
                if self.width < RUN {
                    self.tile::<V, 1>(v, taps, block, column);
                    column += 1;
                } else {
                    // The last tile overlaps the previous one instead of being smaller.
                    self.tile::<V, RUN>(v, taps, block, column.min(self.width - RUN));
                    column += RUN;
                }
            }
        }
    }

    /// Interleaves the columns of a block's channels.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn interleave<V: Vectors>(&mut self, v: V, taps: Taps, block: usize) {
        let Self { conv, x, input, y, .. } = *self;
        assert!(input.len() == x.h * x.w * x.c);
        let (first, count) = (block * V::BLOCK, V::BLOCK.min(x.c - block * V::BLOCK));
        let zeros = [conv.zero; MAX_BLOCK];
        let each = 4 * V::BLOCK;
        let Taps { kernel, stride, dilation, fours } = taps;
        let columns = self.columns.len() / each / fours;
        let left = conv.padding[1].min(columns);
        let right = (left + x.w).min(columns);
        for four in 0..fours {
            // Per tap, the start of its row and the distance between columns. Off the map: zeros, with a
            // distance of 0. Padding taps have zero weights, so that any row will do.
            let mut rows = [(zeros.as_ptr(), 0); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                let at = y * stride + (4 * four + i).min(kernel - 1) * dilation;
                if let Some(at) = at.checked_sub(conv.padding[0]).filter(|&at| at < x.h) {
                    *row = (input[at * x.w * x.c + first..].as_ptr(), x.c);
                }
            }
            let off = v.interleave([v.splat_byte(conv.zero); 4]);
            for column in (0..left).chain(right..columns) {
                let room = &mut self.columns[(column * fours + four) * each..][..each];
                for (i, vector) in off.into_iter().enumerate() {
                    v.store_bytes(vector, &mut room[i * V::BLOCK..][..V::BLOCK]);
                }
            }
            for column in left..right {
                let mut sources = [v.splat(0); 4];
                for (source, (row, step)) in sources.iter_mut().zip(rows) {
                    // SAFETY: the row, the column and the block's `count` channels are on the map, or `from`
                    // points to that many zeros.
                    *source = unsafe {
                        let from = row.add((column - left) * step);
                        if count == V::BLOCK {
                            v.read(from)
                        } else {
                            v.load_bytes(std::slice::from_raw_parts(from, count))
                        }
                    };
                }
                let room = &mut self.columns[(column * fours + four) * each..][..each];
                for (i, vector) in v.interleave(sources).into_iter().enumerate() {
                    v.store_bytes(vector, &mut room[i * V::BLOCK..][..V::BLOCK]);
                }
            }
        }
    }

    /// Computes `P` outputs from `column` on.
    #[inline(always)]
    fn tile<V: Vectors, const P: usize>(&mut self, v: V, taps: Taps, block: usize, column: usize) {
        let epilogue = &self.conv.epilogue;
        let channels = self.x.c;
        let at = column * channels + block * V::BLOCK;
        // Sliced before the sums: otherwise the compiler moves products past the branches of this slice, and spills
        // their loads.
        let residual = self.residual.map(|residual| &residual[at..]);
        let sums = self.sums::<V, P>(v, taps, block, column);
        let output = &mut self.output[at * epilogue.numbers.size()..];
        epilogue.store(v, block, sums, residual, output, channels);
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn sums<V: Vectors, const P: usize>(
        &self,
        v: V,
        taps: Taps,
        block: usize,
        column: usize,
    ) -> [[V::Vector; 4]; P] {
        let Depthwise { weights, epilogue, .. } = self.conv;
        let Taps { kernel, stride, dilation, fours } = taps;
        let each = 4 * V::BLOCK;
        let block_weights = kernel * fours * each;
        let weights = &weights[block * block_weights..][..block_weights];
        let columns = &self.columns[column * stride * fours * each..];
        assert!(columns.len() >= taps.columns(P) * fours * each);
        let mut sums = [epilogue.begin(v, block); P];
        // One vector of channels after another: registers then hold its weights and all its maps.
        for i in 0..4 {
            for kx in 0..kernel {
                for four in 0..fours {
                    let tap = ((kx * fours + four) * 4 + i) * V::BLOCK;
                    // SAFETY: as sliced above, there are four blocks of weights per tap and group.
                    let weights = v.weights(unsafe { v.read(weights.as_ptr().cast::<u8>().add(tap)) });
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let at = (p * stride + kx * dilation) * fours + four;
                        // SAFETY: as asserted above, `columns` reaches the last tap of the last output.
                        let maps = v.maps(unsafe { v.read(columns.as_ptr().add(at * each + i * V::BLOCK)) });
                        sums[i] = v.dot(sums[i], maps, weights);
                    }
                }
            }
        }
        sums
    }
}
