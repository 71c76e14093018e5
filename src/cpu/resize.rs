//! Bilinear resizing, and argmax over the channels of a resized map. An output row first blends two input
//! rows; each of its pixels then blends two pixels of the blended row.

use super::threads;
use crate::{Shape, graph::NO_CLASS, kernels::resize::taps};

/// The least number of output values per task.
const LEAST_VALUES: usize = 16 << 10;

/// Resizes a map by bilinear interpolation.
pub fn resize(x: Shape, input: &[f32], y: Shape, output: &mut [f32], threads: usize) {
    rows(x, input, y, output, y.c, threads, |pixel, [left, right], weight| {
        for ((value, left), right) in pixel.iter_mut().zip(left).zip(right) {
            *value = left + weight * (right - left);
        }
    });
}

/// Finds the first channel with the largest value at each pixel of the resized map.
pub fn argmax(x: Shape, input: &[f32], y: Shape, output: &mut [f32], threads: usize) {
    rows(x, input, y, output, x.c, threads, |pixel, [left, right], weight| {
        let (mut most, mut channel) = (f32::MIN, 0);
        let mut finite = true;
        for (i, (left, right)) in left.iter().zip(right).enumerate() {
            let value = left + weight * (right - left);
            finite &= value.is_finite();
            if value > most {
                (most, channel) = (value, i);
            }
        }
        pixel[0] = if finite { channel as f32 } else { NO_CLASS.into() };
    });
}

/// Calls `make` for every output pixel with its left and right pixel of the blended row, and the right one's
/// weight. `values` is the number of values computed per pixel.
fn rows(
    x: Shape,
    input: &[f32],
    y: Shape,
    output: &mut [f32],
    values: usize,
    threads: usize,
    make: impl Fn(&mut [f32], [&[f32]; 2], f32) + Sync,
) {
    let row = x.w * x.c;
    let columns: Vec<(usize, usize, f32)> = (0..y.w).map(|at| between(at, x.w, y.w)).collect();
    let line = y.w * y.c;
    let least = LEAST_VALUES * y.c / values;
    threads::bands(threads, output, line, least, |first, band| {
        let mut blended = vec![0.0; row];
        for (at, output) in band.chunks_exact_mut(line).enumerate() {
            let at = first + at;
            let picture = &input[at / y.h * x.h * row..][..x.h * row];
            let (upper, lower, weight) = between(at % y.h, x.h, y.h);
            let [upper, lower] = [upper, lower].map(|at| &picture[at * row..][..row]);
            vectorised!({
                for ((value, upper), lower) in blended.iter_mut().zip(upper).zip(lower) {
                    *value = upper + weight * (lower - upper);
                }
                for (pixel, &(left, right, weight)) in output.chunks_exact_mut(y.c).zip(&columns) {
                    make(pixel, [left, right].map(|at| &blended[at * x.c..][..x.c]), weight);
                }
            });
        }
    });
}

/// The two input positions that output `at` lies between, and the second one's weight.
fn between(at: usize, size: usize, outputs: usize) -> (usize, usize, f32) {
    let (first, second, weight) = taps(at, size, outputs);
    (first, second, weight as f32)
}
