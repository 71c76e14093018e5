//! Convolutions that are matrix products: pixels by inputs times inputs by outputs. Maps are read as they lie, a dense
//! convolution's windows too; only those that reach beyond the map are copied, with the zeros around it.

use std::{cell::RefCell, ops::Range};

use aligned_vec::{AVec, avec};
use rayon::prelude::*;

use super::{
    pixelwise::{self, first_run},
    tile::{Job, Packed, Rows, Sums},
};
use crate::{
    Shape,
    graph::{Activation, Conv, Window},
};

/// Bytes of inputs and outputs that a task should find in its core's cache.
const CACHE: usize = 256 << 10;

/// Pixels below which threads share out the outputs instead: each weight is then read by one of them alone.
const LEAST_PIXELS: usize = 64;

/// Multiply-adds that a task should have at least: handing over fewer would take longer.
const LEAST_WORK: usize = 64 << 10;

thread_local! {
    /// Where rows lie, and windows that were copied.
    static ROWS: RefCell<(Vec<*const f32>, AVec<f32>)> = RefCell::new((vec![], avec![]));
}

/// A convolution with its weights as the tiles read them.
pub struct Product {
    windows: Windows,
    packed: Packed,
    activation: Activation,
}

impl Product {
    pub fn new(conv: &Conv, window: Window) -> Self {
        Self { windows: Windows::new(conv, window), packed: Packed::new(conv), activation: conv.activation }
    }

    /// Values of weights and biases.
    pub fn weights(&self) -> usize {
        self.packed.values()
    }

    /// From pictures of shape `x` to pictures of shape `y`; whether all sums are finite. `threads` is how many
    /// there are.
    #[allow(unsafe_code)]
    pub fn run(
        &self,
        x: Shape,
        input: &[f32],
        y: Shape,
        output: &mut [f32],
        residual: Option<&[f32]>,
        threads: usize,
    ) -> bool {
        let (inputs, outputs, panels) = (self.packed.inputs, y.c, self.packed.panels());
        // Windows share what they read.
        let each = x.len().div_ceil(y.pixels()) + outputs;
        let fit = (CACHE / (4 * each)).max(LEAST_PIXELS);
        let worth = (y.pixels() * inputs * outputs).div_ceil(LEAST_WORK).min(threads);
        let mut tasks = [y.pixels().div_ceil(fit).next_multiple_of(worth), 1];
        if worth > 1 && y.pixels() < LEAST_PIXELS * worth {
            tasks = [1, panels.min(worth)];
        }
        let share = y.pixels().div_ceil(tasks[0]);
        let sums = Sums::new(output, outputs, residual, self.activation);
        let task = |at: usize| {
            let first = at / tasks[1] * share;
            let rows = first..(first + share).min(y.pixels());
            let part = |i: usize| i * panels / tasks[1];
            let panels = part(at % tasks[1])..part(at % tasks[1] + 1);
            // Taken, not borrowed: while it waits for others' part of a product this thread may begin another
            // session's.
            let (mut starts, mut copies) = ROWS.replace((vec![], avec![]));
            self.windows.find(x, input, y, rows, &mut starts, &mut copies);
            // SAFETY: the starts are those of segments of `input` and of `copies`, which are written before.
            let rows = unsafe { Rows::new(&starts, self.windows.segments(), self.windows.len(x.c)) };
            let finite = Job { packed: &self.packed, rows, sums: &sums, first, panels }.run();
            ROWS.set((starts, copies));
            finite
        };
        let tasks = y.pixels().div_ceil(share) * tasks[1];
        let finite = match tasks {
            1 => task(0),
            _ => (0..tasks).into_par_iter().with_max_len(1).map(task).reduce(|| true, |a, b| a && b),
        };
        pixelwise::activate_late(self.activation, output);
        finite
    }
}

