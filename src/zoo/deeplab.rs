//! The DeepLabV3 head, atrous spatial pyramid pooling: "Rethinking Atrous Convolution for Semantic Image
//! Segmentation", arXiv 1706.05587, as in torchvision.

use super::{
    backbone::Backbone,
    builder::{Builder, ConvGeometry, FeatureMap, POINTWISE},
    segment::{EPSILON, segmented},
    task::Task,
    torchvision,
};
use crate::{
    Result,
    graph::{Activation, ConcatAxis, Op},
};

/// The dilations of the pyramid's 3x3 convolutions.
const RATES: [usize; 3] = [12, 24, 36];

const WINDOW: ConvGeometry = ConvGeometry { kernel: 3, ..POINTWISE };

/// The auxiliary head reads the first map that is smaller than the picture by this factor.
const AUXILIARY: usize = 8;

/// Builds the head from the features to scores at the picture's size. Returns the task and the number of
/// classes.
pub(super) fn build(b: &mut Builder, input: FeatureMap, backbone: &Backbone) -> Result<(Task, usize)> {
    let high = b.at;
    b.epsilon(EPSILON);
    let part = |i: usize| torchvision::layer(&format!("classifier.0.convs.{i}"));
    b.layer(&part(0), POINTWISE, Activation::Relu)?;
    let mut parts = vec![b.at];
    for (i, dilation) in RATES.into_iter().enumerate() {
        b.at = high;
        b.layer(&part(i + 1), ConvGeometry { dilation, ..WINDOW }, Activation::Relu)?;
        parts.push(b.at);
    }
    b.at = high;
    b.push("classifier.0.convs.4.0", Op::GlobalPool);
    b.layer(&torchvision::layer_from("classifier.0.convs.4", 1), POINTWISE, Activation::Relu)?;
    b.resize_like("classifier.0.convs.4", high);
    parts.push(b.at);

    b.join("classifier.0.cat", ConcatAxis::Channels, &parts);
    b.layer(&torchvision::layer("classifier.0.project"), POINTWISE, Activation::Relu)?;
    b.layer(&torchvision::layer_from("classifier", 1), WINDOW, Activation::Relu)?;
    b.fully_connected("classifier.4", false, None, true)?;
    let classes = b.at.channels;
    let task = segmented(b, input)?;

    // The auxiliary head is for training: the graph contains it, but no output depends on it.
    if b.has("aux_classifier") {
        b.at = backbone.first(AUXILIARY);
        b.layer(&torchvision::layer("aux_classifier"), WINDOW, Activation::Relu)?;
        b.fully_connected("aux_classifier.4", false, Some(classes), true)?;
        b.resize_like("aux", input);
    }
    Ok((task, classes))
}
