//! Maps scaled to other rows and columns, and the channel with the largest value of such a map. An
//! output row lies between two rows of the map, which are blended first; its pixels between two
//! pixels of that.

use rayon::prelude::*;

use crate::{Shape, graph::NO_CLASS, kernels::resize::taps};

/// Output values that a task should make at least.
const LEAST_VALUES: usize = 16 << 10;

/// Bilinear interpolation.
pub fn resize(x: Shape, input: &[f32], y: Shape, output: &mut [f32]) {
    rows(x, input, y, output, y.c, |pixel, [left, right], share| {
        for ((value, left), right) in pixel.iter_mut().zip(left).zip(right) {
            *value = left + share * (right - left);
        }
    });
}

/// At each pixel of the map scaled the first channel with the largest value.
pub fn argmax(x: Shape, input: &[f32], y: Shape, output: &mut [f32]) {
    rows(x, input, y, output, x.c, |pixel, [left, right], share| {
        let (mut most, mut channel) = (f32::MIN, 0);
        let mut finite = true;
        for (i, (left, right)) in left.iter().zip(right).enumerate() {
            let value = left + share * (right - left);
            finite &= value.is_finite();
            if value > most {
                (most, channel) = (value, i);
            }
        }
        pixel[0] = if finite { channel as f32 } else { NO_CLASS.into() };
    });
}

/// Hands `make` every output pixel, of as many `values`, with the channels of the two pixels that it
/// lies between, of rows already blended, and the second one's share.
fn rows(
    x: Shape,
    input: &[f32],
    y: Shape,
    output: &mut [f32],
    values: usize,
    make: impl Fn(&mut [f32], [&[f32]; 2], f32) + Sync,
) {
    let row = x.w * x.c;
    let columns: Vec<(usize, usize, f32)> = (0..y.w).map(|at| between(at, x.w, y.w)).collect();
    let rows = output.par_chunks_exact_mut(y.w * y.c).enumerate();
    let rows = rows.with_min_len((LEAST_VALUES / (y.w * values)).max(1));
    rows.for_each_init(
        || vec![0.0; row],
        |blended, (at, output)| {
            let picture = &input[at / y.h * x.h * row..][..x.h * row];
            let (upper, lower, share) = between(at % y.h, x.h, y.h);
            let [upper, lower] = [upper, lower].map(|at| &picture[at * row..][..row]);
            vectorised!({
                for ((value, upper), lower) in blended.iter_mut().zip(upper).zip(lower) {
                    *value = upper + share * (lower - upper);
                }
                for (pixel, &(left, right, share)) in output.chunks_exact_mut(y.c).zip(&columns) {
                    make(pixel, [left, right].map(|at| &blended[at * x.c..][..x.c]), share);
                }
            });
        },
    );
}

/// The pixels that an output lies between, and the second one's share.
fn between(at: usize, size: usize, outputs: usize) -> (usize, usize, f32) {
    let (first, second, share) = taps(at, size, outputs);
    (first, second, share as f32)
}
