//! The tensors of the segmentation and detection heads, with the names that the zoo's heads read.

use super::{builder::gain, weights::Weights};
use crate::{
    graph::Activation,
    zoo::{
        skeleton::Layer,
        table::Top,
        torchvision::{layer, layer_from},
        transformers,
    },
};

/// Channels of the feature maps that heads read.
pub(super) struct Maps {
    /// Outputs of the first block of stride 8.
    low: Option<usize>,
    /// Expanded channels of the first block of stride 32.
    widened: Option<usize>,
    /// Outputs of the last block so far.
    pub last: usize,
    /// Outputs of the convolution after the blocks, or of the last block.
    pub features: usize,
}

impl Maps {
    /// The state after a stem with `stem` channels.
    pub fn new(stem: usize) -> Self {
        Self { low: None, widened: None, last: stem, features: stem }
    }

    /// Adds a block. `stride` is the product of all strides so far, including those that dilations replace.
    pub fn add(&mut self, stride: usize, expanded: usize, outputs: usize) {
        match stride {
            8 => self.low = self.low.or(Some(outputs)),
            32 => self.widened = self.widened.or(Some(expanded)),
            _ => {}
        }
        (self.last, self.features) = (outputs, outputs);
    }
}

/// Adds the tensors of the head `top` with `classes` classes.
pub(super) fn add(weights: &mut Weights, top: &Top, maps: &Maps, classes: usize) {
    let (low, high) = (maps.low.unwrap_or(maps.last), maps.features);
    match top {
        Top::Classifier(_) => {}
        Top::LrAspp => lraspp(weights, low, high, classes),
        Top::DeepLabV3 => deeplab(weights, low, high, classes),
        Top::DeepLabV3Plus => deeplab_plus(weights, maps.last, classes),
        Top::SsdLite => ssdlite(weights, [maps.widened.unwrap_or(high), high], classes),
    }
}

/// Adds a convolution with its batch norm. The activation is ReLU or ReLU6 in all of these heads.
fn activated(weights: &mut Weights, layer: &Layer, channels: [usize; 2], kernel: usize) {
    weights.layer(layer, channels, kernel, gain(Activation::Relu));
}

fn pointwise(weights: &mut Weights, module: &str, [outputs, inputs]: [usize; 2], bias: bool) {
    weights.dense(module, &[outputs, inputs, 1, 1], bias, gain(Activation::Identity));
}

fn lraspp(weights: &mut Weights, low: usize, high: usize, classes: usize) {
    const INNER: usize = 128;
    activated(weights, &layer("classifier.cbr"), [INNER, high], 1);
    pointwise(weights, "classifier.scale.1", [INNER, high], false);
    pointwise(weights, "classifier.low_classifier", [classes, low], true);
    pointwise(weights, "classifier.high_classifier", [classes, INNER], true);
}

fn deeplab(weights: &mut Weights, low: usize, high: usize, classes: usize) {
    const INNER: usize = 256;
    for (i, kernel) in [1, 3, 3, 3].into_iter().enumerate() {
        activated(weights, &layer(&format!("classifier.0.convs.{i}")), [INNER, high], kernel);
    }
    activated(weights, &layer_from("classifier.0.convs.4", 1), [INNER, high], 1);
    activated(weights, &layer("classifier.0.project"), [INNER, 5 * INNER], 1);
    activated(weights, &layer_from("classifier", 1), [INNER, INNER], 3);
    pointwise(weights, "classifier.4", [classes, INNER], true);
    activated(weights, &layer("aux_classifier"), [low / 4, low], 3);
    pointwise(weights, "aux_classifier.4", [classes, low / 4], true);
}

fn deeplab_plus(weights: &mut Weights, last: usize, classes: usize) {
    const INNER: usize = 256;
    let parts = [("conv_pool", last), ("conv_aspp", last), ("conv_projection", 2 * INNER)];
    for (name, inputs) in parts {
        let layer = transformers::layer(&format!("segmentation_head.{name}"));
        activated(weights, &layer, [INNER, inputs], 1);
    }
    pointwise(weights, "segmentation_head.classifier.convolution", [classes, INNER], true);
}

fn ssdlite(weights: &mut Weights, levels: [usize; 2], classes: usize) {
    /// Anchor boxes per pixel.
    const ANCHORS: usize = 6;
    let mut levels = levels.to_vec();
    for (i, outputs) in [512, 256, 256, 128].into_iter().enumerate() {
        let (inputs, inner) = (levels[levels.len() - 1], outputs / 2);
        let part = |j: usize| layer(&format!("backbone.extra.{i}.{j}"));
        activated(weights, &part(0), [inner, inputs], 1);
        activated(weights, &part(1), [inner, 1], 3);
        activated(weights, &part(2), [outputs, inner], 1);
        levels.push(outputs);
    }
    for (name, each) in [("classification_head", classes), ("regression_head", 4)] {
        for (i, &channels) in levels.iter().enumerate() {
            let module = format!("head.{name}.module_list.{i}");
            activated(weights, &layer(&format!("{module}.0")), [channels, 1], 3);
            pointwise(weights, &format!("{module}.1"), [ANCHORS * each, channels], true);
        }
    }
}
