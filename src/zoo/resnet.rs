//! ResNets as torchvision has them: table 1 of "Deep Residual Learning", arXiv 1512.03385, but
//! that a bottleneck's stride is in its 3x3 convolution. MobileNets are compared with them.

use super::{
    known::Known,
    skeleton::{Block, Layer, Names, Shortcut, Skeleton, dense},
    table::{Antialias, Family, Stage, Table, Top},
    torchvision::{self, V1, V2},
};
use crate::{
    checkpoint::Tensors,
    graph::Activation::{Identity, Relu},
};

impl Family {
    /// Full convolutions with residuals: what MobileNets are compared with.
    pub const RESNET: Self = Self("ResNet");
}

/// As torchvision names them. Hashes of its older files of the same weights stand behind.
pub(super) static KNOWN: &[Known] = &[
    torchvision::known("resnet18", &DEPTHS[0], &[V1.hashed(&["f37072fd", "5c106cde"])]),
    torchvision::known("resnet34", &DEPTHS[1], &[V1.hashed(&["b627a593", "333f7ec4"])]),
    torchvision::known(
        "resnet50",
        &DEPTHS[2],
        &[V2.hashed(&["11ad3fa6"]), V1.hashed(&["0676ba61", "19c8e357"])],
    ),
    torchvision::known(
        "resnet101",
        &DEPTHS[3],
        &[V2.hashed(&["cd907fc2"]), V1.hashed(&["63fe2227", "5d3b4d8f"])],
    ),
    torchvision::known(
        "resnet152",
        &DEPTHS[4],
        &[V2.hashed(&["f82ba261"]), V1.hashed(&["394f9c45", "b121ed2d"])],
    ),
];

/// The depths that torchvision publishes.
static DEPTHS: [Table; 5] = [
    resnet(&[basic(2, 1), basic(2, 2), basic(2, 2), basic(2, 2)]),
    resnet(&[basic(3, 1), basic(4, 2), basic(6, 2), basic(3, 2)]),
    resnet(&[bottleneck(3, 1), bottleneck(4, 2), bottleneck(6, 2), bottleneck(3, 2)]),
    resnet(&[bottleneck(3, 1), bottleneck(4, 2), bottleneck(23, 2), bottleneck(3, 2)]),
    resnet(&[bottleneck(3, 1), bottleneck(8, 2), bottleneck(36, 2), bottleneck(3, 2)]),
];

const fn resnet(stages: &'static [Stage]) -> Table {
    Table {
        family: Family::RESNET,
        stem: Relu,
        // Made for small pictures, they have the smaller one and no pool.
        stem_kernels: &[7, 3],
        stem_pool: true,
        stages,
        project: Identity,
        squeeze: None,
        head: None,
        antialias: Antialias::None,
        dilated: None,
        top: Top::Classifier(None),
    }
}

/// Two 3x3 convolutions.
const fn basic(repeats: usize, stride: usize) -> Stage {
    bottleneck(repeats, stride).narrow()
}

/// A 3x3 convolution between two pointwise ones.
const fn bottleneck(repeats: usize, stride: usize) -> Stage {
    Stage { dense: true, ..Stage::new(repeats, stride, 3, Relu) }
}

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
    if tensors.shape("layer1.0.conv2.weight").is_some_and(|shape| {
        let wide = tensors.shape("layer1.0.conv1.weight").map(|first| first[0]);
        shape.len() == 4 && wide.is_some_and(|wide| shape[1] < wide && wide % shape[1] == 0)
    }) && tensors.has("layer1.0.conv3.")
    {
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
