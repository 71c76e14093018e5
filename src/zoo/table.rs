//! What a family is, apart from the sizes that a checkpoint's shapes tell.

use std::fmt;

use crate::graph::Activation;

/// A network of the family, apart from its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Depthwise-separable blocks, without residuals.
    V1,
    /// V1 with a full convolution in place of each depthwise-separable pair.
    V1Full,
    /// Inverted residuals with ReLU6.
    V2,
    /// Inverted residuals with squeeze-excite and hard-swish, 15 blocks.
    V3Large,
    /// Inverted residuals with squeeze-excite and hard-swish, 11 blocks.
    V3Small,
    /// V3-Large without squeeze-excite, hard-swish and 5x5 kernels.
    V3LargeMinimalistic,
    /// V3-Small without squeeze-excite, hard-swish and 5x5 kernels.
    V3SmallMinimalistic,
    /// Universal inverted bottlenecks behind full convolutions.
    V4ConvSmall,
    /// Universal inverted bottlenecks behind a fused one.
    V4ConvMedium,
    /// Universal inverted bottlenecks behind a fused one, wider.
    V4ConvLarge,
    /// V3-Large under a lite reduced spatial pyramid: segmentation.
    LrAspp,
    /// V3-Small under the same.
    LrAsppSmall,
    /// V3-Large under a spatial pyramid of dilated convolutions: segmentation.
    DeepLabV3,
    /// V3-Large under separable single-shot heads: detection.
    SsdLite,
    /// V3-Small under the same.
    SsdLiteSmall,
    /// Full convolutions with residuals: what MobileNets are compared with.
    ResNet,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "MobileNetV1",
            Self::V1Full => "MobileNetV1 with full convolutions",
            Self::V2 => "MobileNetV2",
            Self::V3Large => "MobileNetV3-Large",
            Self::V3Small => "MobileNetV3-Small",
            Self::V3LargeMinimalistic => "minimalistic MobileNetV3-Large",
            Self::V3SmallMinimalistic => "minimalistic MobileNetV3-Small",
            Self::V4ConvSmall => "MobileNetV4-Conv-Small",
            Self::V4ConvMedium => "MobileNetV4-Conv-Medium",
            Self::V4ConvLarge => "MobileNetV4-Conv-Large",
            Self::LrAspp => "LR-ASPP with MobileNetV3-Large",
            Self::LrAsppSmall => "LR-ASPP with MobileNetV3-Small",
            Self::DeepLabV3 => "DeepLabV3 with MobileNetV3-Large",
            Self::SsdLite => "SSDLite with MobileNetV3-Large",
            Self::SsdLiteSmall => "SSDLite with MobileNetV3-Small",
            Self::ResNet => "ResNet",
        })
    }
}

/// A family's structure. Widths, squeeze sizes and the number of classes are read from shapes.
#[derive(Debug)]
pub(super) struct Table {
    pub family: Family,
    /// After the stem.
    pub stem: Activation,
    pub stages: &'static [Stage],
    /// After each block's last convolution.
    pub project: Activation,
    /// Between squeeze-excite's two convolutions; none: the block's own.
    pub squeeze: Option<Activation>,
    /// After the pointwise convolution between the blocks and the pool, if there is one.
    pub head: Option<Activation>,
    /// What makes an answer of the features.
    pub top: Top,
}

/// What makes an answer of the features.
#[derive(Debug)]
pub(super) enum Top {
    /// Their mean and a classifier, perhaps with another fully connected layer between.
    Classifier(Option<Hidden>),
    /// See `lraspp`.
    LrAspp,
    /// See `deeplab`.
    DeepLabV3,
    /// See `ssdlite`.
    SsdLite,
}

/// A fully connected layer before the classifier.
#[derive(Debug)]
pub(super) struct Hidden {
    pub activation: Activation,
    /// Whether it has a bias; otherwise it may have a batch norm.
    pub bias: bool,
}

/// Blocks that are alike, but that the first may have a stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    /// As published; a scheme that numbers its stages may have others.
    pub repeats: usize,
    /// Of the first block's convolution with a window, the last if it has two.
    pub stride: usize,
    /// The side of the window of the depthwise convolution that begins the block; 0: there is none.
    pub start: usize,
    /// The side of the window of the block's middle convolution; 0: there is none.
    pub kernel: usize,
    /// Whether that one is over all channels, not depthwise.
    pub dense: bool,
    /// After every convolution but the first of a window and the last.
    pub activation: Activation,
    /// Whether blocks have a pointwise convolution that widens.
    pub expand: bool,
    /// Whether blocks end with a convolution that narrows.
    pub project: bool,
    /// Whether blocks have squeeze-excite.
    pub squeeze: bool,
    /// Whether the input is added where the stride is 1 and the channels match.
    pub residual: bool,
}

impl Stage {
    /// Inverted residuals.
    pub const fn new(repeats: usize, stride: usize, kernel: usize, activation: Activation) -> Self {
        Self {
            repeats,
            stride,
            start: 0,
            kernel,
            dense: false,
            activation,
            expand: true,
            project: true,
            squeeze: false,
            residual: true,
        }
    }

    /// With squeeze-excite.
    pub const fn squeeze(self) -> Self {
        Self { squeeze: true, ..self }
    }

    /// Without the widening convolution.
    pub const fn narrow(self) -> Self {
        Self { expand: false, ..self }
    }

    /// Without the sum.
    pub const fn no_residual(self) -> Self {
        Self { residual: false, ..self }
    }
}
