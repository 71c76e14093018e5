//! MobileNetV3: tables 1 and 2 of "Searching for MobileNetV3", arXiv 1905.02244, and its authors'
//! minimalistic variants.

use super::{
    known::{Known, Preset},
    ofa,
    table::{Antialias, Family, Head, Hidden, Stage, Table, Top},
    timm, torchvision,
};
use crate::graph::Activation::{self, HardSwish, Identity, Relu};

impl Family {
    /// Inverted residuals with squeeze-excite and hard-swish, 15 blocks.
    pub const V3_LARGE: Self = Self("MobileNetV3-Large");
    /// Inverted residuals with squeeze-excite and hard-swish, 11 blocks.
    pub const V3_SMALL: Self = Self("MobileNetV3-Small");
    /// V3-Large without squeeze-excite, hard-swish and 5x5 kernels.
    pub const V3_LARGE_MINIMALISTIC: Self = Self("minimalistic MobileNetV3-Large");
    /// V3-Small without squeeze-excite, hard-swish and 5x5 kernels.
    pub const V3_SMALL_MINIMALISTIC: Self = Self("minimalistic MobileNetV3-Small");
    /// V3-Large with kernel sizes, expansions, depths and squeeze-excite from an architecture search, as in
    /// once-for-all.
    pub const V3_SEARCHED: Self = Self("searched MobileNetV3");
    /// Segmentation with a V3-Large backbone and a lite reduced spatial pyramid.
    pub const LR_ASPP: Self = Self("LR-ASPP with MobileNetV3-Large");
    /// Segmentation with a V3-Small backbone and a lite reduced spatial pyramid.
    pub const LR_ASPP_SMALL: Self = Self("LR-ASPP with MobileNetV3-Small");
    /// Segmentation with a V3-Large backbone and a spatial pyramid of dilated convolutions.
    pub const DEEPLAB_V3: Self = Self("DeepLabV3 with MobileNetV3-Large");
    /// Detection with a V3-Large backbone and separable single-shot heads.
    pub const SSDLITE: Self = Self("SSDLite with MobileNetV3-Large");
    /// Detection with a V3-Small backbone and separable single-shot heads.
    pub const SSDLITE_SMALL: Self = Self("SSDLite with MobileNetV3-Small");
}

/// `head` and `hidden` are the channels of the convolution before the pool and of the layer after it.
const fn v3(
    family: Family,
    stages: &'static [Stage],
    activation: Activation,
    head: usize,
    hidden: usize,
) -> Table {
    Table {
        family,
        stem: activation,
        stem_channels: 16,
        stem_kernels: &[3],
        stem_pool: false,
        stages,
        project: Identity,
        squeeze: Some(Relu),
        squeeze_divisor: 8,
        head: Some(Head { activation, channels: head, narrows: true }),
        antialias: Antialias::None,
        dilated: None,
        top: Top::Classifier(Some(Hidden { activation, bias: true, norm: false, channels: hidden })),
    }
}

const STAGES_OF_LARGE: [Stage; 6] = [
    Stage::new(16, &[1.0], 1, 3, Relu).narrow(),
    Stage::new(24, &[4.0, 3.0], 2, 3, Relu),
    Stage::new(40, &[3.0; 3], 2, 5, Relu).squeeze(),
    Stage::new(80, &[6.0, 2.5, 2.3, 2.3], 2, 3, HardSwish),
    Stage::new(112, &[6.0; 2], 1, 3, HardSwish).squeeze(),
    Stage::new(160, &[6.0; 3], 2, 5, HardSwish).squeeze(),
];

pub(super) static LARGE: Table = v3(Family::V3_LARGE, &STAGES_OF_LARGE, HardSwish, 960, 1280);

const STAGES_OF_SMALL: [Stage; 5] = [
    Stage::new(16, &[1.0], 2, 3, Relu).narrow().squeeze(),
    Stage::new(24, &[4.5, 3.67], 2, 3, Relu),
    Stage::new(40, &[4.0, 6.0, 6.0], 2, 5, HardSwish).squeeze(),
    Stage::new(48, &[3.0; 2], 1, 5, HardSwish).squeeze(),
    Stage::new(96, &[6.0; 3], 2, 5, HardSwish).squeeze(),
];

pub(super) static SMALL: Table = v3(Family::V3_SMALL, &STAGES_OF_SMALL, HardSwish, 576, 1024);

