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
    /// The fully connected layer between the pool and the classifier, if there is one.
    pub hidden: Option<Hidden>,
}

/// A fully connected layer before the classifier.
#[derive(Debug)]
pub(super) struct Hidden {
    pub activation: Activation,
    pub bias: bool,
}

/// Blocks that are alike, but that the first may have a stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    /// As published; a scheme that numbers its stages may have others.
    pub repeats: usize,
    /// Of the first block's depthwise convolution.
    pub stride: usize,
    /// The side of the depthwise convolution's window.
    pub kernel: usize,
    /// After the first two convolutions.
    pub activation: Activation,
    /// Whether blocks begin with a pointwise convolution that widens.
    pub expand: bool,
    /// Whether blocks have squeeze-excite.
    pub squeeze: bool,
    /// Whether the input is added where the stride is 1 and the channels match.
    pub residual: bool,
}

impl Stage {
    /// Inverted residuals.
    pub const fn new(repeats: usize, stride: usize, kernel: usize, activation: Activation) -> Self {
        Self { repeats, stride, kernel, activation, expand: true, squeeze: false, residual: true }
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
