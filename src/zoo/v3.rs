//! MobileNetV3: tables 1 and 2 of "Searching for MobileNetV3", arXiv 1905.02244, and the
//! minimalistic networks that its authors published beside them.

use super::table::{Family, Hidden, Stage, Table, Top};
use crate::graph::Activation::{self, HardSwish, Identity, Relu};

const fn v3(family: Family, stages: &'static [Stage], activation: Activation) -> Table {
    Table {
        family,
        stem: activation,
        stages,
        project: Identity,
        squeeze: Some(Relu),
        head: Some(activation),
        top: Top::Classifier(Some(Hidden { activation, bias: true })),
    }
}

static STAGES_OF_LARGE: [Stage; 6] = [
    Stage::new(1, 1, 3, Relu).narrow(),
    Stage::new(2, 2, 3, Relu),
    Stage::new(3, 2, 5, Relu).squeeze(),
    Stage::new(4, 2, 3, HardSwish),
    Stage::new(2, 1, 3, HardSwish).squeeze(),
    Stage::new(3, 2, 5, HardSwish).squeeze(),
];

pub(super) static LARGE: Table = v3(Family::V3Large, &STAGES_OF_LARGE, HardSwish);

static STAGES_OF_SMALL: [Stage; 5] = [
    Stage::new(1, 2, 3, Relu).narrow().squeeze(),
    Stage::new(2, 2, 3, Relu),
    Stage::new(3, 2, 5, HardSwish).squeeze(),
    Stage::new(2, 1, 5, HardSwish).squeeze(),
    Stage::new(3, 2, 5, HardSwish).squeeze(),
];

pub(super) static SMALL: Table = v3(Family::V3Small, &STAGES_OF_SMALL, HardSwish);

/// Under what segments and detects: torchvision publishes Large, and builds Small as well.
pub(super) static LRASPP: Table = under(Family::LrAspp, Top::LrAspp, &STAGES_OF_LARGE);
pub(super) static LRASPP_SMALL: Table = under(Family::LrAsppSmall, Top::LrAspp, &STAGES_OF_SMALL);
pub(super) static DEEPLAB: Table = under(Family::DeepLabV3, Top::DeepLabV3, &STAGES_OF_LARGE);
pub(super) static SSDLITE: Table = under(Family::SsdLite, Top::SsdLite, &STAGES_OF_LARGE);
pub(super) static SSDLITE_SMALL: Table = under(Family::SsdLiteSmall, Top::SsdLite, &STAGES_OF_SMALL);

const fn under(family: Family, top: Top, stages: &'static [Stage]) -> Table {
    Table { top, ..v3(family, stages, HardSwish) }
}

pub(super) static LARGE_MINIMALISTIC: Table = v3(
    Family::V3LargeMinimalistic,
    &[
        Stage::new(1, 1, 3, Relu).narrow(),
        Stage::new(2, 2, 3, Relu),
        Stage::new(3, 2, 3, Relu),
        Stage::new(4, 2, 3, Relu),
        Stage::new(2, 1, 3, Relu),
        Stage::new(3, 2, 3, Relu),
    ],
    Relu,
);

pub(super) static SMALL_MINIMALISTIC: Table = v3(
    Family::V3SmallMinimalistic,
    &[
        Stage::new(1, 2, 3, Relu).narrow(),
        Stage::new(2, 2, 3, Relu),
        Stage::new(3, 2, 3, Relu),
        Stage::new(2, 1, 3, Relu),
        Stage::new(3, 2, 3, Relu),
    ],
    Relu,
);

/// timm's `mobilenetv3_rw`, older than the published weights: no sum in the first block,
/// squeeze-excite with the block's activation, and a hidden layer without bias.
pub(super) static LARGE_RW: Table = Table {
    stages: &[
        Stage::new(1, 1, 3, Relu).narrow().no_residual(),
        Stage::new(2, 2, 3, Relu),
        Stage::new(3, 2, 5, Relu).squeeze(),
        Stage::new(4, 2, 3, HardSwish),
        Stage::new(2, 1, 3, HardSwish).squeeze(),
        Stage::new(3, 2, 5, HardSwish).squeeze(),
    ],
    squeeze: None,
    top: Top::Classifier(Some(Hidden { activation: HardSwish, bias: false })),
    ..v3(Family::V3Large, &[], HardSwish)
};
