//! What a family is, apart from the sizes that a checkpoint's shapes tell.

use std::fmt;

use crate::graph::Activation;

/// A network of the family, apart from its width, by its name in the literature. Each is a constant
/// of this type, in the file of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Family(pub(super) &'static str);

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A family's structure. Widths, squeeze sizes and the number of classes are read from shapes.
#[derive(Debug)]
pub(super) struct Table {
    pub family: Family,
    /// After the stem.
    pub stem: Activation,
    /// The sides that the stem's window may have, as published first.
    pub stem_kernels: &'static [usize],
    /// Whether the largest of each 3x3 window is taken behind the stem, with a stride of 2.
    pub stem_pool: bool,
    pub stages: &'static [Stage],
    /// After each block's last convolution.
    pub project: Activation,
    /// Between squeeze-excite's two convolutions; none: the block's own.
    pub squeeze: Option<Activation>,
    /// After the pointwise convolution between the blocks and the pool, if there is one.
    pub head: Option<Activation>,
    /// What shrinks maps in place of convolutions with a stride, which then have none.
    pub antialias: Antialias,
    /// The picture over the last map, if strides beyond that become dilations: at once, in the block
    /// that has the stride.
    pub dilated: Option<usize>,
    /// What makes an answer of the features.
    pub top: Top,
}

/// What shrinks maps where timm's networks have it behind a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Antialias {
    None,
    /// The mean of each 2x2.
    Average,
    /// The binomial 3x3 filter, with zeros around the map.
    Blur,
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
    /// See `deeplab_plus`.
    DeepLabV3Plus,
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
