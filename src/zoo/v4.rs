//! MobileNetV4's convolutional networks: tables 11 to 13 of "MobileNetV4: Universal Models for the
//! Mobile Ecosystem", arXiv 2404.10518, as timm has them.

use super::{
    known::{Known, Preset},
    table::{Antialias, Family, Hidden, Stage, Table, Top},
    timm,
};
use crate::graph::Activation::{Identity, Relu};

impl Family {
    /// Universal inverted bottlenecks behind full convolutions.
    pub const V4_CONV_SMALL: Self = Self("MobileNetV4-Conv-Small");
    /// Universal inverted bottlenecks behind a fused one.
    pub const V4_CONV_MEDIUM: Self = Self("MobileNetV4-Conv-Medium");
    /// Universal inverted bottlenecks behind a fused one, wider.
    pub const V4_CONV_LARGE: Self = Self("MobileNetV4-Conv-Large");
}

const fn v4(family: Family, stages: &'static [Stage]) -> Table {
    Table {
        family,
        stem: Relu,
        stem_kernels: &[3],
        stem_pool: false,
        stages,
        project: Identity,
        squeeze: None,
        head: Some(Relu),
        antialias: Antialias::None,
        dilated: None,
        top: Top::Classifier(Some(Hidden { activation: Relu, bias: false })),
    }
}

/// A convolution over all channels.
const fn conv(kernel: usize, stride: usize) -> Stage {
    Stage {
        dense: true,
        expand: false,
        project: false,
        residual: false,
        ..Stage::new(1, stride, kernel, Relu)
    }
}

/// A fused inverted bottleneck: the convolution over all channels widens, a pointwise one narrows.
const fn fused(kernel: usize, stride: usize) -> Stage {
    Stage { dense: true, ..Stage::new(1, stride, kernel, Relu).narrow() }
}

/// Universal inverted bottlenecks: a depthwise convolution at the start, one in the middle, both
/// or neither.
const fn universal(repeats: usize, start: usize, kernel: usize, stride: usize) -> Stage {
    Stage { start, ..Stage::new(repeats, stride, kernel, Relu) }
}

pub(super) static CONV_SMALL: Table = v4(
    Family::V4_CONV_SMALL,
    &[
        conv(3, 2),
        conv(1, 1),
        conv(3, 2),
        conv(1, 1),
        universal(1, 5, 5, 2),
        universal(4, 0, 3, 1),
        universal(1, 3, 0, 1),
        universal(1, 3, 3, 2),
        universal(1, 5, 5, 1),
        universal(2, 0, 5, 1),
        universal(2, 0, 3, 1),
    ],
);

pub(super) static CONV_MEDIUM: Table = v4(Family::V4_CONV_MEDIUM, MEDIUM);
pub(super) static CONV_LARGE: Table = v4(Family::V4_CONV_LARGE, LARGE);

/// timm's, whose maps a filter shrinks.
pub(super) static CONV_AA_MEDIUM: Table =
    Table { antialias: Antialias::Average, ..v4(Family::V4_CONV_MEDIUM, MEDIUM) };
pub(super) static CONV_AA_LARGE: Table =
    Table { antialias: Antialias::Average, ..v4(Family::V4_CONV_LARGE, LARGE) };
pub(super) static CONV_BLUR_MEDIUM: Table =
    Table { antialias: Antialias::Blur, ..v4(Family::V4_CONV_MEDIUM, MEDIUM) };

const MEDIUM: &[Stage] = &[
    fused(3, 2),
    universal(1, 3, 5, 2),
    universal(1, 3, 3, 1),
    universal(1, 3, 5, 2),
    universal(2, 3, 3, 1),
    universal(1, 3, 5, 1),
    universal(1, 3, 3, 1),
    universal(1, 3, 0, 1),
    universal(1, 0, 0, 1),
    universal(1, 3, 0, 1),
    universal(1, 5, 5, 2),
    universal(1, 5, 5, 1),
    universal(2, 3, 5, 1),
    universal(1, 0, 0, 1),
    universal(1, 3, 0, 1),
    universal(1, 3, 5, 1),
    universal(1, 5, 5, 1),
    universal(2, 0, 0, 1),
    universal(1, 5, 0, 1),
];

const LARGE: &[Stage] = &[
    fused(3, 2),
    universal(1, 3, 5, 2),
    universal(1, 3, 3, 1),
    universal(1, 3, 5, 2),
    universal(3, 3, 3, 1),
    universal(1, 3, 5, 1),
    universal(5, 5, 3, 1),
    universal(1, 3, 0, 1),
    universal(4, 5, 5, 2),
    universal(1, 5, 0, 1),
    universal(1, 5, 3, 1),
    universal(2, 5, 0, 1),
    universal(1, 5, 3, 1),
    universal(1, 5, 5, 1),
    universal(3, 5, 0, 1),
];

/// As libraries name them.
pub(super) static KNOWN: &[Known] = &[
    timm::known("mobilenetv4_conv_small_035", &CONV_SMALL, 48, &[Preset::new("untrained", timm::RA4)]),
    timm::known("mobilenetv4_conv_small_050", &CONV_SMALL, 64, &[Preset::new("e3000_r224_in1k", timm::RA4)]),
    timm::known(
        "mobilenetv4_conv_small",
        &CONV_SMALL,
        128,
        &[
            Preset::new("e2400_r224_in1k", timm::BICUBIC),
            Preset::new("e1200_r224_in1k", timm::BICUBIC),
            Preset::new("e3600_r256_in1k", timm::V4_256_HALVES),
        ],
    ),
    timm::known(
        "mobilenetv4_conv_medium",
        &CONV_MEDIUM,
        256,
        &[
            Preset::new("e500_r256_in1k", timm::V4_256),
            Preset::new("e500_r224_in1k", timm::V4_224),
            Preset::new("e250_r384_in12k_ft_in1k", timm::V4_384),
            Preset::new("e180_r384_in12k", timm::V4_384_WHOLE),
            Preset::new("e180_ad_r384_in12k", timm::V4_384_WHOLE),
            Preset::new("e250_r384_in12k", timm::V4_384_WHOLE),
        ],
    ),
    timm::known(
        "mobilenetv4_conv_blur_medium",
        &CONV_BLUR_MEDIUM,
        256,
        &[Preset::new("e500_r224_in1k", timm::V4_224)],
    ),
    timm::known(
        "mobilenetv4_conv_aa_medium",
        &CONV_AA_MEDIUM,
        256,
        &[Preset::new("untrained", timm::V4_256)],
    ),
    timm::known(
        "mobilenetv4_conv_large",
        &CONV_LARGE,
        512,
        &[Preset::new("e600_r384_in1k", timm::V4_384), Preset::new("e500_r256_in1k", timm::V4_256)],
    ),
    timm::known(
        "mobilenetv4_conv_aa_large",
        &CONV_AA_LARGE,
        512,
        &[
            Preset::new("e230_r448_in12k_ft_in1k", timm::V4_448),
            Preset::new("e600_r384_in1k", timm::V4_384),
            Preset::new("e230_r384_in12k_ft_in1k", timm::V4_384),
            Preset::new("e230_r384_in12k", timm::V4_384),
        ],
    ),
];
