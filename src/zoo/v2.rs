//! MobileNetV2: table 2 of "Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381.

use super::{
    known::{Known, Preset},
    table::{Antialias, Family, Stage, Table, Top},
    timm, torchvision, transformers,
};
use crate::graph::Activation::{Identity, Relu6};

impl Family {
    /// Inverted residuals with ReLU6.
    pub const V2: Self = Self("MobileNetV2");
    /// The same under a pyramid of a mean and a pointwise convolution: segmentation.
    pub const DEEPLAB_V3_PLUS: Self = Self("DeepLabV3+ with MobileNetV2");
}

pub(super) static V2: Table = v2(Family::V2, STAGES, Top::Classifier(None));

/// With a pointwise convolution in the first block too, which transformers' networks may have.
pub(super) static V2_WIDENED: Table = v2(Family::V2, WIDENED, Top::Classifier(None));

/// Under what segments, as transformers has it.
pub(super) static DEEPLAB: Table = v2(Family::DEEPLAB_V3_PLUS, STAGES, Top::DeepLabV3Plus);
pub(super) static DEEPLAB_WIDENED: Table = v2(Family::DEEPLAB_V3_PLUS, WIDENED, Top::DeepLabV3Plus);

const STAGES: &[Stage; 7] = &[
    Stage::new(1, 1, 3, Relu6).narrow(),
    Stage::new(2, 2, 3, Relu6),
    Stage::new(3, 2, 3, Relu6),
    Stage::new(4, 2, 3, Relu6),
    Stage::new(3, 1, 3, Relu6),
    Stage::new(3, 2, 3, Relu6),
    Stage::new(1, 1, 3, Relu6),
];

const WIDENED: &[Stage; 7] =
    &[Stage::new(1, 1, 3, Relu6), STAGES[1], STAGES[2], STAGES[3], STAGES[4], STAGES[5], STAGES[6]];

const fn v2(family: Family, stages: &'static [Stage], top: Top) -> Table {
    Table {
        family,
        stem: Relu6,
        stem_kernels: &[3],
        stem_pool: false,
        stages,
        project: Identity,
        squeeze: None,
        head: Some(Relu6),
        antialias: Antialias::None,
        dilated: None,
        top,
    }
}

/// As libraries name them.
pub(super) static KNOWN: &[Known] = &[
    torchvision::known(
        "mobilenet_v2",
        &V2,
        &[torchvision::V2.hashed(&["7ebf99e0"]), torchvision::V1.hashed(&["b0353104"])],
    ),
    timm::known("mobilenetv2_035", &V2, 112, &[Preset::new("untrained", timm::BICUBIC)]),
    timm::known("mobilenetv2_050", &V2, 160, &[Preset::new("lamb_in1k", timm::BICUBIC)]),
    timm::known("mobilenetv2_075", &V2, 240, &[Preset::new("untrained", timm::BICUBIC)]),
    timm::known("mobilenetv2_100", &V2, 320, &[Preset::new("ra_in1k", timm::BICUBIC)]),
    timm::known("mobilenetv2_110d", &V2, 352, &[Preset::new("ra_in1k", timm::BICUBIC)]),
    timm::known("mobilenetv2_120d", &V2, 384, &[Preset::new("ra_in1k", timm::BICUBIC)]),
    timm::known("mobilenetv2_140", &V2, 448, &[Preset::new("ra_in1k", timm::BICUBIC)]),
    transformers::known("mobilenet_v2", &V2, &[Preset::new("default", transformers::PRESET)]),
    transformers::known("mobilenet_v2", &V2_WIDENED, &[Preset::new("default", transformers::PRESET)]),
    transformers::known("mobilenet_v2", &DEEPLAB, &[Preset::new("default", transformers::SEGMENTING)]),
    transformers::known(
        "mobilenet_v2",
        &DEEPLAB_WIDENED,
        &[Preset::new("default", transformers::SEGMENTING)],
    ),
];
