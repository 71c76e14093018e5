//! Depthwise convolution: a block is as many channels of one pixel. Of each row of outputs the map's rows are first
//! interleaved, four taps of a column to a sum, which then serve every output whose window the column is in.

use std::cell::RefCell;

use aligned_vec::{AVec, avec};
use rayon::prelude::*;

use super::{
    finish::{Finish, channel},
    numbers::{Numbers, zero},
    vectors::{Isa, Job, MOST, Vectors},
};
use crate::{
    Shape,
    graph::{Affine, Conv, Window},
};

/// Outputs beside one another that share each weight.
const RUN: usize = 4;

/// Bytes of an output that a task should make at least: handing over fewer would take longer.
const LEAST: usize = 16 << 10;

thread_local! {
    /// The columns of a row of outputs.
    static COLUMNS: RefCell<AVec<u8>> = RefCell::new(avec![]);
}

/// A depthwise convolution with its weights as the loops read them.
pub struct Depthwise {
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: [usize; 2],
    /// Fours of taps in a column.
    fours: usize,
    zero: u8,
    /// `[blocks][kernel][fours][block][4]`
    weights: AVec<i8>,
    finish: Finish,
}

impl Depthwise {
    pub fn new(isa: Isa, conv: &Conv, window: Window, input: Affine, numbers: Numbers) -> Self {
        let (kernel, channels, block) = (conv.kernel(), conv.outputs(), isa.block());
        let fours = kernel.div_ceil(4);
        let weight = |at: usize| {
            let (place, four, kx) = (at / 4 % block, at / 4 / block % fours, at / 4 / block / fours % kernel);
            let c = channel(block, at / 4 / block / fours / kernel * block + place);
            let ky = 4 * four + at % 4;
            if c < channels && ky < kernel {
                numbers.integers.weights[(c * kernel + ky) * kernel + kx]
            } else {
                0
            }
        };
        let all = channels.next_multiple_of(block) * kernel * fours * 4;
        Self {
            kernel,
            stride: conv.stride,
            dilation: conv.dilation,
            padding: [window.top, window.left],
            fours,
            zero: zero(input),
            weights: AVec::from_iter(0, (0..all).map(weight)),
            finish: Finish::new(isa, numbers),
        }
    }

    /// Bytes of weights, biases and factors.
    pub fn bytes(&self) -> usize {
        self.weights.len() + self.finish.bytes()
    }

    /// Bytes of a value that it makes.
    pub fn size(&self) -> usize {
        self.finish.numbers.size()
    }

    /// From pictures of shape `x` to pictures of shape `y`, rows in parallel.
    pub fn run(&self, x: Shape, input: &[u8], y: Shape, output: &mut [u8], residual: Option<&[u8]>) {
        let picture = x.h * x.w * x.c;
        let row = y.w * y.c * self.finish.numbers.size();
        let rows = output.par_chunks_exact_mut(row).enumerate();
        rows.with_min_len((LEAST / row).max(1)).for_each(|(at, output)| {
            let input = &input[at / y.h * picture..][..picture];
            let residual = residual.map(|residual| &residual[at * y.w * y.c..][..y.w * y.c]);
            let mut columns = COLUMNS.replace(avec![]);
            let room = self.columns(y.w) * self.fours * 4 * self.finish.isa.block();
            columns.resize(columns.len().max(room), 0);
            let columns_of = &mut columns[..room];
            self.finish.isa.run(Row {
                conv: self,
                x,
                input,
                y: at % y.h,
                width: y.w,
                output,
                residual,
                columns: columns_of,
            });
            COLUMNS.replace(columns);
        });
    }

    /// Columns that the windows of so many outputs reach.
    fn columns(&self, width: usize) -> usize {
        (width - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
    }
}

/// One row of outputs.
struct Row<'a> {
    conv: &'a Depthwise,
    x: Shape,
    /// The picture.
    input: &'a [u8],
    /// Which row.
    y: usize,
    width: usize,
    output: &'a mut [u8],
    residual: Option<&'a [u8]>,
    /// `[columns][fours][block][4]`
    columns: &'a mut [u8],
}

impl Job for Row<'_> {
    #[inline(always)]
    fn run<V: Vectors>(mut self, v: V) {
        for block in 0..self.x.c.div_ceil(V::BLOCK) {
            self.interleave(v, block);
            let mut column = 0;
            while column < self.width {
                if self.width < RUN {
                    self.tile::<V, 1>(v, block, column);
                    column += 1;
                } else {
                    // The last tile makes some outputs again, rather than fewer.
                    self.tile::<V, RUN>(v, block, column.min(self.width - RUN));
                    column += RUN;
                }
            }
        }
    }
}

