//! The positions of a convolution's windows on a map.

use std::ops::Range;

use aligned_vec::AVec;

use super::pixelwise::first_run;
use crate::{
    Shape,
    graph::{Conv, Window},
};

/// A convolution's window geometry. A window is read from the map, or from a copy, as segments of adjacent
/// taps with all their channels.
pub struct Windows {
    pub kernel: usize,
    stride: usize,
    pub dilation: usize,
    /// Rows above and columns to the left.
    pub padding: [usize; 2],
}

impl Windows {
    pub fn new(conv: &Conv, window: Window) -> Self {
        let padding = [window.top, window.left];
        Self { kernel: conv.kernel(), stride: conv.stride, dilation: conv.dilation, padding }
    }

    /// The number of adjacent taps per segment.
    fn segment_taps(&self) -> usize {
        if self.dilation == 1 { self.kernel } else { 1 }
    }

    pub fn segments(&self) -> usize {
        self.kernel * self.kernel / self.segment_taps()
    }

    /// The number of values per segment.
    pub fn len(&self, channels: usize) -> usize {
        self.segment_taps() * channels
    }

    /// Finds the starts of the segments of some outputs' windows. Windows that reach beyond the map are
    /// copied.
    pub fn find(
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
            taps.into_iter().all(|k| self.tap_position(at, k, self.padding[axis], size).is_some())
        };
        let inner_columns = first_run(y.w, |column| inner(column, 1, x.w));
        let inner_rows = first_run(y.h, |row| inner(row, 0, x.h));
        let segments = self.segments();
        // Every start is written below.
        starts.resize(outputs.len() * segments, std::ptr::null());
        // A window of one pixel never reaches beyond the map. The copies must not move once `starts` points
        // to them.
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
                let (ky, kx) = (
                    segment * self.segment_taps() / self.kernel,
                    segment * self.segment_taps() % self.kernel,
                );
                let line = (row * self.stride + ky * self.dilation - self.padding[0]) * x.w;
                let left = inner.start * self.stride + kx * self.dilation - self.padding[1];
                let step = self.stride * x.c;
                let line = &picture[(line + left) * x.c..][..(inner.len() - 1) * step + len];
                let targets = starts[(inner.start - first) * segments..].chunks_exact_mut(segments);
                for (starts, at) in targets.take(inner.len()).zip((0..).step_by(step)) {
                    starts[segment] = line[at..].as_ptr();
                }
            }
            for column in (first..inner.start).chain(inner.end..end) {
                if let Some(copy) = copies.next() {
                    self.copy(x, picture, [row, column], copy);
                    let targets = &mut starts[(column - first) * segments..][..segments];
                    targets
                        .iter_mut()
                        .zip(copy.chunks_exact(len))
                        .for_each(|(start, copy)| *start = copy.as_ptr());
                }
            }
            at += end - first;
        }
    }

    /// Copies an output's window, with zeros off the map.
    fn copy(&self, x: Shape, picture: &[f32], [row, column]: [usize; 2], window: &mut [f32]) {
        for (tap, values) in window.chunks_exact_mut(x.c).enumerate() {
            let (ky, kx) = (tap / self.kernel, tap % self.kernel);
            let row = self.tap_position(row, ky, self.padding[0], x.h);
            match row.zip(self.tap_position(column, kx, self.padding[1], x.w)) {
                Some((row, column)) => values.copy_from_slice(&picture[(row * x.w + column) * x.c..][..x.c]),
                None => values.fill(0.0),
            }
        }
    }

    /// The position of tap `k` of output `at` along one axis, if it is on a map of `size`.
    pub fn tap_position(&self, at: usize, k: usize, padding: usize, size: usize) -> Option<usize> {
        (at * self.stride + k * self.dilation).checked_sub(padding).filter(|&at| at < size)
    }
}
