//! SSDLite, a single-shot detector with depthwise-separable heads: section 6.3 of "Searching for
//! MobileNetV3", arXiv 1905.02244, as in torchvision's `ssdlite320_mobilenet_v3_large`.

use std::sync::Arc;

use super::{
    backbone::Backbone,
    builder::{Builder, ConvGeometry, FeatureMap, POINTWISE},
    task::{Detector, Task},
    torchvision,
};
use crate::{
    Result,
    graph::{Activation, Anchors, ConcatAxis, Op, Select},
};

/// Feature maps of the head itself, after the backbone's two.
const EXTRAS: usize = 4;

/// The first map that the head reads is from the first block whose output is smaller than the picture by this
/// factor: the output of its expansion convolution.
const WIDENED: usize = 32;

const DEPTHWISE: ConvGeometry = ConvGeometry { kernel: 3, depthwise: true, ..POINTWISE };

/// The anchor boxes. Their scales grow linearly over the levels from 0.2 to 0.95 of the picture's size; the
/// additional scale 1 is for the last level's second square.
fn anchors() -> Anchors {
    let levels = 2 + EXTRAS;
    let step = (0.95 - 0.2) / (levels - 1) as f64;
    let scales = (0..levels).map(|level| 0.2 + step * level as f64).chain([1.0]).collect();
    Anchors { scales, ratios: vec![2.0, 3.0] }
}

/// Builds the head from the features to boxes and scores. Returns the task and the number of classes.
pub(super) fn build(b: &mut Builder, backbone: &Backbone) -> Result<(Task, usize)> {
    let deepest = b.at;
    let widened = backbone.blocks.iter().find(|block| block.reduced == WIDENED);
    let widened = widened.and_then(|block| block.expanded).unwrap_or(deepest);
    let mut levels = vec![widened, deepest];
    for i in 0..EXTRAS {
        let part = |j: usize| torchvision::layer(&format!("backbone.extra.{i}.{j}"));
        b.layer(&part(0), POINTWISE, Activation::Relu6)?;
        b.layer(&part(1), ConvGeometry { stride: 2, ..DEPTHWISE }, Activation::Relu6)?;
        b.layer(&part(2), POINTWISE, Activation::Relu6)?;
        levels.push(b.at);
    }

    let anchors = anchors();
    let each = anchors.each();
    let logits = head(b, &levels, "classification_head", None)?;
    let classes = logits.channels / each;
    if logits.channels % each != 0 || classes < 2 {
        let reason =
            format!("has {} outputs, expected {each} boxes times at least 2 classes", logits.channels);
        return Err(b.error("head.classification_head.module_list.0.1.weight", reason));
    }
    let offsets = head(b, &levels, "regression_head", Some(4 * each))?;
    b.graph.add_output("cls_logits", logits.id);
    b.graph.add_output("bbox_regression", offsets.id);

    let scores = b.graph.push("postprocess.softmax", Op::Softmax(classes), &[logits.id]);
    let select = Op::Select(Select { threshold: 0.001, most: 300 });
    let candidates = b.graph.push("postprocess.select", select, &[scores]);
    let inputs: Vec<_> = std::iter::once(offsets).chain(levels).map(|map| map.id).collect();
    let boxes = b.graph.push("postprocess.decode", Op::Boxes(Arc::new(anchors)), &inputs);
    Ok((Task::Detect(Detector { candidates, boxes, iou_threshold: 0.55, max_boxes: 300 }), classes))
}

/// Builds one of the two heads on every level, and concatenates the levels' outputs. If `outputs` is not
/// given, all levels need as many outputs as the first.
fn head(
    b: &mut Builder,
    levels: &[FeatureMap],
    name: &str,
    mut outputs: Option<usize>,
) -> Result<FeatureMap> {
    let mut parts = Vec::new();
    for (i, level) in levels.iter().enumerate() {
        b.at = *level;
        let module = format!("head.{name}.module_list.{i}");
        b.layer(&torchvision::layer(&format!("{module}.0")), DEPTHWISE, Activation::Relu6)?;
        b.fully_connected(&format!("{module}.1"), false, outputs, true)?;
        outputs = Some(b.at.channels);
        parts.push(b.at);
    }
    b.join(&format!("head.{name}.cat"), ConcatAxis::Pixels, &parts);
    Ok(b.at)
}
