//! The operations of a graph. The enum is closed: networks consist of these alone.
//!
//! `ARCHITECTURE.md` has guides for adding an operation and an activation function.

use std::{fmt, sync::Arc};

use super::Anchors;
use crate::{Shape, Tensor};

/// One operation.
#[derive(Debug, Clone)]
pub enum Op {
    /// The picture, with this many channels.
    Input(usize),
    /// A convolution; see [`Conv`].
    Conv(Conv),
    /// Batch normalisation with fixed statistics; folded into the preceding convolution.
    BatchNorm(BatchNorm),
    /// A separate activation; fused into the preceding convolution.
    Activation(Activation),
    /// The sum of two maps of the same shape; fused into the convolution that computes one of them.
    Add,
    /// The maximum of a window around each output.
    MaxPool(MaxPool),
    /// A fixed downsampling filter; lowered to a depthwise convolution before planning.
    Filter(Filter),
    /// The mean over rows and columns.
    GlobalPool,
    /// Squeeze-excite's last step: each channel of the first input times the second input's value for it.
    Scale,
    /// Bilinear resizing with half-pixel centres, as PyTorch does with `align_corners=False`.
    Resize(Extent),
    /// The concatenation of maps.
    Concat(ConcatAxis),
    /// The channel with the largest value at each pixel of the resized map (see [`Op::Resize`]), or the first
    /// such channel: `[N, 1, H, W]`.
    Argmax(Extent),
    /// The softmax of each group of this many channels, with the groups of all pixels concatenated:
    /// `[N, A K, H, W]` becomes `[N, H W A, 1, K]`.
    Softmax(usize),
    /// Boxes, decoded from the first input's four offset channels per anchor: `[N, 4, 1, boxes]`, left, top,
    /// right and bottom in pixels of the network's input. The other inputs are the levels; only their sizes
    /// are used.
    Boxes(Arc<Anchors>),
    /// The best of [`Op::Softmax`]'s scores per class; see [`Select`].
    Select(Select),
}

/// The label of a pixel with a value that is not finite; also the maximum number of channels of
/// [`Op::Argmax`].
pub const NO_CLASS: u8 = 255;

/// The error for more classes than labels can distinguish.
pub(crate) fn too_many_classes(classes: usize) -> Option<String> {
    let most = usize::from(NO_CLASS);
    (classes > most).then(|| format!("{classes} classes are too many: labels distinguish at most {most}"))
}

/// The rows and columns that a map is resized to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Those of the second input, whose values are not used.
    Like,
    /// These numbers of rows and columns.
    Exact([usize; 2]),
}

/// The axis of a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcatAxis {
    /// Along the channels.
    Channels,
    /// Along the pixels, row by row: maps of any size become a single row.
    Pixels,
}

/// The boxes with the best scores of each class except the first: at most `most` per class, with scores above
/// `threshold`, in box order. Of boxes with equal scores, the first are selected. The output is
/// `[N, 4, classes - 1, most / 2]`, with `most / 2` rounded up. Each pixel has the score and index of one box,
/// then the score and index of another. Unused entries have score zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Select {
    /// The score that a box must exceed.
    pub threshold: f32,
    /// The maximum number of boxes per class.
    pub most: usize,
}

/// A convolution: `activation(conv(x) + bias + residual)`, where the residual is its optional
/// second input. A fully connected layer is a pointwise convolution of a 1x1 map.
#[derive(Debug, Clone)]
pub struct Conv {
    /// `[outputs, inputs / groups, k, k]`.
    pub weight: Arc<Tensor>,
    /// `[outputs]`.
    pub bias: Option<Arc<Tensor>>,
    /// The step between adjacent outputs in pixels, vertically and horizontally.
    pub stride: usize,
    /// The step between adjacent taps in pixels, vertically and horizontally.
    pub dilation: usize,
    /// The zeros around the input.
    pub padding: Padding,
    /// 1, or the number of channels for a depthwise convolution.
    pub groups: usize,
    /// Applied last.
    pub activation: Activation,
    /// True if it is a linear layer in the source library, with an output of `[N, C]`.
    pub linear: bool,
}

