//! The LR-ASPP head, lite reduced atrous spatial pyramid pooling: section 6.4 of "Searching for MobileNetV3",
//! arXiv 1905.02244, as in torchvision.

use super::{
    backbone::Backbone,
    builder::{Builder, FeatureMap, POINTWISE},
    segment::{EPSILON, segmented},
    task::Task,
    torchvision,
};
use crate::{
    Result,
    graph::{Activation, Op},
};

/// The low-level map is the first that is smaller than the picture by this factor.
const LOW: usize = 8;

/// Builds the head from the features to scores at the picture's size. Returns the task and the number of
/// classes.
pub(super) fn build(b: &mut Builder, input: FeatureMap, backbone: &Backbone) -> Result<(Task, usize)> {
    let (high, low) = (b.at, backbone.first(LOW));
    b.epsilon(EPSILON);
    b.layer(&torchvision::layer("classifier.cbr"), POINTWISE, Activation::Relu)?;
    let map = b.at;

    b.at = high;
    b.push("classifier.scale.0", Op::GlobalPool);
    b.fully_connected("classifier.scale.1", false, Some(map.channels), false)?;
    b.activation("classifier.scale.2", Activation::Sigmoid);
    b.at.id = b.graph.push("classifier.mul", Op::Scale, &[map.id, b.at.id]);
    b.resize_like("classifier.interpolate", low);
    b.fully_connected("classifier.high_classifier", false, None, true)?;
    let high = b.at;

    b.at = low;
    b.fully_connected("classifier.low_classifier", false, Some(high.channels), true)?;
    b.at.id = b.graph.push("classifier", Op::Add, &[high.id, b.at.id]);
    Ok((segmented(b, input)?, high.channels))
}
