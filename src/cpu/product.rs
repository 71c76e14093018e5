//! Convolutions that are matrix products: pixels by inputs times inputs by outputs. Maps are read as they lie, a dense
//! convolution's windows too; only those that reach beyond the map are copied, with the zeros around it.

use std::cell::RefCell;

use aligned_vec::{AVec, avec};
use rayon::prelude::*;

use super::{
    pixelwise,
    tile::{Job, Packed, Rows, Sums},
    windows::Windows,
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