/// The zeros around a convolution's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// `dilation * (k - 1) / 2` on every side, as in PyTorch's networks.
    Symmetric,
    /// TensorFlow's `SAME`: enough for `ceil(input / stride)` outputs, the smaller half first.
    Same,
}

/// Batch normalisation with fixed statistics, all of them `[channels]`.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// The learnt scale.
    pub gamma: Arc<Tensor>,
    /// The learnt offset.
    pub beta: Arc<Tensor>,
    /// The running mean.
    pub mean: Arc<Tensor>,
    /// The running variance.
    pub variance: Arc<Tensor>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNorm {
    /// The number of channels; none if the tensors disagree on it.
    pub fn channels(&self) -> Option<usize> {
        let [channels, others @ ..] =
            [&self.gamma, &self.beta, &self.mean, &self.variance].map(|tensor| tensor.data().len());
        others.iter().all(|other| *other == channels).then_some(channels)
    }
}

/// The maximum of a square window, ignoring pixels outside the map. Windows extend beyond the map like those
/// of a convolution with symmetric padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    /// The height and width of the window.
    pub kernel: usize,
    /// The step between adjacent outputs in pixels, vertically and horizontally.
    pub stride: usize,
}

/// A fixed separable filter per channel: each weight is the product of a row's and a column's tap. Windows
/// extend beyond the map like those of a convolution with symmetric padding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filter {
    /// The channels of the map.
    pub channels: usize,
    /// The weights of one direction.
    pub taps: &'static [f32],
    /// The step between adjacent outputs in pixels, vertically and horizontally.
    pub stride: usize,
}

impl Filter {
    /// The equivalent depthwise convolution.
    pub fn conv(&self) -> Conv {
        let Self { channels, taps, stride } = *self;
        let side = taps.len();
        let weight = |i: usize| taps[i / side % side] * taps[i % side];
        Conv {
            weight: Arc::new(Tensor::from_fn([channels, 1, side, side], weight)),
            bias: None,
            stride,
            dilation: 1,
            padding: Padding::Symmetric,
            groups: channels,
            activation: Activation::Identity,
            linear: false,
        }
    }
}

/// An elementwise function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// x
    #[default]
    Identity,
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x relu6(x + 3) / 6
    HardSwish,
    /// relu6(x + 3) / 6
    HardSigmoid,
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// x / (1 + exp(-x))
    Swish,
}

impl Activation {
    /// Every activation, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Relu,
        Self::Relu6,
        Self::HardSwish,
        Self::HardSigmoid,
        Self::Sigmoid,
        Self::Swish,
    ];

    /// Its number in shaders.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The activation with this name, as [`fmt::Display`] writes it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|activation| activation.to_string() == name)
    }

    /// The function itself.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Relu => x.max(0.0),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Swish => x / (1.0 + (-x).exp()),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::HardSwish => "hard_swish",
            Self::HardSigmoid => "hard_sigmoid",
            Self::Sigmoid => "sigmoid",
            Self::Swish => "swish",
        })
    }
}

/// The kinds of convolutions, which differ in cost and in kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvKind {
    /// Every output channel reads every input channel over a window.
    Dense,
    /// Every channel separately over a window.
    Depthwise,
    /// One pixel at a time: a matrix product.
    Pointwise,
}

/// The placement of windows on an input of a given size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows of zeros above the picture.
    pub top: usize,
    /// Columns of zeros to the left of the picture.
    pub left: usize,
    /// Output rows.
    pub height: usize,
    /// Output columns.
    pub width: usize,
}

impl Conv {
    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Input channels.
    pub fn inputs(&self) -> usize {
        self.weight.dims()[1] * self.groups
    }

