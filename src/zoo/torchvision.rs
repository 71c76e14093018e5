//! torchvision's names: `features.3.conv.1.0`, `backbone.3.block.1.0`, `layer3.0.conv1`.

use super::{
    converted::QUANT,
    known::{Known, Preset},
    library::Library,
    preprocessing::{
        Centre, Colours, Filter, Grid, HALF, IMAGENET_MEAN, IMAGENET_STD, PerChannel, Preprocessing, Resize,
    },
    rules::Rules,
    skeleton::{Block, Layer, Skeleton, Squeeze, TopModules, dense},
    table::Table,
    timm, torchvision_resnet as resnet,
};
use crate::{
    Result,
    checkpoint::{Anchor, Config, Source, Sourced, Tensors},
    graph::Activation,
};

const NAME: &str = "torchvision";

pub(super) static LIBRARY: Library = Library {
    name: NAME,
    anchors: &[
        Anchor::new("backbone.features.0.0.0.weight"),
        Anchor::new("features.0.0.weight"),
        Anchor::new("features.0.0.0.weight"),
        Anchor {
            also: &[
                "classifier.cbr.0.weight",
                "classifier.low_classifier.weight",
                "classifier.1.weight",
                "classifier.4.weight",
            ],
            ..Anchor::new("backbone.0.0.weight")
        },
        Anchor::new("layer1.0.conv1.weight"),
        Anchor::new("layer1.0.conv1.0.weight"),
        // The module `features` saved alone.
        Anchor {
            also: &["1.conv.0.0.weight", "1.block.0.0.weight"],
            within: "features.",
            ..Anchor::new("0.0.weight")
        },
    ],
    recognises,
    skeleton,
    rules,
    // torchvision has no configuration files. A `config.json` next to the weights is read as timm's.
    preprocessing: timm::LIBRARY.preprocessing,
    labels: timm::LIBRARY.labels,
    scores: timm::LIBRARY.scores,
};

/// A network of torchvision.
pub(super) const fn known(name: &'static str, table: &'static Table, presets: &'static [Preset]) -> Known {
    Known::new(NAME, name, table, presets)
}

/// The preprocessing of torchvision's weights.
pub(super) const V1: Preset = Preset::new("IMAGENET1K_V1", preset(256));
pub(super) const V2: Preset = Preset::new("IMAGENET1K_V2", preset(232));
pub(super) const VOC: Preset =
    Preset::new("COCO_WITH_VOC_LABELS_V1", Preprocessing { crop: None, ..preset(520) });
