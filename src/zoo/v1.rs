//! MobileNetV1: table 1 of "MobileNets", arXiv 1704.04861.

use super::{
    known::{Known, Preset},
    table::{Antialias, Family, Head, Stage, Table, Top},
    timm, transformers,
};
use crate::graph::Activation::Relu6;

impl Family {
    /// Depthwise-separable blocks without residuals.
    pub const V1: Self = Self("MobileNetV1");
    /// MobileNetV1 with a dense convolution in place of each depthwise-separable pair.
    pub const V1_FULL: Self = Self("MobileNetV1 with full convolutions");
}

/// A stage with one block per element of `ones`. No block expands.
const fn separable(outputs: usize, ones: &'static [f64], stride: usize) -> Stage {
    Stage::new(outputs, ones, stride, 3, Relu6).narrow().no_residual()
}

static STAGES: [Stage; 5] = [
    separable(64, &[1.0; 1], 1),
    separable(128, &[1.0; 2], 2),
    separable(256, &[1.0; 2], 2),
    separable(512, &[1.0; 6], 2),
    separable(1024, &[1.0; 2], 2),
];

const fn v1(head: Option<Head>) -> Table {
    Table {
        family: Family::V1,
        stem: Relu6,
        stem_channels: 32,
        stem_kernels: &[3],
        stem_pool: false,
        stages: &STAGES,
        project: Relu6,
        squeeze: None,
        squeeze_divisor: 8,
        head,
        antialias: Antialias::None,
        dilated: None,
        top: Top::Classifier(None),
    }
}

/// As published.
pub(super) static V1: Table = v1(None);

/// With the pointwise convolution before the pool that timm's `mobilenetv1_100h` has.
pub(super) static V1_HEAD: Table = v1(Some(Head { activation: Relu6, channels: 1024, narrows: false }));

/// The libraries' names.
pub(super) static KNOWN: &[Known] = &[
    timm::known("mobilenetv1_100", &V1, 1.0, &[Preset::new("ra4_e3600_r224_in1k", timm::RA4)]),
    timm::known("mobilenetv1_100h", &V1_HEAD, 1.0, &[Preset::new("ra4_e3600_r224_in1k", timm::RA4)]),
    timm::known("mobilenetv1_125", &V1, 1.25, &[Preset::new("ra4_e3600_r224_in1k", timm::RA4_90)]),
    transformers::known("mobilenet_v1", &V1, &[Preset::new("default", transformers::PRESET)]),
];
