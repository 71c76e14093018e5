//! MobileNetV4's convolutional networks: tables 11 to 13 of "MobileNetV4: Universal Models for the
//! Mobile Ecosystem", arXiv 2404.10518, as timm has them.

use super::table::{Family, Hidden, Stage, Table, Top};
use crate::graph::Activation::{Identity, Relu};

const fn v4(family: Family, stages: &'static [Stage]) -> Table {
    Table {
        family,
        stem: Relu,
        stages,
        project: Identity,
        squeeze: None,
        head: Some(Relu),
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
    Family::V4ConvSmall,
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

pub(super) static CONV_MEDIUM: Table = v4(
    Family::V4ConvMedium,
    &[
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
    ],
);

pub(super) static CONV_LARGE: Table = v4(
    Family::V4ConvLarge,
    &[
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
    ],
);