    /// The height and width of the square window.
    pub fn kernel(&self) -> usize {
        self.weight.dims()[2]
    }

    /// The kind of the convolution; none for other numbers of groups.
    pub fn kind(&self) -> Option<ConvKind> {
        match (self.groups, self.kernel(), self.stride) {
            (1, 1, 1) => Some(ConvKind::Pointwise),
            (1, _, _) => Some(ConvKind::Dense),
            (g, _, _) if g == self.inputs() && g == self.outputs() => Some(ConvKind::Depthwise),
            _ => None,
        }
    }

    /// The windows on `height` x `width` pixels; none if no output fits.
    pub fn window(&self, height: usize, width: usize) -> Option<Window> {
        let reach = self.dilation * (self.kernel() - 1);
        let axis = |size: usize| match self.padding {
            Padding::Symmetric => symmetric(size, reach, self.stride),
            Padding::Same => {
                let out = size.div_ceil(self.stride);
                let total = ((out - 1) * self.stride + reach + 1).saturating_sub(size);
                Some((total / 2, out))
            }
        };
        let (top, height) = axis(height)?;
        let (left, width) = axis(width)?;
        Some(Window { top, left, height, width })
    }
}

impl MaxPool {
    /// The windows on `height` x `width` pixels; none if no output fits.
    pub fn window(&self, height: usize, width: usize) -> Option<Window> {
        let reach = self.kernel.checked_sub(1)?;
        let (top, height) = symmetric(height, reach, self.stride)?;
        let (left, width) = symmetric(width, reach, self.stride)?;
        Some(Window { top, left, height, width })
    }
}

/// The padding before the first of `size` pixels, half of `reach`, and the number of outputs.
fn symmetric(size: usize, reach: usize, stride: usize) -> Option<(usize, usize)> {
    let before = reach / 2;
    Some((before, (size + 2 * before).checked_sub(reach + 1)?.checked_div(stride)? + 1))
}

impl Op {
    /// Returns whether it is post-processing, for which the source libraries have functions instead of
    /// modules.
    pub(crate) fn is_post_processing(&self) -> bool {
        matches!(self, Self::Argmax(_) | Self::Softmax(_) | Self::Boxes(_) | Self::Select(_))
    }

    /// The error for an operation that no kernel computes unfused.
    pub(crate) fn unfused_error(&self) -> String {
        match self {
            Self::Conv(conv) => {
                let (groups, inputs) = (conv.groups, conv.inputs());
                format!("{groups} groups of {inputs} channels: only 1 group or 1 per channel is supported")
            }
            _ => format!("{} has no kernel, and no preceding convolution to fuse it into", self.name(None)),
        }
    }

    /// A short name, as `inspect` prints it.
    pub fn name(&self, input: Option<Shape>) -> String {
        match self {
            Self::Input(_) => "input".into(),
            Self::Conv(conv) => match (conv.kind(), input) {
                (Some(ConvKind::Pointwise), Some(Shape { h: 1, w: 1, .. })) => "fully_connected",
                (Some(ConvKind::Pointwise), _) => "pointwise",
                (Some(ConvKind::Depthwise), _) => "depthwise",
                (Some(ConvKind::Dense) | None, _) => "conv",
            }
            .into(),
            Self::BatchNorm(_) => "batch_norm".into(),
            Self::Activation(a) => a.to_string(),
            Self::Add => "add".into(),
            Self::MaxPool(_) => "max_pool".into(),
            Self::Filter(_) => "filter".into(),
            Self::GlobalPool => "global_pool".into(),
            Self::Scale => "scale".into(),
            Self::Resize(_) => "resize".into(),
            Self::Concat(_) => "concat".into(),
            Self::Argmax(_) => "argmax".into(),
            Self::Softmax(_) => "softmax".into(),
            Self::Boxes(_) => "boxes".into(),
            Self::Select(_) => "select".into(),
        }
    }
}
