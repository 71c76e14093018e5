//! ResNets as torchvision has them: table 1 of "Deep Residual Learning", arXiv 1512.03385, but
//! that a bottleneck's stride is in its 3x3 convolution. MobileNets are compared with them.

use super::{
    known::Known,
    table::{Antialias, Family, Stage, Table, Top},
    torchvision::{self, V1, V2},
};
use crate::graph::Activation::{Identity, Relu};

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
