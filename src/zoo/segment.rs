//! What segmenters have in common.

use super::{
    builder::{Builder, Map},
    task::Task,
};
use crate::{
    Result,
    graph::{Extent, Op},
};

/// PyTorch's batch norm, outside of what was ported from TensorFlow.
pub(super) const EPSILON: f64 = 1e-5;

/// Scales the latest value to the picture's size, as torchvision's modules do, and finds the class of each pixel.
pub(super) fn segmented(b: &mut Builder, input: Map) -> Result<Task> {
    let scores = b.at;
    b.like("output", input);
    b.graph.answer("output", b.at.id);
    b.at = scores;
    labelled(b, input)
}

/// The class of each of the picture's pixels by the latest value. Of a single one it is there where its logit is
/// above zero: the labels are 0 and 1.
pub(super) fn labelled(b: &mut Builder, input: Map) -> Result<Task> {
    if b.at.channels == 1 {
        b.constant("postprocess.background", &[&[0.0], &[1.0]])?;
    }
    let labels = b.graph.push("postprocess.argmax", Op::Argmax(Extent::Like), &[b.at.id, input.id]);
    Ok(Task::Segment { labels })
}
