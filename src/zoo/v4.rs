//! MobileNetV4's convolutional networks: tables 11 to 13 of "MobileNetV4: Universal Models for the Mobile
//! Ecosystem", arXiv 2404.10518, as in timm.

use super::{
    known::{Known, Preset},
    table::{Antialias, Family, Head, Hidden, Stage, Table, Top},
    timm,
};
use crate::graph::Activation::{Identity, Relu};

impl Family {
    /// Universal inverted bottlenecks after dense convolutions.
    pub const V4_CONV_SMALL: Self = Self("MobileNetV4-Conv-Small");
    /// Universal inverted bottlenecks after a fused one.
    pub const V4_CONV_MEDIUM: Self = Self("MobileNetV4-Conv-Medium");
    /// Universal inverted bottlenecks after a fused one, wider than Medium.
    pub const V4_CONV_LARGE: Self = Self("MobileNetV4-Conv-Large");
}

const fn v4(family: Family, stem_channels: usize, stages: &'static [Stage]) -> Table {
    Table {
        family,
        stem: Relu,
        stem_channels,
        stem_kernels: &[3],
        stem_pool: false,
        stages,
        project: Identity,
        squeeze: None,
        squeeze_divisor: 8,
        head: Some(Head { activation: Relu, channels: 960, narrows: true }),
        antialias: Antialias::None,
        dilated: None,
        top: Top::Classifier(Some(Hidden { activation: Relu, bias: false, norm: true, channels: 1280 })),
    }
}

/// A stage of one dense convolution.
const fn conv(outputs: usize, kernel: usize, stride: usize) -> Stage {
    Stage {
        dense: true,
        expand: false,
        project: false,
        residual: false,
        ..Stage::new(outputs, &[1.0], stride, kernel, Relu)
    }
}

/// A stage of fused inverted bottlenecks: a dense expansion convolution and a pointwise projection.
const fn fused(outputs: usize, expansions: &'static [f64], kernel: usize, stride: usize) -> Stage {
    Stage { dense: true, ..Stage::new(outputs, expansions, stride, kernel, Relu).narrow() }
}

/// A stage of universal inverted bottlenecks: with a depthwise convolution at the start, in the middle, in
/// both places or in neither.
const fn universal(
    outputs: usize,
    expansions: &'static [f64],
    start: usize,
    kernel: usize,
    stride: usize,
) -> Stage {
    Stage { start, ..Stage::new(outputs, expansions, stride, kernel, Relu) }
}

pub(super) static CONV_SMALL: Table = v4(
    Family::V4_CONV_SMALL,
    32,
    &[
        conv(32, 3, 2),
        conv(32, 1, 1),
        conv(96, 3, 2),
        conv(64, 1, 1),
        universal(96, &[3.0], 5, 5, 2),
        universal(96, &[2.0; 4], 0, 3, 1),
        universal(96, &[4.0], 3, 0, 1),
        universal(128, &[6.0], 3, 3, 2),
        universal(128, &[4.0], 5, 5, 1),
        universal(128, &[4.0, 3.0], 0, 5, 1),
        universal(128, &[4.0; 2], 0, 3, 1),
    ],
);

pub(super) static CONV_MEDIUM: Table = v4(Family::V4_CONV_MEDIUM, 32, MEDIUM);
pub(super) static CONV_LARGE: Table = v4(Family::V4_CONV_LARGE, 24, LARGE);

/// timm's variants with anti-aliasing filters.
pub(super) static CONV_AA_MEDIUM: Table =
    Table { antialias: Antialias::Average, ..v4(Family::V4_CONV_MEDIUM, 32, MEDIUM) };
pub(super) static CONV_AA_LARGE: Table =
    Table { antialias: Antialias::Average, ..v4(Family::V4_CONV_LARGE, 24, LARGE) };
pub(super) static CONV_BLUR_MEDIUM: Table =
    Table { antialias: Antialias::Blur, ..v4(Family::V4_CONV_MEDIUM, 32, MEDIUM) };

