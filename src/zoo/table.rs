//! Families of networks: their structure and published sizes.

use std::fmt;

use crate::graph::Activation;

/// A family of networks that differ in width, named as in the literature. Each family is an associated
/// constant, in the file of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Family(pub(super) &'static str);

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A family's structure and published channels. A checkpoint uses only the structure: channels are read from
/// the tensors' shapes. [`super::synthetic`] builds networks from the table alone.
#[derive(Debug)]
pub(super) struct Table {
    pub family: Family,
    /// The stem's activation.
    pub stem: Activation,
    pub stem_channels: usize,
    /// The supported kernel sizes of the stem, the published one first.
    pub stem_kernels: &'static [usize],
    /// True for a 3x3 max pooling of stride 2 after the stem.
    pub stem_pool: bool,
    pub stages: &'static [Stage],
    /// The activation after each block's last convolution.
    pub project: Activation,
    /// The activation between squeeze-excite's two convolutions; none for the block's activation.
    pub squeeze: Option<Activation>,
    /// Squeeze-excite reduces to a quarter of the channels, rounded to a multiple of this.
    pub squeeze_divisor: usize,
    /// The pointwise convolution between the blocks and the pool, if there is one.
    pub head: Option<Head>,
    /// The anti-aliasing filter, which downsamples in place of strided convolutions.
    pub antialias: Antialias,
    /// The maximum output stride, if dilations replace the strides beyond it. The block with the replaced
    /// stride is dilated too.
    pub dilated: Option<usize>,
    /// The classifier, or the segmentation or detection head.
    pub top: Top,
}

/// The filter that downsamples after a convolution, in some of timm's networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Antialias {
    None,
    /// The mean of each 2x2 window.
    Average,
    /// The binomial 3x3 filter, with zeros around the map.
    Blur,
}

/// The part of a network after the backbone.
#[derive(Debug)]
pub(super) enum Top {
    /// Global average pooling and a classifier, optionally with a hidden layer between.
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
    /// True if every width multiplier applies. Otherwise only multipliers above 1 apply, and with
    /// [`Known::fixed_ends`](super::known::Known::fixed_ends) no multiplier does.
    pub narrows: bool,
}

/// A fully connected layer before the classifier.
#[derive(Debug)]
pub(super) struct Hidden {
    pub activation: Activation,
    /// True if it has a bias; otherwise it may have a batch norm.
    pub bias: bool,
    /// True if it was published with a batch norm.
    pub norm: bool,
    /// Independent of the width multiplier.
    pub channels: usize,
}

/// A stage of equal blocks, except that only the first may have a stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    /// Output channels of each block.
    pub outputs: usize,
    /// The expansion ratio of each block: expanded channels divided by input channels. Ignored if blocks do
    /// not expand.
    pub expansions: &'static [f64],
    /// The stride of the first block. Its middle convolution has it, or the one at its start if there is no
    /// middle one.
    pub stride: usize,
    /// The kernel size of the depthwise convolution at the start of the block; 0 if there is none.
    pub start: usize,
    /// The kernel size of the block's middle convolution; 0 if there is none.
    pub kernel: usize,
    /// True if the middle convolution is dense, not depthwise.
    pub dense: bool,
    /// The activation after the expansion convolution and the middle one.
    pub activation: Activation,
    /// True if blocks have an expansion convolution.
    pub expand: bool,
    /// True if blocks end with a projection convolution.
    pub project: bool,
    /// True if blocks have squeeze-excite.
    pub squeeze: bool,
    /// True if the input is added where the stride is 1 and the channels match.
    pub residual: bool,
    /// True if an architecture search chose each block's kernel size and squeeze-excite, so that only its
    /// tensors show them.
    pub searched: bool,
}

impl Stage {
    /// A stage of inverted residuals.
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

    /// The published number of blocks. A checkpoint whose keys number the stages may have another number.
    pub const fn repeats(&self) -> usize {
        self.expansions.len()
    }

    /// Adds squeeze-excite.
    pub const fn squeeze(self) -> Self {
        Self { squeeze: true, ..self }
    }

    /// Removes the expansion convolution.
    pub const fn narrow(self) -> Self {
        Self { expand: false, ..self }
    }

    /// Sets [`Stage::searched`].
    pub const fn searched(self) -> Self {
        Self { searched: true, ..self }
    }

    /// Removes the residual.
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
    /// The blocks in order, with these expansion ratios in the stages.
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

    /// The blocks in order, as published.
    pub fn rows(&self) -> Vec<Row> {
        let expansions: Vec<_> = self.stages.iter().map(|stage| stage.expansions).collect();
        self.rows_of(&expansions)
    }
}

/// `channels` times a width multiplier, rounded as in all the libraries.
pub(super) fn scaled(channels: usize, by: f64) -> usize {
    divisible(channels as f64 * by, 8)
}

/// The papers' `make_divisible`: the nearest multiple of `divisor`, or the next one if that is more than a
/// tenth below `channels`.
pub(super) fn divisible(channels: f64, divisor: usize) -> usize {
    let divisor = divisor as f64;
    let rounded = ((channels + divisor / 2.0) / divisor).floor().max(1.0) * divisor;
    (if rounded < 0.9 * channels { rounded + divisor } else { rounded }) as usize
}
