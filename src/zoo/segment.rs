//! Shared parts of the segmentation heads.

use super::{
    builder::{Builder, FeatureMap},
    task::Task,
};
use crate::{
    Result,
    graph::{Extent, Op},
};

/// PyTorch's default epsilon of batch norms. Backbones ported from TensorFlow have another.
pub(super) const EPSILON: f64 = 1e-5;

/// Resizes the scores to the picture's size, as torchvision's modules do, and adds the label map.
pub(super) fn segmented(b: &mut Builder, input: FeatureMap) -> Result<Task> {
    let scores = b.at;
    b.resize_like("output", input);
    b.graph.add_output("output", b.at.id);
    b.at = scores;
    labelled(b, input)
}

/// Adds the label map, the class of each of the picture's pixels, from the scores. With a single class the
/// labels are 0 and 1: the class is present where its logit is above zero.
pub(super) fn labelled(b: &mut Builder, input: FeatureMap) -> Result<Task> {
    if b.at.channels == 1 {
        b.constant("postprocess.background", &[&[0.0], &[1.0]])?;
    }
    let labels = b.graph.push("postprocess.argmax", Op::Argmax(Extent::Like), &[b.at.id, input.id]);
    Ok(Task::Segment { labels })
}
