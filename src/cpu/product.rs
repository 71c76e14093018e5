//! Convolutions as matrix products: pixels by inputs times inputs by outputs. Maps and windows are read in
//! place; only windows that reach beyond the map are copied, with zero padding.

use std::cell::RefCell;

use aligned_vec::{AVec, avec};

use super::{
    activation,
    memory::Memory,
    threads,
    tile::{Job, OutputMatrix, Packed, Rows},
    windows::Windows,
};
use crate::{
    Shape,
    graph::{Activation, Conv, Window},
};

/// Bytes of inputs and outputs that a task keeps in its core's cache.
const CACHE: usize = 256 << 10;

/// The least number of pixels per thread. Below it, threads split the outputs instead, so that each weight is
/// read by only one of them.
const LEAST_PIXELS: usize = 64;

/// The least number of multiply-adds per task: below it, scheduling takes longer than computing.
const LEAST_WORK: usize = 64 << 10;

thread_local! {
    /// Segment starts, and copied windows.
    static ROWS: RefCell<(Vec<*const f32>, AVec<f32>)> = RefCell::new((vec![], avec![]));
}

/// A convolution with packed weights.
pub struct Product {
    windows: Windows,
    packed: Packed,
    activation: Activation,
}

impl Product {
    pub fn new(conv: &Conv, window: Window, memory: &mut Memory) -> Self {
        let packed = Packed::new(conv, memory);
        Self { windows: Windows::new(conv, window), packed, activation: conv.activation }
    }

    /// The number of weights and biases.
    pub fn weights(&self) -> usize {
        self.packed.values()
    }

    /// Runs on maps of shape `x`, giving maps of shape `y`, on at most `threads` threads. Returns whether all
    /// sums are finite.
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
        // Windows overlap, so the input counts once, not once per window.
        let each = x.len().div_ceil(y.pixels()) + outputs;
        let fit = (CACHE / (4 * each)).max(LEAST_PIXELS);
        let useful_threads = (y.pixels() * inputs * outputs).div_ceil(LEAST_WORK).min(threads);
        let mut tasks = [y.pixels().div_ceil(fit).next_multiple_of(useful_threads), 1];
        if useful_threads > 1 && y.pixels() < LEAST_PIXELS * useful_threads {
            tasks = [1, panels.min(useful_threads)];
        }
        let pixels_per_task = y.pixels().div_ceil(tasks[0]);
        let matrix = OutputMatrix::new(output, outputs, residual, self.activation);
        let task = |at: usize| {
            let first = at / tasks[1] * pixels_per_task;
            let rows = first..(first + pixels_per_task).min(y.pixels());
            let part = |i: usize| i * panels / tasks[1];
            let panels = part(at % tasks[1])..part(at % tasks[1] + 1);
            // Taken, not borrowed: while this thread waits for other tasks of a product, it may start a task
            // of another session.
            let (mut starts, mut copies) = ROWS.replace((vec![], avec![]));
            self.windows.find(x, input, y, rows, &mut starts, &mut copies);
            // SAFETY: the starts point to segments of `input` and `copies`, which `find` has written.
            let rows = unsafe { Rows::new(&starts, self.windows.segments(), self.windows.len(x.c)) };
            let finite = Job { packed: &self.packed, rows, output: &matrix, first, panels }.run();
            ROWS.set((starts, copies));
            finite
        };
        let tasks = y.pixels().div_ceil(pixels_per_task) * tasks[1];
        let finite = threads::all(threads, (0..tasks).collect(), task);
        activation::activate_late(self.activation, output);
        finite
    }
}
