//! What torchvision's segmenters have in common.

use super::{
    answer::Task,
    builder::{Builder, Map},
};
use crate::graph::{Extent, Op};

/// torchvision's batch norm outside of V3.
pub(super) const EPSILON: f64 = 1e-5;

/// Scales the latest value to the picture's size, and finds the best class of each pixel.
pub(super) fn segmented(b: &mut Builder, input: Map) -> Task {
    let scores = b.at;
    b.like("output", input);
    b.graph.answer("output", b.at.id);
    let labels = b.graph.push("postprocess.argmax", Op::Argmax(Extent::Like), &[scores.id, input.id]);
    Task::Segment { labels }
}
