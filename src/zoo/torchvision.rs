//! torchvision's names: `features.3.conv.1.0`, `features.3.block.1.0`, `layer3.0.conv1`.

use super::{
    builder::Rules,
    checkpoint::Checkpoint,
    library::Known,
    preprocessing::{Centre, Filter, IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Resize},
    resnet,
    skeleton::{Block, Layer, Skeleton, Squeeze},
    table::{Family, Table},
    v2, v3,
};
use crate::graph::Padding;

pub(super) static TABLES: &[&Table] = &[
    &v2::V2,
    &v3::LARGE,
    &v3::SMALL,
    &resnet::DEPTHS[0],
    &resnet::DEPTHS[1],
    &resnet::DEPTHS[2],
    &resnet::DEPTHS[3],
    &resnet::DEPTHS[4],
];

/// The transforms of the weights' presets.
const V1: (&str, Preprocessing) = ("IMAGENET1K_V1", preset(256));
const V2: (&str, Preprocessing) = ("IMAGENET1K_V2", preset(232));

/// The first preset of each is what torchvision calls `DEFAULT`.
pub(super) static KNOWN: &[Known] = &[
    Known { name: "mobilenet_v2", table: &v2::V2, width: None, presets: &[V2, V1] },
    Known { name: "mobilenet_v3_large", table: &v3::LARGE, width: None, presets: &[V2, V1] },
    Known { name: "mobilenet_v3_small", table: &v3::SMALL, width: None, presets: &[V1] },
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
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
    }
}

/// Whether a checkpoint is named like this.
pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
    let mobilenet = ["features.1.conv.", "features.1.block."].iter().any(|prefix| checkpoint.has(prefix));
    mobilenet || resnet::recognises(checkpoint)
}

/// Symmetric padding; batch norm's epsilon is TensorFlow's in V3, PyTorch's own in others.
pub(super) fn rules(family: Family) -> Rules {
    Rules {
        padding: Padding::Symmetric,
        epsilon: if matches!(family, Family::V3Large | Family::V3Small) { 1e-3 } else { 1e-5 },
        activation: None,
        output_stride: None,
    }
}

/// The modules that the keys show.
pub(super) fn skeleton(checkpoint: &Checkpoint) -> Result<Skeleton, String> {
    if resnet::recognises(checkpoint) {
        return Ok(resnet::skeleton(checkpoint));
    }
    let features = checkpoint.count("features.");
    let blocks = (1..features.saturating_sub(1)).map(|i| block(checkpoint, i)).collect::<Result<_, _>>()?;
    let v3 = checkpoint.has("classifier.0.") || checkpoint.has("classifier.3.");
    let linear = |conv: &str| Layer { conv: conv.into(), linear: true, ..Layer::default() };
    Ok(Skeleton {
        stem: layer("features.0"),
        blocks,
        stages: None,
        collapses: v3,
        head: vec![layer(&format!("features.{}", features.saturating_sub(1)))],
        pool: "avgpool".into(),
        hidden: v3.then(|| Layer { activation: Some("classifier.1".into()), ..linear("classifier.0") }),
        classifier: linear(if v3 { "classifier.3" } else { "classifier.1" }),
    })
}

/// A convolution, its batch norm and its activation in a row.
fn layer(prefix: &str) -> Layer {
    Layer {
        conv: format!("{prefix}.0"),
        linear: false,
        norm: Some(format!("{prefix}.1")),
        activation: Some(format!("{prefix}.2")),
    }
}

fn block(checkpoint: &Checkpoint, i: usize) -> Result<Block, String> {
    let name = format!("features.{i}");
    let v2 = checkpoint.has(&format!("{name}.conv."));
    let children = format!("{name}.{}.", if v2 { "conv" } else { "block" });
    let mut squeeze = None;
    let mut layers = Vec::new();
    // Up to the last that is there: one between that lacks its only tensor is still a module.
    let count = (1..=4).rev().find(|n| checkpoint.has(&format!("{children}{}.", n - 1))).unwrap_or(0);
    for j in 0..count {
        let child = format!("{children}{j}");
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
    let project = match (v2, &mut layers[..]) {
        (true, [.., conv, norm]) => {
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
    let project = project.ok_or_else(|| format!("{name} is no inverted residual"))?;
    Ok(Block { sum: Some(name), expand, windowed: depthwise, squeeze, project, shortcut: None })
}
