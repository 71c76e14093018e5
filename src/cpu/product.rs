//! Pointwise and dense convolutions as matrix products: pixels by inputs times inputs by
//! outputs. A pointwise one reads the map as it lies, a dense one first copies each pixel's window.

use std::cell::RefCell;

use aligned_vec::{AVec, avec};
use gemm::Parallelism;
use rayon::prelude::*;

use super::pixelwise::{self, Finish};
use crate::{
    Shape,
    graph::{Activation, Conv, Window},
};

/// Bytes of operands and sums that a task should find in its core's cache.
const CACHE: usize = 256 << 10;

/// Pixels below which a task would spend its time on packing weights: all threads then share one product.
const LEAST_PIXELS: usize = 64;

thread_local! {
    /// The windows that a dense convolution has copied.
    static WINDOWS: RefCell<AVec<f32>> = RefCell::new(avec![]);
}

/// A convolution with its weights as the product reads them.
pub struct Product {
    /// What a dense convolution copies; none if the map's pixels are the rows.
    windows: Option<Windows>,
    /// `[kernel][kernel][inputs][outputs]`
    weights: AVec<f32>,
    bias: AVec<f32>,
    activation: Activation,
}

impl Product {
    pub fn new(conv: &Conv, window: Window) -> Self {
        let (inputs, outputs, taps) = (conv.inputs(), conv.outputs(), conv.kernel() * conv.kernel());
        let weight = conv.weight.data();
        let mut weights = avec![0.0; weight.len()];
        for (at, value) in weights.iter_mut().enumerate() {
            let (output, input, tap) = (at % outputs, at / outputs % inputs, at / outputs / inputs);
            *value = weight[(output * inputs + input) * taps + tap];
        }
        Self {
            windows: (taps > 1 || conv.stride > 1).then(|| Windows::new(conv, window)),
            weights,
            bias: pixelwise::bias(conv),
            activation: conv.activation,
        }
    }

    /// Values of weights and biases.
    pub fn weights(&self) -> usize {
        self.weights.len() + self.bias.len()
    }

    /// From pictures of shape `x` to pictures of shape `y`; whether all sums are finite. `threads` is how many
    /// there are.
    pub fn run(
        &self,
        x: Shape,
        input: &[f32],
        y: Shape,
        output: &mut [f32],
        residual: Option<&[f32]>,
        threads: usize,
    ) -> bool {
        let (inputs, outputs) = (self.weights.len() / y.c, y.c);
        let fit = (CACHE / (4 * (inputs + outputs))).max(LEAST_PIXELS);
        // As many tasks for each thread.
        let tasks = y.pixels().div_ceil(fit).next_multiple_of(threads);
        let share = y.pixels().div_ceil(tasks);
        let (share, parallelism) = if threads > 1 && share < LEAST_PIXELS {
            (y.pixels(), Parallelism::Rayon(threads))
        } else {
            (share, Parallelism::None)
        };
        let task = |(at, sums): (usize, &mut [f32])| {
            let (first, pixels) = (at * share, sums.len() / outputs);
            match &self.windows {
                None => {
                    let rows = &input[first * inputs..][..pixels * inputs];
                    multiply(rows, &self.weights, sums, [pixels, inputs, outputs], parallelism);
                }
                Some(windows) => {
                    // Taken, not borrowed: while it waits for others' part of a product this
                    // thread may begin another session's.
                    let mut room = WINDOWS.replace(avec![]);
                    room.resize(room.len().max(pixels * inputs), 0.0);
                    let rows = &mut room[..pixels * inputs];
                    windows.copy(x, input, y, first, rows);
                    multiply(rows, &self.weights, sums, [pixels, inputs, outputs], parallelism);
                    WINDOWS.replace(room);
                }
            }
            let residual = residual.map(|residual| &residual[first * outputs..][..sums.len()]);
            Finish { sums, bias: &self.bias, residual, activation: self.activation }.run()
        };
        if share == y.pixels() {
            task((0, output))
        } else {
            output.par_chunks_mut(share * outputs).enumerate().map(task).reduce(|| true, |a, b| a && b)
        }
    }
}

/// Where a dense convolution's windows lie.
struct Windows {
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: [usize; 2],
}

impl Windows {
    fn new(conv: &Conv, window: Window) -> Self {
        let padding = [window.top, window.left];
        Self { kernel: conv.kernel(), stride: conv.stride, dilation: conv.dilation, padding }
    }

    /// The windows of outputs from the `first` on, a row each: zeros where they leave the map.
    fn copy(&self, x: Shape, input: &[f32], y: Shape, first: usize, rows: &mut [f32]) {
        let span = self.kernel * x.c;
        for (at, window) in rows.chunks_exact_mut(self.kernel * span).enumerate() {
            let at = first + at;
            let (column, row, picture) = (at % y.w, at / y.w % y.h, at / (y.w * y.h));
            for (ky, taps) in window.chunks_exact_mut(span).enumerate() {
                let Some(row) = self.meets(row, ky, self.padding[0], x.h) else {
                    taps.fill(0.0);
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
                        None => tap.fill(0.0),
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

/// `sums = rows * weights`, all of them row-major: `[m, k]` times `[k, n]`.
#[allow(unsafe_code)]
fn multiply(
    rows: &[f32],
    weights: &[f32],
    sums: &mut [f32],
    [m, k, n]: [usize; 3],
    parallelism: Parallelism,
) {
    assert!(rows.len() == m * k && weights.len() == k * n && sums.len() == m * n);
    let (k_stride, n_stride) = (k as isize, n as isize);
    // SAFETY: the pointers reach as far as the lengths asserted above, which are what the
    // extents and strides walk over, and `sums` is borrowed for nobody else.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            sums.as_mut_ptr(),
            1,
            n_stride,
            false,
            rows.as_ptr(),
            1,
            k_stride,
            weights.as_ptr(),
            1,
            n_stride,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