/// With segmentation and detection heads. torchvision publishes weights for Large, and can build Small too.
pub(super) static LRASPP: Table = with_top(Family::LR_ASPP, Top::LrAspp, &STAGES_OF_LARGE, 960);
pub(super) static LRASPP_SMALL: Table = with_top(Family::LR_ASPP_SMALL, Top::LrAspp, &STAGES_OF_SMALL, 576);
pub(super) static DEEPLAB: Table = with_top(Family::DEEPLAB_V3, Top::DeepLabV3, &STAGES_OF_LARGE, 960);
pub(super) static SSDLITE: Table = with_top(Family::SSDLITE, Top::SsdLite, &REDUCED_LARGE, 480);
pub(super) static SSDLITE_SMALL: Table = with_top(Family::SSDLITE_SMALL, Top::SsdLite, &REDUCED_SMALL, 288);

/// torchvision's `reduced_tail`: SSDLite halves the channels of the last stage and of the head.
static REDUCED_LARGE: [Stage; 6] = reduced(STAGES_OF_LARGE);
static REDUCED_SMALL: [Stage; 5] = reduced(STAGES_OF_SMALL);

const fn reduced<const N: usize>(mut stages: [Stage; N]) -> [Stage; N] {
    stages[N - 1].outputs /= 2;
    stages
}

const fn with_top(family: Family, top: Top, stages: &'static [Stage], head: usize) -> Table {
    let dilated = if matches!(top, Top::SsdLite) { None } else { Some(16) };
    Table { top, dilated, ..v3(family, stages, HardSwish, head, 0) }
}

pub(super) static LARGE_MINIMALISTIC: Table = v3(
    Family::V3_LARGE_MINIMALISTIC,
    &[
        Stage::new(16, &[1.0], 1, 3, Relu).narrow(),
        Stage::new(24, &[4.0, 3.0], 2, 3, Relu),
        Stage::new(40, &[3.0; 3], 2, 3, Relu),
        Stage::new(80, &[6.0, 2.5, 2.3, 2.3], 2, 3, Relu),
        Stage::new(112, &[6.0; 2], 1, 3, Relu),
        Stage::new(160, &[6.0; 3], 2, 3, Relu),
    ],
    Relu,
    960,
    1280,
);

pub(super) static SMALL_MINIMALISTIC: Table = v3(
    Family::V3_SMALL_MINIMALISTIC,
    &[
        Stage::new(16, &[1.0], 2, 3, Relu).narrow(),
        Stage::new(24, &[4.5, 3.67], 2, 3, Relu),
        Stage::new(40, &[4.0, 6.0, 6.0], 2, 3, Relu),
        Stage::new(48, &[3.0; 2], 1, 3, Relu),
        Stage::new(96, &[6.0; 3], 2, 3, Relu),
    ],
    Relu,
    576,
    1024,
);

/// timm's `mobilenetv3_rw`, which predates the published weights: no residual in the first block, the block's
/// activation in squeeze-excite, and a hidden layer without bias.
pub(super) static LARGE_RW: Table = Table {
    stages: &[
        Stage::new(16, &[1.0], 1, 3, Relu).narrow().no_residual(),
        Stage::new(24, &[4.0, 3.0], 2, 3, Relu),
        Stage::new(40, &[3.0; 3], 2, 5, Relu).squeeze(),
        Stage::new(80, &[6.0, 2.5, 2.3, 2.3], 2, 3, HardSwish),
        Stage::new(112, &[6.0; 2], 1, 3, HardSwish).squeeze(),
        Stage::new(160, &[6.0; 3], 2, 5, HardSwish).squeeze(),
    ],
    squeeze: None,
    squeeze_divisor: 1,
    top: Top::Classifier(Some(Hidden { activation: HardSwish, bias: false, norm: false, channels: 1280 })),
    ..v3(Family::V3_LARGE, &[], HardSwish, 960, 1280)
};

/// once-for-all's largest network. In others, kernel sizes differ per block, and depths per stage.
static SEARCHED: Table = Table {
    top: Top::Classifier(Some(Hidden { activation: HardSwish, bias: false, norm: false, channels: 1280 })),
    ..v3(
        Family::V3_SEARCHED,
        &[
            Stage::new(16, &[1.0], 1, 3, Relu).narrow(),
            Stage::new(24, &[6.0; 4], 2, 7, Relu).searched(),
            Stage::new(40, &[6.0; 4], 2, 7, Relu).squeeze().searched(),
            Stage::new(80, &[6.0; 4], 2, 7, HardSwish).searched(),
            Stage::new(112, &[6.0; 4], 1, 7, HardSwish).squeeze().searched(),
            Stage::new(160, &[6.0; 4], 2, 7, HardSwish).squeeze().searched(),
        ],
        HardSwish,
        960,
        0,
    )
};