const MEDIUM: &[Stage] = &[
    fused(48, &[4.0], 3, 2),
    universal(80, &[4.0], 3, 5, 2),
    universal(80, &[2.0], 3, 3, 1),
    universal(160, &[6.0], 3, 5, 2),
    universal(160, &[4.0; 2], 3, 3, 1),
    universal(160, &[4.0], 3, 5, 1),
    universal(160, &[4.0], 3, 3, 1),
    universal(160, &[4.0], 3, 0, 1),
    universal(160, &[2.0], 0, 0, 1),
    universal(160, &[4.0], 3, 0, 1),
    universal(256, &[6.0], 5, 5, 2),
    universal(256, &[4.0], 5, 5, 1),
    universal(256, &[4.0; 2], 3, 5, 1),
    universal(256, &[4.0], 0, 0, 1),
    universal(256, &[4.0], 3, 0, 1),
    universal(256, &[2.0], 3, 5, 1),
    universal(256, &[4.0], 5, 5, 1),
    universal(256, &[4.0; 2], 0, 0, 1),
    universal(256, &[2.0], 5, 0, 1),
];

const LARGE: &[Stage] = &[
    fused(48, &[4.0], 3, 2),
    universal(96, &[4.0], 3, 5, 2),
    universal(96, &[4.0], 3, 3, 1),
    universal(192, &[4.0], 3, 5, 2),
    universal(192, &[4.0; 3], 3, 3, 1),
    universal(192, &[4.0], 3, 5, 1),
    universal(192, &[4.0; 5], 5, 3, 1),
    universal(192, &[4.0], 3, 0, 1),
    universal(512, &[4.0; 4], 5, 5, 2),
    universal(512, &[4.0], 5, 0, 1),
    universal(512, &[4.0], 5, 3, 1),
    universal(512, &[4.0; 2], 5, 0, 1),
    universal(512, &[4.0], 5, 3, 1),
    universal(512, &[4.0], 5, 5, 1),
    universal(512, &[4.0; 3], 5, 0, 1),
];

/// The libraries' names.
pub(super) static KNOWN: &[Known] = &[
    timm::known("mobilenetv4_conv_small_035", &CONV_SMALL, 0.35, &[Preset::new("untrained", timm::RA4)])
        .fixed_ends(),
    timm::known("mobilenetv4_conv_small_050", &CONV_SMALL, 0.5, &[Preset::new("e3000_r224_in1k", timm::RA4)])
        .fixed_ends(),
    timm::known(
        "mobilenetv4_conv_small",
        &CONV_SMALL,
        1.0,
        &[
            Preset::new("e2400_r224_in1k", timm::BICUBIC),
            Preset::new("e1200_r224_in1k", timm::BICUBIC),
            Preset::new("e3600_r256_in1k", timm::V4_256_HALVES),
        ],
    ),
    timm::known(
        "mobilenetv4_conv_medium",
        &CONV_MEDIUM,
        1.0,
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
        1.0,
        &[Preset::new("e500_r224_in1k", timm::V4_224)],
    ),
    timm::known(
        "mobilenetv4_conv_aa_medium",
        &CONV_AA_MEDIUM,
        1.0,
        &[Preset::new("untrained", timm::V4_256)],
    ),
    timm::known(
        "mobilenetv4_conv_large",
        &CONV_LARGE,
        1.0,
        &[Preset::new("e600_r384_in1k", timm::V4_384), Preset::new("e500_r256_in1k", timm::V4_256)],
    ),
    timm::known(
        "mobilenetv4_conv_aa_large",
        &CONV_AA_LARGE,
        1.0,
        &[
            Preset::new("e230_r448_in12k_ft_in1k", timm::V4_448),
            Preset::new("e600_r384_in1k", timm::V4_384),
            Preset::new("e230_r384_in12k_ft_in1k", timm::V4_384),
            Preset::new("e230_r384_in12k", timm::V4_384),
        ],
    ),
];
