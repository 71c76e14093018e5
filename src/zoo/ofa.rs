//! once-for-all's names (`pip install ofa`): `first_conv.conv`, `blocks.4.conv.depth_conv.conv`.
//! `supernet` reads once-for-all's supernets and cuts networks with these names out of them.

use super::{
    known::{Known, Preset},
    library::Library,
    preprocessing::{Preprocessing, Resize},
    rules::Rules,
    skeleton::{Block, Layer, Skeleton, Squeeze, TopModules, dense},
    table::Table,
    timm,
};
use crate::{
    Result,
    checkpoint::{Anchor, Config, Tensors},
};

const NAME: &str = "ofa";

/// The first tensor of once-for-all's networks and supernets.
pub(super) const ANCHOR: Anchor = Anchor::new("first_conv.conv.weight");

pub(super) static LIBRARY: Library = Library {
    name: NAME,
    anchors: &[ANCHOR],
    recognises: |tensors| tensors.has("first_conv.") && tensors.has("blocks.0."),
    skeleton,
    rules: |_: &str, table: &Table, _: &Tensors, _: Option<&Config>| Ok(Rules::new(NAME, table, 1e-5)),
    // The library's own files have no preprocessing. A `config.json` is read as timm's.
    preprocessing: timm::LIBRARY.preprocessing,
    labels: timm::LIBRARY.labels,
    scores: timm::LIBRARY.scores,
};

/// once-for-all's preprocessing for evaluation at 224 pixels.
pub(super) const IMAGENET: Preset = Preset::new("imagenet", for_size(224));

/// once-for-all's preprocessing for evaluation at `size` pixels.
pub(super) const fn for_size(size: usize) -> Preprocessing {
    // ceil(size / 0.875)
    let short = (size * 8).div_ceil(7);
    Preprocessing { resize: Resize::Short(short), crop: Some([size, size]), ..timm::BILINEAR }
}

pub(super) const fn known(name: &'static str, table: &'static Table, presets: &'static [Preset]) -> Known {
    Known::new(NAME, name, table, presets)
}

/// The name of a block's inner module, which differs in older files.
pub(super) fn inner(tensors: &Tensors) -> &'static str {
    if tensors.has("blocks.0.mobile_inverted_conv.") { "mobile_inverted_conv" } else { "conv" }
}

fn skeleton(tensors: &Tensors) -> Result<Skeleton, String> {
    let inner = inner(tensors);
    let blocks: Vec<Block> = (0..tensors.count("blocks."))
        .map(|i| block(tensors, format!("blocks.{i}"), inner))
        .collect::<Result<_, _>>()?;
    Ok(Skeleton {
        stem: layer("first_conv"),
        stem_feature: "first_conv".into(),
        stages: Some(stages(tensors, &blocks)?),
        blocks,
        expand_optional: false,
        hidden_in_classifier: false,
        head: vec![layer("final_expand_layer")],
        head_feature: Some("final_expand_layer".into()),
        top: TopModules::Classifier {
            pool: "global_avg_pool".into(),
            hidden: tensors
                .has("feature_mix_layer.")
                .then(|| Layer { norm: None, ..layer("feature_mix_layer") }),
            dense: dense(tensors, "classifier", None)?,
        },
    })
}

/// Blocks in each stage. Without `depths` in `config.json`, a new stage begins wherever the number of
/// channels changes, as in all published networks.
fn stages(tensors: &Tensors, blocks: &[Block]) -> Result<Vec<usize>, String> {
    let config = tensors.checkpoint().config.as_ref();
    if let Some(depths) = config.and_then(|config| config.get("depths")) {
        let depths = depths.as_array().and_then(|depths| {
            depths.iter().map(|depth| depth.as_u64().map(|n| n as usize)).collect::<Option<Vec<_>>>()
        });
        return depths.ok_or_else(|| "depths in config.json: expected a list of block counts".into());
    }
    let mut stages = Vec::new();
    let mut channels = None;
    for block in blocks {
        let key = block.project.as_ref().map(|project| format!("{}.weight", project.conv));
        let outputs = key.and_then(|key| tensors.shape(&key)?.first().copied());
        match stages.last_mut() {
            Some(count) if channels == outputs => *count += 1,
            _ => stages.push(1),
        }
        channels = outputs;
    }
    Ok(stages)
}

fn layer(module: &str) -> Layer {
    Layer {
        conv: format!("{module}.conv"),
        norm: Some(format!("{module}.bn")),
        activation: Some(format!("{module}.act")),
        ..Layer::default()
    }
}

fn block(tensors: &Tensors, name: String, inner: &str) -> Result<Block, String> {
    let part = |part: &str| format!("{name}.{inner}.{part}");
    let has = |module: &str| tensors.has(&format!("{}.", part(module)));
    if !has("depth_conv") || !has("point_linear") {
        return Err(format!("{name} is not an inverted residual"));
    }
    let squeeze = has("depth_conv.se").then(|| Squeeze {
        pool: part("depth_conv.se.pool"),
        reduce: part("depth_conv.se.fc.reduce"),
        activation: part("depth_conv.se.fc.relu"),
        expand: part("depth_conv.se.fc.expand"),
        gate: part("depth_conv.se.fc.h_sigmoid"),
        whole: part("depth_conv.se"),
    });
    Ok(Block {
        expand: has("inverted_bottleneck").then(|| layer(&part("inverted_bottleneck"))),
        spatial: Some(layer(&part("depth_conv"))),
        squeeze,
        project: Some(Layer { activation: None, ..layer(&part("point_linear")) }),
        feature: name.clone(),
        sum: Some(name),
        ..Block::default()
    })
}
