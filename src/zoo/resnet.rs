//! torchvision's ResNets, as a baseline for MobileNets: table 1 of "Deep Residual Learning", arXiv
//! 1512.03385, except that a bottleneck's stride is in its 3x3 convolution.

use super::{
    known::Known,
    table::{Antialias, Family, Stage, Table, Top},
    torchvision::{self, V1, V2},
};
use crate::graph::Activation::{Identity, Relu};

impl Family {
    /// Dense convolutions with residuals, a baseline for MobileNets.
    pub const RESNET: Self = Self("ResNet");
}

/// torchvision's names. Each preset's first hash is the current file's; a second one is an older file's with
/// the same weights.
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

/// The tables of the published depths: 18, 34, 50, 101 and 152.
static DEPTHS: [Table; 5] = [
    resnet(&[
        basic(64, &[1.0; 2], 1),
        basic(128, &ratios::<2>(2.0, 1.0), 2),
        basic(256, &ratios::<2>(2.0, 1.0), 2),
        basic(512, &ratios::<2>(2.0, 1.0), 2),
    ]),
    resnet(&[
        basic(64, &[1.0; 3], 1),
        basic(128, &ratios::<4>(2.0, 1.0), 2),
        basic(256, &ratios::<6>(2.0, 1.0), 2),
        basic(512, &ratios::<3>(2.0, 1.0), 2),
    ]),
    resnet(&bottlenecks(&ratios::<4>(0.5, 0.25), &ratios::<6>(0.5, 0.25))),
    resnet(&bottlenecks(&ratios::<4>(0.5, 0.25), &ratios::<23>(0.5, 0.25))),
    resnet(&bottlenecks(&ratios::<8>(0.5, 0.25), &ratios::<36>(0.5, 0.25))),
];

/// Expansion ratios of a stage. The first block has fewer inputs than the others.
const fn ratios<const N: usize>(first: f64, others: f64) -> [f64; N] {
    let mut list = [others; N];
    list[0] = first;
    list
}

/// Four stages. The published networks differ in the depths of the second and the third.
const fn bottlenecks(second: &'static [f64], third: &'static [f64]) -> [Stage; 4] {
    [
        bottleneck(256, &[1.0, 0.25, 0.25], 1),
        bottleneck(512, second, 2),
        bottleneck(1024, third, 2),
        bottleneck(2048, &[0.5, 0.25, 0.25], 2),
    ]
}

const fn resnet(stages: &'static [Stage]) -> Table {
    Table {
        family: Family::RESNET,
        stem: Relu,
        stem_channels: 64,
        // ResNets for small pictures have the 3x3 stem and no pool.
        stem_kernels: &[7, 3],
        stem_pool: true,
        stages,
        project: Identity,
        squeeze: None,
        squeeze_divisor: 8,
        head: None,
        antialias: Antialias::None,
        dilated: None,
        top: Top::Classifier(None),
    }
}

/// A stage of blocks with two 3x3 convolutions.
const fn basic(outputs: usize, expansions: &'static [f64], stride: usize) -> Stage {
    bottleneck(outputs, expansions, stride).narrow()
}

/// A stage of blocks with a 3x3 convolution between two pointwise convolutions.
const fn bottleneck(outputs: usize, expansions: &'static [f64], stride: usize) -> Stage {
    Stage { dense: true, ..Stage::new(outputs, expansions, stride, 3, Relu) }
}
