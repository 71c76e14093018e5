//! torchvision's names: `features.3.conv.1.0`, `backbone.3.block.1.0`, `layer3.0.conv1`.

use super::{
    builder::{Dilated, Rules},
    checkpoint::Checkpoint,
    library::Known,
    preprocessing::{
        Centre, Colours, Filter, Grid, HALF, IMAGENET_MEAN, IMAGENET_STD, PerChannel, Preprocessing, Resize,
    },
    resnet,
    skeleton::{Block, Layer, Names, Skeleton, Squeeze},
    table::{Family, Table},
    v2, v3,
};
use crate::graph::Padding;

pub(super) static TABLES: &[&Table] = &[
    &v2::V2,
    &v3::LARGE,
    &v3::SMALL,
    &v3::LRASPP,
    &v3::LRASPP_SMALL,
    &v3::DEEPLAB,
    &v3::SSDLITE,
    &v3::SSDLITE_SMALL,
    &resnet::DEPTHS[0],
    &resnet::DEPTHS[1],
    &resnet::DEPTHS[2],
    &resnet::DEPTHS[3],
    &resnet::DEPTHS[4],
];

/// The transforms of the weights' presets.
const V1: (&str, Preprocessing) = ("IMAGENET1K_V1", preset(256));
const V2: (&str, Preprocessing) = ("IMAGENET1K_V2", preset(232));
const VOC: (&str, Preprocessing) = ("COCO_WITH_VOC_LABELS_V1", Preprocessing { crop: None, ..preset(520) });
/// Scaled by the network itself, as torch interpolates.
const COCO: (&str, Preprocessing) = (
    "COCO_V1",
    Preprocessing {
        resize: Resize::Exact([320, 320]),
        filter: Filter::Linear,
        crop: None,
        mean: PerChannel::new(&HALF),
        std: PerChannel::new(&HALF),
        ..preset(320)
    },
);

/// The first preset of each is what torchvision calls `DEFAULT`.
pub(super) static KNOWN: &[Known] = &[
    Known { name: "mobilenet_v2", table: &v2::V2, width: None, presets: &[V2, V1] },
    Known { name: "mobilenet_v3_large", table: &v3::LARGE, width: None, presets: &[V2, V1] },
    Known { name: "mobilenet_v3_small", table: &v3::SMALL, width: None, presets: &[V1] },
    Known { name: "lraspp_mobilenet_v3_large", table: &v3::LRASPP, width: None, presets: &[VOC] },
    Known { name: "lraspp_mobilenet_v3_small", table: &v3::LRASPP_SMALL, width: None, presets: &[VOC] },
    Known { name: "deeplabv3_mobilenet_v3_large", table: &v3::DEEPLAB, width: None, presets: &[VOC] },
    Known { name: "ssdlite320_mobilenet_v3_large", table: &v3::SSDLITE, width: None, presets: &[COCO] },
    Known { name: "ssdlite_mobilenet_v3_small", table: &v3::SSDLITE_SMALL, width: None, presets: &[COCO] },
    Known { name: "resnet18", table: &resnet::DEPTHS[0], width: None, presets: &[V1] },
    Known { name: "resnet34", table: &resnet::DEPTHS[1], width: None, presets: &[V1] },
    Known { name: "resnet50", table: &resnet::DEPTHS[2], width: None, presets: &[V2, V1] },
    Known { name: "resnet101", table: &resnet::DEPTHS[3], width: None, presets: &[V2, V1] },
    Known { name: "resnet152", table: &resnet::DEPTHS[4], width: None, presets: &[V2, V1] },
];

const fn preset(short: usize) -> Preprocessing {
    Preprocessing {
        resize: Resize::Short(short),
        filter: Filter::Bilinear,
        crop: Some([224, 224]),
        centre: Centre::HalfToEven,
        grid: Grid::Area,
        colours: Colours::Rgb,
        mean: PerChannel::new(&IMAGENET_MEAN),
        std: PerChannel::new(&IMAGENET_STD),
    }
}

/// Whether a checkpoint is named like this.
pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
    let firsts =
        ["features.1.conv.", "features.1.block.", "backbone.1.block.", "backbone.features.0.1.block."];
    firsts.iter().any(|prefix| checkpoint.has(prefix)) || resnet::recognises(checkpoint)
}

/// Symmetric padding; batch norm's epsilon is TensorFlow's in V3, PyTorch's own in others. What
/// segments wants its maps no less than a sixteenth of the picture.
pub(super) fn rules(family: Family) -> Rules {
    let segments = matches!(family, Family::LrAspp | Family::LrAsppSmall | Family::DeepLabV3);
    let plain = matches!(family, Family::V2 | Family::ResNet);
    Rules {
        padding: Padding::Symmetric,
        epsilon: if plain { 1e-5 } else { 1e-3 },
        activation: None,
        dilated: segments.then_some(Dilated { stride: 16, at_once: true }),
    }
}

