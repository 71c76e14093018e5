//! torchvision's names in ResNets: `layer3.0.conv1`. They differ from those in its MobileNets.

use super::skeleton::{Block, Layer, Shortcut, Skeleton, TopModules, dense};
use crate::checkpoint::Tensors;

/// Returns whether modules are named as in torchvision's ResNets.
pub(super) fn recognises(tensors: &Tensors) -> bool {
    tensors.has("layer1.0.")
}

/// The modules that the keys show. A module that runs several times gets the names of torchvision's feature
/// extraction: `relu`, `relu_1`.
pub(super) fn skeleton(tensors: &Tensors) -> Result<Skeleton, String> {
    if tensors.has("conv1.3.") {
        return Err(
            "has a stem of several convolutions (conv1.3), as in timm's resnet18d, which is not supported"
                .into(),
        );
    }
    let extent =
        |key: &str, i: usize| tensors.shape(key).filter(|shape| shape.len() == 4).map(|shape| shape[i]);
    let (outputs, inputs) = (extent("layer1.0.conv1.weight", 0), extent("layer1.0.conv2.weight", 1));
    if outputs.zip(inputs).is_some_and(|(outputs, inputs)| inputs < outputs) {
        return Err("has grouped convolutions (layer1.0.conv2), as in ResNeXt, which is not supported".into());
    }
    let stages: Vec<usize> =
        (1..=tensors.count_from("layer", 1)).map(|stage| tensors.count(&format!("layer{stage}."))).collect();
    // Checked for the network as a whole, so that a single missing tensor does not change the kind of block.
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
        expand_optional: false,
        hidden_in_classifier: false,
        head: Vec::new(),
        head_feature: None,
        top: TopModules::Classifier {
            pool: "avgpool".into(),
            hidden: None,
            dense: dense(tensors, "fc", None)?,
        },
    })
}

fn block(name: &str, bottleneck: bool) -> Block {
    let of = |i: usize, relu: &str| layer(&format!("{name}."), i, &format!("{name}.{relu}"));
    let (expand, spatial, project) = match bottleneck {
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
        spatial: Some(spatial),
        project: Some(project),
        shortcut: Some(Shortcut { layer: downsample, activation: name.into() }),
        feature: name.into(),
        ..Block::default()
    }
}

/// A convolution with its batch norm and activation.
fn layer(prefix: &str, i: usize, activation: &str) -> Layer {
    Layer {
        conv: format!("{prefix}conv{i}"),
        norm: Some(format!("{prefix}bn{i}")),
        activation: Some(activation.into()),
        ..Layer::default()
    }
}
