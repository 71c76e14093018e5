//! MobileNetV2: table 2 of "Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381.

use super::{
    known::{Known, Preset},
    table::{Antialias, Family, Head, Stage, Table, Top},
    timm, torchvision, transformers,
};
use crate::graph::Activation::{Identity, Relu6};

impl Family {
    /// Inverted residuals with ReLU6.
    pub const V2: Self = Self("MobileNetV2");
    /// Segmentation with a MobileNetV2 backbone and a pyramid of a pooled and a pointwise branch.
    pub const DEEPLAB_V3_PLUS: Self = Self("DeepLabV3+ with MobileNetV2");
}

pub(super) static V2: Table = v2(Family::V2, STAGES, Top::Classifier(None));

/// With an expansion convolution in the first block too, an option of transformers.
pub(super) static V2_WIDENED: Table = v2(Family::V2, WIDENED, Top::Classifier(None));

/// With transformers' segmentation head.
pub(super) static DEEPLAB: Table = v2(Family::DEEPLAB_V3_PLUS, STAGES, Top::DeepLabV3Plus);
pub(super) static DEEPLAB_WIDENED: Table = v2(Family::DEEPLAB_V3_PLUS, WIDENED, Top::DeepLabV3Plus);

const STAGES: &[Stage; 7] = &[
    Stage::new(16, &[1.0], 1, 3, Relu6).narrow(),
    Stage::new(24, &[6.0; 2], 2, 3, Relu6),
    Stage::new(32, &[6.0; 3], 2, 3, Relu6),
    Stage::new(64, &[6.0; 4], 2, 3, Relu6),
    Stage::new(96, &[6.0; 3], 1, 3, Relu6),
    Stage::new(160, &[6.0; 3], 2, 3, Relu6),
    Stage::new(320, &[6.0], 1, 3, Relu6),
];

const WIDENED: &[Stage; 7] =
    &[Stage::new(16, &[1.0], 1, 3, Relu6), STAGES[1], STAGES[2], STAGES[3], STAGES[4], STAGES[5], STAGES[6]];

const fn v2(family: Family, stages: &'static [Stage], top: Top) -> Table {
    Table {
        family,
        stem: Relu6,
        stem_channels: 32,
        stem_kernels: &[3],
        stem_pool: false,
        stages,
        project: Identity,
        squeeze: None,
        squeeze_divisor: 8,
        head: Some(Head { activation: Relu6, channels: 1280, narrows: false }),
        antialias: Antialias::None,
        dilated: None,
        top,
    }
}

/// timm's depth multipliers of 1.2 and 1.4, which do not change the first and the last stage.
const DEEPER_110: &[&[f64]] = &[&[1.0], &[6.0; 3], &[6.0; 4], &[6.0; 5], &[6.0; 4], &[6.0; 4], &[6.0]];
const DEEPER_120: &[&[f64]] = &[&[1.0], &[6.0; 3], &[6.0; 5], &[6.0; 6], &[6.0; 5], &[6.0; 5], &[6.0]];

/// The libraries' names.
pub(super) static KNOWN: &[Known] = &[
    torchvision::known(
        "mobilenet_v2",
        &V2,
        &[torchvision::V2.hashed(&["7ebf99e0"]), torchvision::V1.hashed(&["b0353104"])],
    ),
    timm::known("mobilenetv2_035", &V2, 0.35, &[Preset::new("untrained", timm::BICUBIC)]),
    timm::known("mobilenetv2_050", &V2, 0.5, &[Preset::new("lamb_in1k", timm::BICUBIC)]),
    timm::known("mobilenetv2_075", &V2, 0.75, &[Preset::new("untrained", timm::BICUBIC)]),
    timm::known("mobilenetv2_100", &V2, 1.0, &[Preset::new("ra_in1k", timm::BICUBIC)]),
    timm::known("mobilenetv2_110d", &V2, 1.1, &[Preset::new("ra_in1k", timm::BICUBIC)])
        .fixed_ends()
        .deeper(DEEPER_110, 1),
    timm::known("mobilenetv2_120d", &V2, 1.2, &[Preset::new("ra_in1k", timm::BICUBIC)])
        .fixed_ends()
        .deeper(DEEPER_120, 1),
    timm::known("mobilenetv2_140", &V2, 1.4, &[Preset::new("ra_in1k", timm::BICUBIC)]),
    transformers::known("mobilenet_v2", &V2, &[Preset::new("default", transformers::PRESET)]),
    transformers::known("mobilenet_v2", &V2_WIDENED, &[Preset::new("default", transformers::PRESET)])
        .variant("expanded"),
    transformers::known("mobilenet_v2", &DEEPLAB, &[Preset::new("default", transformers::SEGMENTING)])
        .variant("segmentation"),
    transformers::known(
        "mobilenet_v2",
        &DEEPLAB_WIDENED,
        &[Preset::new("default", transformers::SEGMENTING)],
    )
    .variant("expanded_segmentation"),
];
