//! What a family is: its structure, and the sizes that it was published with.

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

/// A family's structure, with its published channels. For a checkpoint only the structure counts: channels are
/// read from the tensors' shapes. [`super::synthetic`] builds networks from the table alone.
#[derive(Debug)]
pub(super) struct Table {
    pub family: Family,
    /// After the stem.
    pub stem: Activation,
    pub stem_channels: usize,
    /// The sides that the stem's window may have, as published first.
    pub stem_kernels: &'static [usize],
    /// Whether the largest of each 3x3 window is taken behind the stem, with a stride of 2.
    pub stem_pool: bool,
    pub stages: &'static [Stage],
    /// After each block's last convolution.
    pub project: Activation,
    /// Between squeeze-excite's two convolutions; none: the block's own.
    pub squeeze: Option<Activation>,
    /// Squeeze-excite reduces to a quarter of the channels, rounded to a multiple of this.
    pub squeeze_divisor: usize,
    /// The pointwise convolution between the blocks and the pool, if there is one.
    pub head: Option<Head>,
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

/// The pointwise convolution between the blocks and the pool.
#[derive(Debug)]
pub(super) struct Head {
    pub activation: Activation,
    pub channels: usize,
    /// Whether a width multiplier below 1 scales it too. One above 1 always does.
    pub narrows: bool,
}

/// A fully connected layer before the classifier.
#[derive(Debug)]
pub(super) struct Hidden {
    pub activation: Activation,
    /// Whether it has a bias; otherwise it may have a batch norm.
    pub bias: bool,
    /// Whether it was published with a batch norm.
    pub norm: bool,
    /// No width multiplier scales them.
    pub channels: usize,
}

/// Blocks that are alike, but that the first may have a stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    /// Output channels of each block.
    pub outputs: usize,
    /// The expansion ratio of each block: expanded channels over input channels. Where blocks do not expand it is
    /// not used.
    pub expansions: &'static [f64],
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
    /// Whether a search chose each block's window and squeeze-excite, which only its tensors show then.
    pub searched: bool,
}

impl Stage {
    /// Inverted residuals.
    pub const fn new(
        outputs: usize,
        expansions: &'static [f64],
        stride: usize,
        kernel: usize,
        activation: Activation,
    ) -> Self {
        Self {
            outputs,
            expansions,
            stride,
            start: 0,
            kernel,
            dense: false,
            activation,
            expand: true,
            project: true,
            squeeze: false,
            residual: true,
            searched: false,
        }
    }

    /// The published number of blocks; a checkpoint whose keys number the stages may have others.
    pub const fn repeats(&self) -> usize {
        self.expansions.len()
    }

    /// With squeeze-excite.
    pub const fn squeeze(self) -> Self {
        Self { squeeze: true, ..self }
    }

    /// Without the widening convolution.
    pub const fn narrow(self) -> Self {
        Self { expand: false, ..self }
    }

    /// With windows and squeeze-excite that were searched for.
    pub const fn searched(self) -> Self {
        Self { searched: true, ..self }
    }

    /// Without the sum.
    pub const fn no_residual(self) -> Self {
        Self { residual: false, ..self }
    }
}

/// A block of a table, before any width multiplier.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub stage: &'static Stage,
    pub stride: usize,
    pub expansion: f64,
}

impl Table {
    /// Its blocks in order, with these expansion ratios in its stages.
    pub fn rows_of(&self, expansions: &[&'static [f64]]) -> Vec<Row> {
        let mut rows = Vec::new();
        for (stage, &expansions) in self.stages.iter().zip(expansions) {
            rows.extend(expansions.iter().enumerate().map(|(i, &expansion)| Row {
                stage,
                stride: if i == 0 { stage.stride } else { 1 },
                expansion,
            }));
        }
        rows
    }

    /// Its blocks in order, as published.
    pub fn rows(&self) -> Vec<Row> {
        let expansions: Vec<_> = self.stages.iter().map(|stage| stage.expansions).collect();
        self.rows_of(&expansions)
    }
}

/// `channels` times a width multiplier, rounded as all the libraries do.
pub(super) fn scaled(channels: usize, by: f64) -> usize {
    divisible(channels as f64 * by, 8)
}

/// The papers' `make_divisible`: the multiple of `divisor` nearest to `channels`, but no more than a tenth below.
pub(super) fn divisible(channels: f64, divisor: usize) -> usize {
    let divisor = divisor as f64;
    let rounded = ((channels + divisor / 2.0) / divisor).floor().max(1.0) * divisor;
    (if rounded < 0.9 * channels { rounded + divisor } else { rounded }) as usize
}
