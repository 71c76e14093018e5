//! Detector post-processing: softmax, box decoding, and selection of the best scores.

use super::threads;
use crate::{
    Shape,
    graph::{Anchor, CENTRE_WEIGHT, MOST_GROWTH, SIZE_WEIGHT, Select},
    kernels::select::better,
};

/// Applies softmax to each run of `classes` channels. The input has one row per anchor, the output one row
/// per class.
pub fn softmax(classes: usize, input: &[f32], y: Shape, output: &mut [f32], threads: usize) {
    let anchors = y.c;
    // Per anchor: the largest value, and the sum of exponentials.
    let mut runs = vec![(0.0, 0.0); input.len() / classes];
    threads::bands(threads, &mut runs, 1, 4096 / classes, |first, band| {
        for (found, run) in band.iter_mut().zip(input[first * classes..].chunks_exact(classes)) {
            let most = run.iter().copied().fold(f32::MIN, f32::max);
            *found = (most, run.iter().map(|value| (value - most).exp()).sum());
        }
    });
    threads::bands(threads, output, anchors, 1, |row, scores| {
        for (at, scores) in scores.chunks_exact_mut(anchors).enumerate() {
            let (picture, class) = ((row + at) / classes, (row + at) % classes);
            let values = input[picture * anchors * classes..].chunks_exact(classes);
            for ((score, run), (most, sum)) in scores.iter_mut().zip(values).zip(&runs[picture * anchors..]) {
                *score = (run[class] - most).exp() / sum;
            }
        }
    });
}

/// Decodes boxes from `anchors` and their offsets, clipped to a picture of `[height, width]`.
pub fn decode(anchors: &[Anchor], [height, width]: [usize; 2], input: &[f32], output: &mut [f32]) {
    let edges = [width, height].map(|size| size as f32);
    let offsets = input.as_chunks::<4>().0;
    let boxes = output.as_chunks_mut::<4>().0.iter_mut();
    for ((bounds, offset), anchor) in boxes.zip(offsets).zip(anchors.iter().cycle()) {
        if !offset.iter().all(|v| v.is_finite()) {
            // Passed on unchanged, so that the caller can detect the invalid box.
            *bounds = *offset;
            continue;
        }
        for axis in 0..2 {
            let (centre, size) = (anchor[axis], anchor[axis + 2]);
            let moved = centre + offset[axis] / CENTRE_WEIGHT as f32 * size;
            let growth = (offset[axis + 2] / SIZE_WEIGHT as f32).min(MOST_GROWTH);
            let half = 0.5 * growth.exp() * size;
            bounds[axis] = (moved - half).clamp(0.0, edges[axis]);
            bounds[axis + 2] = (moved + half).clamp(0.0, edges[axis]);
        }
    }
}

/// Selects the best scores of every class except the first. The input has one row per class; the output has
/// pairs of score and anchor.
pub fn select(select: Select, x: Shape, input: &[f32], y: Shape, output: &mut [f32], threads: usize) {
    let (anchors, classes) = (x.c, x.w);
    threads::bands(threads, output, y.w * y.c, 1, |first, lists| {
        let mut best = Vec::new();
        for (at, kept) in lists.chunks_exact_mut(y.w * y.c).enumerate() {
            let list = first + at;
            let (picture, class) = (list / (classes - 1), list % (classes - 1) + 1);
            let scores = &input[(picture * classes + class) * anchors..][..anchors];
            best.clear();
            // NaN ranks first, so that the caller can detect it.
            best.extend(
                (0..anchors).filter(|&i| scores[i] > select.threshold.max(0.0) || scores[i].is_nan()),
            );
            if best.len() > select.most {
                let better = |a: &usize, b: &usize| better(scores[*a], scores[*b]).then(a.cmp(b));
                best.select_nth_unstable_by(select.most, better);
                best.truncate(select.most);
                best.sort_unstable();
            }
            kept.fill(0.0);
            for (pair, &anchor) in kept.as_chunks_mut::<2>().0.iter_mut().zip(best.iter()) {
                *pair = [scores[anchor], anchor as f32];
            }
        }
    });
}