/// timm's depth multiplier of 1.2, which rounds up, so that the head has two convolutions.
const DEEPER: &[&[f64]] =
    &[&[1.0; 2], &[4.0, 3.0, 3.0], &[3.0; 4], &[6.0, 2.5, 2.5, 2.3, 2.3], &[6.0; 3], &[6.0; 4]];

/// The libraries' names.
pub(super) static KNOWN: &[Known] = &[
    torchvision::known(
        "mobilenet_v3_large",
        &LARGE,
        &[torchvision::V2.hashed(&["5c1a4163"]), torchvision::V1.hashed(&["8738ca79"])],
    ),
    torchvision::known("mobilenet_v3_small", &SMALL, &[torchvision::V1.hashed(&["047dcff4"])]),
    torchvision::known("lraspp_mobilenet_v3_large", &LRASPP, &[torchvision::VOC.hashed(&["d234d4ea"])]),
    torchvision::known("lraspp_mobilenet_v3_small", &LRASPP_SMALL, &[torchvision::VOC]),
    torchvision::known("deeplabv3_mobilenet_v3_large", &DEEPLAB, &[torchvision::VOC.hashed(&["fc3c493d"])]),
    torchvision::known("ssdlite320_mobilenet_v3_large", &SSDLITE, &[torchvision::COCO.hashed(&["a79551df"])]),
    torchvision::known("ssdlite_mobilenet_v3_small", &SSDLITE_SMALL, &[torchvision::COCO]),
    ofa::known("mobilenet_v3", &SEARCHED, &[ofa::IMAGENET]),
    // Before `mobilenetv3_large_*`: the keys would also fit that table, with a missing bias.
    timm::known("mobilenetv3_rw", &LARGE_RW, 1.0, &[Preset::new("rmsp_in1k", timm::BICUBIC)]),
    timm::known("mobilenetv3_large_075", &LARGE, 0.75, &[Preset::new("untrained", timm::BILINEAR)]),
    timm::known(
        "mobilenetv3_large_100",
        &LARGE,
        1.0,
        &[
            Preset::new("ra_in1k", timm::BICUBIC),
            Preset::new("ra4_e3600_r224_in1k", timm::RA4_95),
            Preset::new("miil_in21k_ft_in1k", timm::MIIL),
            Preset::new("miil_in21k", timm::MIIL),
        ],
    ),
    timm::known("mobilenetv3_large_150d", &LARGE, 1.5, &[Preset::new("ra4_e3600_r256_in1k", timm::RA4_256)])
        .deeper(DEEPER, 2),
    timm::known("mobilenetv3_small_050", &SMALL, 0.5, &[Preset::new("lamb_in1k", timm::BICUBIC)])
        .fixed_ends(),
    timm::known("mobilenetv3_small_075", &SMALL, 0.75, &[Preset::new("lamb_in1k", timm::BICUBIC)]),
    timm::known("mobilenetv3_small_100", &SMALL, 1.0, &[Preset::new("lamb_in1k", timm::BICUBIC)]),
    timm::known("tf_mobilenetv3_large_075", &LARGE, 0.75, &[Preset::new("in1k", timm::TF)]),
    timm::known("tf_mobilenetv3_large_100", &LARGE, 1.0, &[Preset::new("in1k", timm::TF)]),
    timm::known(
        "tf_mobilenetv3_large_minimal_100",
        &LARGE_MINIMALISTIC,
        1.0,
        &[Preset::new("in1k", timm::TF)],
    ),
    timm::known("tf_mobilenetv3_small_075", &SMALL, 0.75, &[Preset::new("in1k", timm::TF)]),
    timm::known("tf_mobilenetv3_small_100", &SMALL, 1.0, &[Preset::new("in1k", timm::TF)]),
    timm::known(
        "tf_mobilenetv3_small_minimal_100",
        &SMALL_MINIMALISTIC,
        1.0,
        &[Preset::new("in1k", timm::TF)],
    ),
];
