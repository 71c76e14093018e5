//! Atrous spatial pyramid pooling: "Rethinking Atrous Convolution for Semantic Image
//! Segmentation", arXiv 1706.05587, as torchvision has it.

use super::{
    backbone::Backbone,
    builder::{Builder, Form, Map, POINTWISE},
    segment::{EPSILON, segmented},
    task::Task,
    torchvision,
};
use crate::{
    Result,
    graph::{Activation, Joint, Op},
};

/// The dilations of the pyramid's windows.
const RATES: [usize; 3] = [12, 24, 36];

const WINDOW: Form = Form { kernel: 3, ..POINTWISE };

/// The first map that is so many times smaller than the picture is what the auxiliary head reads.
const AUXILIARY: usize = 8;

/// From the features to scores at the picture's size: the task, and the number of classes.
pub(super) fn build(b: &mut Builder, input: Map, backbone: &Backbone) -> Result<(Task, usize)> {
    let high = b.at;
    b.epsilon(EPSILON);
    let part = |i: usize| torchvision::layer(&format!("classifier.0.convs.{i}"));
    b.layer(&part(0), POINTWISE, Activation::Relu)?;
    let mut parts = vec![b.at];
    for (i, dilation) in RATES.into_iter().enumerate() {
        b.at = high;
        b.layer(&part(i + 1), Form { dilation, ..WINDOW }, Activation::Relu)?;
        parts.push(b.at);
    }
    b.at = high;
    b.push("classifier.0.convs.4.0", Op::GlobalPool);
    b.layer(&torchvision::layer_from("classifier.0.convs.4", 1), POINTWISE, Activation::Relu)?;
    b.like("classifier.0.convs.4", high);
    parts.push(b.at);

    b.join("classifier.0.cat", Joint::Channels, &parts);
    b.layer(&torchvision::layer("classifier.0.project"), POINTWISE, Activation::Relu)?;
    b.layer(&torchvision::layer_from("classifier", 1), WINDOW, Activation::Relu)?;
    b.fully_connected("classifier.4", false, None, true)?;
    let classes = b.at.channels;
    let task = segmented(b, input)?;

    // It helps training alone: no answer needs it, but it is a part of the network.
    if b.has("aux_classifier") {
        b.at = backbone.first(AUXILIARY);
        b.layer(&torchvision::layer("aux_classifier"), WINDOW, Activation::Relu)?;
        b.fully_connected("aux_classifier.4", false, Some(classes), true)?;
        b.like("aux", input);
    }
    Ok((task, classes))
}