/// Where a convolution's windows lie, of a map or of what is copied from it: in segments of taps side by side, each
/// with all channels.
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

    /// Taps that lie side by side.
    fn beside(&self) -> usize {
        if self.dilation == 1 { self.kernel } else { 1 }
    }

    fn segments(&self) -> usize {
        self.kernel * self.kernel / self.beside()
    }

    /// Values of a segment.
    fn len(&self, channels: usize) -> usize {
        self.beside() * channels
    }

    /// Where the segments of some outputs begin; windows that reach beyond the map are copied.
    fn find(
        &self,
        x: Shape,
        input: &[f32],
        y: Shape,
        outputs: Range<usize>,
        starts: &mut Vec<*const f32>,
        copies: &mut AVec<f32>,
    ) {
        if (self.kernel, self.stride) == (1, 1) {
            starts.clear();
            let pixels = &input[outputs.start * x.c..outputs.end * x.c];
            starts.extend(pixels.chunks_exact(x.c).map(<[f32]>::as_ptr));
            return;
        }
        let (len, window) = (self.len(x.c), self.segments() * self.len(x.c));
        let inner = |at: usize, axis: usize, size: usize| {
            let taps = [0, self.kernel - 1];
            taps.into_iter().all(|k| self.meets(at, k, self.padding[axis], size).is_some())
        };
        let inner_columns = first_run(y.w, |column| inner(column, 1, x.w));
        let inner_rows = first_run(y.h, |row| inner(row, 0, x.h));
        let segments = self.segments();
        starts.clear();
        starts.resize(outputs.len() * segments, std::ptr::null());
        // One pixel never reaches beyond. Where copies lie must not change any more.
        let most = if self.kernel > 1 { outputs.len() * window } else { 0 };
        copies.resize(copies.len().max(most), 0.0);
        let mut copies = copies.chunks_exact_mut(window);
        let mut at = outputs.start;
        while at < outputs.end {
            let (line, first) = (at / y.w, at % y.w);
            let (row, picture) = (line % y.h, &input[line / y.h * x.h * x.w * x.c..][..x.h * x.w * x.c]);
            let end = (first + outputs.end - at).min(y.w);
            let starts = &mut starts[(at - outputs.start) * segments..][..(end - first) * segments];
            let inner = if inner_rows.contains(&row) {
                inner_columns.start.clamp(first, end)..inner_columns.end.clamp(first, end)
            } else {
                end..end
            };
            for segment in 0..if inner.is_empty() { 0 } else { segments } {
                let (ky, kx) = (segment * self.beside() / self.kernel, segment * self.beside() % self.kernel);
                let line = (row * self.stride + ky * self.dilation - self.padding[0]) * x.w;
                let left = inner.start * self.stride + kx * self.dilation - self.padding[1];
                let mut line = &picture[(line + left) * x.c..];
                let places =
                    starts[(inner.start - first) * segments + segment..].iter_mut().step_by(segments);
                for start in places.take(inner.len()) {
                    *start = line[..len].as_ptr();
                    line = line.get(self.stride * x.c..).unwrap_or(&[]);
                }
            }
            for column in (first..inner.start).chain(inner.end..end) {
                if let Some(copy) = copies.next() {
                    self.copy(x, picture, [row, column], copy);
                    let places = &mut starts[(column - first) * segments..][..segments];
                    places
                        .iter_mut()
                        .zip(copy.chunks_exact(len))
                        .for_each(|(start, copy)| *start = copy.as_ptr());
                }
            }
            at += end - first;
        }
    }

    /// The window of an output: zeros where it leaves the map.
    fn copy(&self, x: Shape, picture: &[f32], [row, column]: [usize; 2], window: &mut [f32]) {
        for (tap, values) in window.chunks_exact_mut(x.c).enumerate() {
            let (ky, kx) = (tap / self.kernel, tap % self.kernel);
            let row = self.meets(row, ky, self.padding[0], x.h);
            match row.zip(self.meets(column, kx, self.padding[1], x.w)) {
                Some((row, column)) => values.copy_from_slice(&picture[(row * x.w + column) * x.c..][..x.c]),
                None => values.fill(0.0),
            }
        }
    }

    /// Where tap `k` of the output at `at` meets a map of `size`, in one direction.
    fn meets(&self, at: usize, k: usize, before: usize, size: usize) -> Option<usize> {
        (at * self.stride + k * self.dilation).checked_sub(before).filter(|&at| at < size)
    }
}
