//! torchvision's names in ResNets: `layer3.0.conv1`. They are unlike those of its MobileNets.

use super::skeleton::{Block, Layer, Names, Shortcut, Skeleton, dense};
use crate::checkpoint::Tensors;

/// Whether a checkpoint's modules are named as in torchvision's ResNets.
pub(super) fn recognises(tensors: &Tensors) -> bool {
    tensors.has("layer1.0.")
}

/// The modules that the keys show. One that runs several times is called as torchvision's
/// feature extraction calls it: `relu`, `relu_1`.
pub(super) fn skeleton(tensors: &Tensors) -> Result<Skeleton, String> {
    if tensors.has("conv1.3.") {
        return Err(
            "has a stem of several convolutions (conv1.3), as timm's resnet18d has: it is not run here"
                .into(),
        );
    }
    let extent =
        |key: &str, i: usize| tensors.shape(key).filter(|shape| shape.len() == 4).map(|shape| shape[i]);
    let (made, read) = (extent("layer1.0.conv1.weight", 0), extent("layer1.0.conv2.weight", 1));
    if made.zip(read).is_some_and(|(made, read)| read < made) {
        return Err("has grouped convolutions (layer1.0.conv2), as ResNeXt has: it is not run here".into());
    }
    let stages: Vec<usize> =
        (1..=tensors.count_from("layer", 1)).map(|stage| tensors.count(&format!("layer{stage}."))).collect();
    // Every block or none: a tensor that is missing somewhere makes no other network.
    let bottlenecks = tensors.keys().any(|key| key.contains(".conv3."));
    let names = stages
        .iter()
        .enumerate()
        .flat_map(|(s, &blocks)| (0..blocks).map(move |block| format!("layer{}.{block}", s + 1)));
    let blocks = names.map(|name| block(&name, bottlenecks)).collect();
    Ok(Skeleton {
        stem: layer("", 1, "relu"),
        stem_feature: "relu".into(),
        blocks,
        stages: Some(stages),
        collapses: false,
        replaceable: false,
        head: Vec::new(),
        head_feature: None,
        top: Names::Classifier { pool: "avgpool".into(), hidden: None, dense: dense(tensors, "fc", None)? },
    })
}

fn block(name: &str, bottleneck: bool) -> Block {
    let of = |i: usize, relu: &str| layer(&format!("{name}."), i, &format!("{name}.{relu}"));
    let (expand, windowed, project) = match bottleneck {
        true => (Some(of(1, "relu")), of(2, "relu_1"), of(3, "")),
        false => (None, of(1, "relu"), of(2, "")),
    };
    let downsample = Layer {
        conv: format!("{name}.downsample.0"),
        norm: Some(format!("{name}.downsample.1")),
        ..Layer::default()
    };
    Block {
        sum: Some(format!("{name}.add")),
        expand,
        windowed: Some(windowed),
        project: Some(project),
        shortcut: Some(Shortcut { layer: downsample, activation: name.into() }),
        feature: name.into(),
        ..Block::default()
    }
}

/// A block's convolution with its batch norm, and the activation behind it.
fn layer(prefix: &str, i: usize, activation: &str) -> Layer {
    Layer {
        conv: format!("{prefix}conv{i}"),
        norm: Some(format!("{prefix}bn{i}")),
        activation: Some(activation.into()),
        ..Layer::default()
    }
}