/// The modules that the keys show.
pub(super) fn skeleton(checkpoint: &Checkpoint) -> Result<Skeleton, String> {
    if resnet::recognises(checkpoint) {
        return Ok(resnet::skeleton(checkpoint));
    }
    if checkpoint.has("backbone.features.") {
        return detector(checkpoint);
    }
    let top = match checkpoint.has("backbone.") {
        false => classifier(checkpoint),
        true if checkpoint.has("classifier.0.convs.") => Names::DeepLabV3,
        true => Names::LrAspp,
    };
    let list = if checkpoint.has("backbone.") { "backbone" } else { "features" };
    let modules = checkpoint.count(&format!("{list}."));
    let last = format!("{list}.{}", modules.saturating_sub(1));
    let blocks = (1..modules.saturating_sub(1)).map(|i| block(checkpoint, format!("{list}.{i}")));
    Ok(Skeleton {
        stem: layer(&format!("{list}.0")),
        stem_feature: format!("{list}.0"),
        blocks: blocks.collect::<Result<_, _>>()?,
        stages: None,
        collapses: !matches!(&top, Names::Classifier { hidden: None, .. }),
        head: vec![layer(&last)],
        head_feature: Some(last),
        top,
    })
}

fn classifier(checkpoint: &Checkpoint) -> Names {
    let v3 = checkpoint.has("classifier.0.") || checkpoint.has("classifier.3.");
    let linear = |conv: &str| Layer { conv: conv.into(), linear: true, ..Layer::default() };
    Names::Classifier {
        pool: "avgpool".into(),
        hidden: v3.then(|| Layer { activation: Some("classifier.1".into()), ..linear("classifier.0") }),
        classifier: linear(if v3 { "classifier.3" } else { "classifier.1" }),
    }
}

/// SSDLite's: its backbone is cut in two behind a block's first convolution.
fn detector(checkpoint: &Checkpoint) -> Result<Skeleton, String> {
    let [front, back] = [0, 1].map(|i| format!("backbone.features.{i}"));
    let cut = checkpoint.count(&format!("{front}.")).saturating_sub(1);
    let tail = checkpoint.count(&format!("{back}.")).saturating_sub(1);
    let mut blocks =
        (1..cut).map(|i| block(checkpoint, format!("{front}.{i}"))).collect::<Result<Vec<_>, _>>()?;
    blocks.push(Block {
        expand: Some(layer(&format!("{front}.{cut}"))),
        ..children(checkpoint, format!("{back}.0"), "", 1)?
    });
    for i in 1..tail {
        blocks.push(block(checkpoint, format!("{back}.{i}"))?);
    }
    Ok(Skeleton {
        stem: layer(&format!("{front}.0")),
        stem_feature: format!("{front}.0"),
        blocks,
        stages: None,
        collapses: true,
        head: vec![layer(&format!("{back}.{tail}"))],
        head_feature: Some(format!("{back}.{tail}")),
        top: Names::SsdLite,
    })
}

/// A convolution, its batch norm and its activation in a row.
pub(super) fn layer(prefix: &str) -> Layer {
    layer_from(prefix, 0)
}

/// The same where other modules come before.
pub(super) fn layer_from(prefix: &str, first: usize) -> Layer {
    let at = |i: usize| format!("{prefix}.{}", first + i);
    Layer { conv: at(0), linear: false, norm: Some(at(1)), activation: Some(at(2)) }
}

fn block(checkpoint: &Checkpoint, name: String) -> Result<Block, String> {
    let v2 = checkpoint.has(&format!("{name}.conv."));
    children(checkpoint, name, if v2 { "conv." } else { "block." }, 0)
}

/// The block whose modules are numbered behind `name` and `list`, from the `first` on.
fn children(checkpoint: &Checkpoint, name: String, list: &str, first: usize) -> Result<Block, String> {
    let mut squeeze = None;
    let mut layers = Vec::new();
    // Up to the last that is there: one between that lacks its only tensor is still a module.
    let last = (first..4).rev().find(|j| checkpoint.has(&format!("{name}.{list}{j}.")));
    for j in first..last.map_or(first, |last| last + 1) {
        let child = format!("{name}.{list}{j}");
        if checkpoint.has(&format!("{child}.fc1.")) {
            squeeze = Some(Squeeze {
                pool: format!("{child}.avgpool"),
                reduce: format!("{child}.fc1"),
                activation: format!("{child}.activation"),
                expand: format!("{child}.fc2"),
                gate: format!("{child}.scale_activation"),
                whole: child,
            });
        } else {
            layers.push(child);
        }
    }
    // V2's projection and its batch norm lie in the block itself.
    let project = match (list, &mut layers[..]) {
        ("conv.", [.., conv, norm]) => {
            let (conv, norm) = (std::mem::take(conv), std::mem::take(norm));
            layers.truncate(layers.len() - 2);
            Some(Layer { conv, norm: Some(norm), ..Layer::default() })
        }
        _ => layers.pop().map(|child| layer(&child)),
    };
    let (expand, depthwise) = match &layers[..] {
        [depthwise] => (None, layer(depthwise)),
        [expand, depthwise] => (Some(layer(expand)), layer(depthwise)),
        _ => return Err(format!("{name} is no inverted residual")),
    };
    if project.is_none() {
        return Err(format!("{name} is no inverted residual"));
    }
    Ok(Block {
        feature: name.clone(),
        sum: Some(name),
        expand,
        windowed: Some(depthwise),
        squeeze,
        project,
        ..Block::default()
    })
}