/// torchvision's detectors resize the picture themselves, with torch's interpolation.
pub(super) const COCO: Preset = Preset::new(
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

fn recognises(tensors: &Tensors) -> bool {
    let firsts =
        ["features.1.conv.", "features.1.block.", "backbone.1.block.", "backbone.features.0.1.block."];
    firsts.iter().any(|prefix| tensors.has(prefix)) || resnet::recognises(tensors)
}

/// Symmetric padding. Batch norm's epsilon is TensorFlow's in V3 and PyTorch's in other networks.
fn rules(_: &str, table: &Table, tensors: &Tensors, _: Option<&Config>) -> Result<Rules> {
    let plain = table.squeeze.is_none();
    let mut rules = Rules::new(NAME, table, if plain { 1e-5 } else { 1e-3 });
    // torch fuses a convolution only with ReLU, and puts the fused modules in a nested list. So the keys show
    // V2's activation.
    let converted = tensors.maps.contains_key(QUANT) && tensors.has("features.1.conv.");
    if converted || tensors.contains("features.1.conv.0.0.0.weight") {
        rules.activation = Some(Sourced::new(Activation::Relu, Source::Keys));
    }
    Ok(rules)
}

/// The modules that the keys show.
fn skeleton(tensors: &Tensors) -> Result<Skeleton, String> {
    if resnet::recognises(tensors) {
        return resnet::skeleton(tensors);
    }
    if tensors.has("backbone.features.") {
        return detector(tensors);
    }
    let library = Some(("classifier.0", "classifier.1"));
    let v3 = tensors.has("features.1.block.") && tensors.has("classifier.0.");
    let classifier = || {
        let dense = dense(tensors, "classifier", library.filter(|_| v3))?;
        Ok::<_, String>(TopModules::Classifier { pool: "avgpool".into(), hidden: None, dense })
    };
    let top = match tensors.has("backbone.") {
        false => classifier()?,
        true if tensors.has("classifier.0.convs.") => TopModules::DeepLabV3,
        true => TopModules::LrAspp,
    };
    let list = if tensors.has("backbone.") { "backbone" } else { "features" };
    let modules = tensors.count(&format!("{list}."));
    let last = format!("{list}.{}", modules.saturating_sub(1));
    let blocks = (1..modules.saturating_sub(1)).map(|i| block(tensors, format!("{list}.{i}")));
    Ok(Skeleton {
        stem: layer(&format!("{list}.0")),
        stem_feature: format!("{list}.0"),
        blocks: blocks.collect::<Result<_, _>>()?,
        stages: None,
        expand_optional: tensors.has(&format!("{list}.1.block.")),
        hidden_in_classifier: true,
        head: vec![layer(&last)],
        head_feature: Some(last),
        top,
    })
}

/// SSDLite's modules. Its backbone is split into two lists after a block's expansion convolution.
fn detector(tensors: &Tensors) -> Result<Skeleton, String> {
    let [front, back] = [0, 1].map(|i| format!("backbone.features.{i}"));
    let cut = tensors.count(&format!("{front}.")).saturating_sub(1);
    let tail = tensors.count(&format!("{back}.")).saturating_sub(1);
    let mut blocks =
        (1..cut).map(|i| block(tensors, format!("{front}.{i}"))).collect::<Result<Vec<_>, _>>()?;
    blocks.push(Block {
        expand: Some(layer(&format!("{front}.{cut}"))),
        ..children(tensors, format!("{back}.0"), "", 1)?
    });
    for i in 1..tail {
        blocks.push(block(tensors, format!("{back}.{i}"))?);
    }
    Ok(Skeleton {
        stem: layer(&format!("{front}.0")),
        stem_feature: format!("{front}.0"),
        blocks,
        stages: None,
        expand_optional: true,
        hidden_in_classifier: false,
        head: vec![layer(&format!("{back}.{tail}"))],
        head_feature: Some(format!("{back}.{tail}")),
        top: TopModules::SsdLite,
    })
}

/// A convolution, its batch norm and its activation, numbered from 0.
pub(super) fn layer(prefix: &str) -> Layer {
    layer_from(prefix, 0)
}

/// A convolution, its batch norm and its activation, numbered from `first`.
pub(super) fn layer_from(prefix: &str, first: usize) -> Layer {
    let at = |i: usize| format!("{prefix}.{}", first + i);
    Layer { conv: at(0), norm: Some(at(1)), activation: Some(at(2)), ..Layer::default() }
}

fn block(tensors: &Tensors, name: String) -> Result<Block, String> {
    let v2 = tensors.has(&format!("{name}.conv."));
    children(tensors, name, if v2 { "conv." } else { "block." }, 0)
}

/// The block whose modules are called `{name}.{list}{i}`, with `i` from `first` on.
fn children(tensors: &Tensors, name: String, list: &str, first: usize) -> Result<Block, String> {
    let mut squeeze = None;
    let mut layers = Vec::new();
    // Up to the last module with tensors: one in between may lack its only tensor.
    let last = (first..4).rev().find(|j| tensors.has(&format!("{name}.{list}{j}.")));
    for j in first..last.map_or(first, |last| last + 1) {
        let child = format!("{name}.{list}{j}");
        if tensors.has(&format!("{child}.fc1.")) {
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
    let project = match list {
        // V2's projection and its batch norm, unless that was folded, are direct children of the block, after
        // the layers that are lists.
        "conv." => {
            let lists =
                layers.iter().rposition(|child| [0, 1].iter().any(|i| tensors.has(&format!("{child}.{i}."))));
            let first = lists.map_or(layers.len().saturating_sub(2), |last| last + 1);
            let [conv, norm] = [first, first + 1].map(|j| format!("{name}.{list}{j}"));
            let found = first < layers.len();
            layers.truncate(first);
            found.then(|| Layer { conv, norm: Some(norm), ..Layer::default() })
        }
        _ => layers.pop().map(|child| layer(&child)),
    };
    let (expand, depthwise) = match &layers[..] {
        [depthwise] => (None, layer(depthwise)),
        [expand, depthwise] => (Some(layer(expand)), layer(depthwise)),
        _ => return Err(format!("{name} is not an inverted residual")),
    };
    if project.is_none() {
        return Err(format!("{name} is not an inverted residual"));
    }
    Ok(Block {
        feature: name.clone(),
        sum: Some(name),
        expand,
        spatial: Some(depthwise),
        squeeze,
        project,
        ..Block::default()
    })
}
