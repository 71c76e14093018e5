//! MobileNetV2: table 2 of "Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381.

use super::table::{Family, Stage, Table, Top};
use crate::graph::Activation::{Identity, Relu6};

pub(super) static V2: Table = Table {
    family: Family::V2,
    stem: Relu6,
    stages: &[
        Stage::new(1, 1, 3, Relu6).narrow(),
        Stage::new(2, 2, 3, Relu6),
        Stage::new(3, 2, 3, Relu6),
        Stage::new(4, 2, 3, Relu6),
        Stage::new(3, 1, 3, Relu6),
        Stage::new(3, 2, 3, Relu6),
        Stage::new(1, 1, 3, Relu6),
    ],
    project: Identity,
    squeeze: None,
    head: Some(Relu6),
    top: Top::Classifier(None),
};
