//! MobileNetV1: table 1 of "MobileNets", arXiv 1704.04861.

use super::table::{Family, Stage, Table, Top};
use crate::graph::Activation::{self, Relu6};

const fn separable(repeats: usize, stride: usize) -> Stage {
    Stage::new(repeats, stride, 3, Relu6).narrow().no_residual()
}

static STAGES: [Stage; 5] =
    [separable(1, 1), separable(2, 2), separable(2, 2), separable(6, 2), separable(2, 2)];

const fn v1(head: Option<Activation>) -> Table {
    Table {
        family: Family::V1,
        stem: Relu6,
        stages: &STAGES,
        project: Relu6,
        squeeze: None,
        head,
        top: Top::Classifier(None),
    }
}

/// As published.
pub(super) static V1: Table = v1(None);

/// With the pointwise convolution before the pool that timm's `mobilenetv1_100h` has.
pub(super) static V1_HEAD: Table = v1(Some(Relu6));