impl Row<'_> {
    /// The columns of a block's channels.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn interleave<V: Vectors>(&mut self, v: V, block: usize) {
        let Self { conv, x, input, y, .. } = *self;
        assert!(input.len() == x.h * x.w * x.c);
        let (first, there) = (block * V::BLOCK, V::BLOCK.min(x.c - block * V::BLOCK));
        let zeros = [conv.zero; MOST];
        let each = 4 * V::BLOCK;
        let columns = self.columns.len() / each / conv.fours;
        let left = conv.padding[1].min(columns);
        let right = (left + x.w).min(columns);
        for four in 0..conv.fours {
            // Of each tap's row where it begins and how far a column is: off the map zeros, wherever one is. What is
            // no tap counts nothing, and may be anything.
            let mut rows = [(zeros.as_ptr(), 0); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                let at = y * conv.stride + (4 * four + i).min(conv.kernel - 1) * conv.dilation;
                if let Some(at) = at.checked_sub(conv.padding[0]).filter(|&at| at < x.h) {
                    *row = (input[at * x.w * x.c + first..].as_ptr(), x.c);
                }
            }
            let off = v.interleave([v.splat_byte(conv.zero); 4]);
            for column in (0..left).chain(right..columns) {
                let room = &mut self.columns[(column * conv.fours + four) * each..][..each];
                for (i, vector) in off.into_iter().enumerate() {
                    v.store_bytes(vector, &mut room[i * V::BLOCK..][..V::BLOCK]);
                }
            }
            for column in left..right {
                let mut places = [v.splat(0); 4];
                for (place, (row, step)) in places.iter_mut().zip(rows) {
                    // SAFETY: the row is on the map and the column is, and so are the block's channels that are
                    // there; or there are as many zeros.
                    *place = unsafe {
                        let from = row.add((column - left) * step);
                        if there == V::BLOCK {
                            v.read(from)
                        } else {
                            v.load_bytes(std::slice::from_raw_parts(from, there))
                        }
                    };
                }
                let room = &mut self.columns[(column * conv.fours + four) * each..][..each];
                for (i, vector) in v.interleave(places).into_iter().enumerate() {
                    v.store_bytes(vector, &mut room[i * V::BLOCK..][..V::BLOCK]);
                }
            }
        }
    }

    /// The outputs from `column` on.
    #[inline(always)]
    fn tile<V: Vectors, const P: usize>(&mut self, v: V, block: usize, column: usize) {
        let finish = &self.conv.finish;
        let sums = self.sums::<V, P>(v, block, column);
        let channels = self.x.c;
        let at = column * channels + block * V::BLOCK;
        let residual = self.residual.map(|residual| &residual[at..]);
        let output = &mut self.output[at * finish.numbers.size()..];
        finish.store(v, block, sums, residual, output, channels);
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn sums<V: Vectors, const P: usize>(&self, v: V, block: usize, column: usize) -> [[V::Vector; 4]; P] {
        let Depthwise { kernel, stride, dilation, fours, weights, finish, .. } = self.conv;
        let each = 4 * V::BLOCK;
        let taps = kernel * fours;
        let weights = &weights[block * taps * each..][..taps * each];
        let columns = &self.columns[column * stride * fours * each..];
        let reach = (P - 1) * stride + (kernel - 1) * dilation + 1;
        assert!(columns.len() >= reach * fours * each);
        let mut sums = [finish.begin(v, block); P];
        for kx in 0..*kernel {
            for four in 0..*fours {
                for i in 0..4 {
                    let tap = ((kx * fours + four) * 4 + i) * V::BLOCK;
                    // SAFETY: there are four blocks of weights for each tap and four, as sliced above.
                    let weights = v.weights(unsafe { v.read(weights.as_ptr().cast::<u8>().add(tap)) });
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let at = (p * stride + kx * dilation) * fours + four;
                        // SAFETY: the last output's last tap is within reach, as asserted above.
                        let maps = v.maps(unsafe { v.read(columns.as_ptr().add(at * each + i * V::BLOCK)) });
                        sums[i] = v.dot(sums[i], maps, weights);
                    }
                }
            }
        }
        sums
    }
}
