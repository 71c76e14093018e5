//! The DeepLabV3+ head without the decoder: "Encoder-Decoder with Atrous Separable Convolution for Semantic
//! Image Segmentation", arXiv 1802.02611, as in transformers' `MobileNetV2ForSemanticSegmentation`.

use super::{
    backbone::Backbone,
    builder::{Builder, FeatureMap, POINTWISE},
    segment::{self, EPSILON},
    task::Task,
    transformers,
};
use crate::{
    Result,
    graph::{Activation, ConcatAxis, Op},
};

/// Builds the head from the last block's map to scores at its size. Returns the task and the number of
/// classes. The head does not use the convolution after the blocks.
pub(super) fn build(b: &mut Builder, input: FeatureMap, backbone: &Backbone) -> Result<(Task, usize)> {
    let features = backbone.last_block();
    let part = |name: &str| transformers::layer(&format!("segmentation_head.{name}"));
    b.epsilon(EPSILON);
    b.at = features;
    b.push("segmentation_head.avg_pool", Op::GlobalPool);
    b.layer(&part("conv_pool"), POINTWISE, Activation::Relu)?;
    b.resize_like("segmentation_head.interpolate", features);
    let pooled = b.at;
    b.at = features;
    b.layer(&part("conv_aspp"), POINTWISE, Activation::Relu)?;
    let parts = [pooled, b.at];
    b.join("segmentation_head.cat", ConcatAxis::Channels, &parts);
    b.layer(&part("conv_projection"), POINTWISE, Activation::Relu)?;
    b.fully_connected("segmentation_head.classifier.convolution", false, None, true)?;
    let classes = b.at.channels;
    b.graph.add_output("output", b.at.id);
    Ok((segment::labelled(b, input)?, classes))
}
