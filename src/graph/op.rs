//! What a node computes. The enum is closed: a network is made of these and nothing else.

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
    /// Batch normalisation with fixed statistics; folded into the convolution before it.
    BatchNorm(BatchNorm),
    /// An activation by itself; fused into the convolution before it.
    Activation(Activation),
    /// The sum of two maps of one shape; fused into the convolution that makes one of them.
    Add,
    /// The largest value of a window around each output.
    MaxPool(MaxPool),
    /// A fixed filter that shrinks a map; lowered to a depthwise convolution before it is planned.
    Filter(Filter),
    /// The mean over rows and columns.
    GlobalPool,
    /// Squeeze-excite's last step: each channel of the first input times the second input's value for it.
    Scale,
    /// Bilinear interpolation to other rows and columns: centres of pixels on centres of pixels,
    /// as PyTorch does with `align_corners=False`.
    Resize(Extent),
    /// Maps joined into one.
    Concat(Joint),
    /// At each pixel of the map scaled as by [`Op::Resize`] the channel with the largest value, the
    /// first of equals: `[N, 1, H, W]`.
    Argmax(Extent),
    /// The exponentials of each run of so many channels over their sum, with the runs of all pixels
    /// one after another: `[N, A K, H, W]` becomes `[N, H W A, 1, K]`.
    Softmax(usize),
    /// Boxes from the offsets, four channels each, that the first input has for every anchor:
    /// `[N, 4, 1, boxes]`, left, top, right and bottom in pixels of the picture. Of the other
    /// inputs, the levels, only the sizes count.
    Boxes(Arc<Anchors>),
    /// Of scores as [`Op::Softmax`] has them the best; see [`Select`].
    Select(Select),
}

/// What [`Op::Argmax`] has where a channel's value is not finite. There may be so many channels.
pub const NO_CLASS: u8 = 255;

/// Why labels cannot tell so many classes apart, if they cannot.
pub(crate) fn too_many_classes(classes: usize) -> Option<String> {
    let most = usize::from(NO_CLASS);
    (classes > most).then(|| format!("{classes} classes: a label has room for {most}"))
}

/// The rows and columns that a map is scaled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Those of the second input, of which nothing else counts.
    Like,
    /// So many.
    Exact([usize; 2]),
}

/// How maps are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// Channels behind channels.
    Channels,
    /// Pixels behind pixels, row by row: maps of any size become one of a single row.
    Pixels,
}

/// Of each class but the first at most `most` boxes, the best of those with a score above
/// `threshold`, in the order of the boxes, the first of equals: `[N, 4, classes - 1, most / 2]`. Two
/// share a pixel: score and number of the one, score and number of the other. Where there are
/// fewer the score is zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Select {
    /// A score that is not enough.
    pub threshold: f32,
    /// Boxes of a class.
    pub most: usize,
}

/// A convolution: `activation(conv(x) + bias + residual)`, the residual being its second
/// input if it has one. A fully connected layer is a pointwise convolution of a 1x1 map.
#[derive(Debug, Clone)]
pub struct Conv {
    /// `[outputs, inputs / groups, k, k]`.
    pub weight: Arc<Tensor>,
    /// `[outputs]`.
    pub bias: Option<Arc<Tensor>>,
    /// Pixels between two outputs, both ways.
    pub stride: usize,
    /// Pixels between two taps, both ways.
    pub dilation: usize,
    /// What surrounds the picture.
    pub padding: Padding,
    /// 1, or the number of channels for a depthwise convolution.
    pub groups: usize,
    /// Applied last.
    pub activation: Activation,
    /// True if the source library holds it as a matrix: its output has no rows and columns there.
    pub linear: bool,
}

/// The zeros around a convolution's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// `dilation * (k - 1) / 2` on every side, as PyTorch's networks have it.
    Symmetric,
    /// TensorFlow's `SAME`: as many as give `ceil(input / stride)` outputs, the smaller half first.
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

/// The largest value of a square window, of those of its pixels that lie on the map. Windows
/// reach beyond it as a convolution's do that is padded symmetrically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    /// The side of the window.
    pub kernel: usize,
    /// Pixels between two outputs, both ways.
    pub stride: usize,
}

/// Each channel's sums of a window with fixed weights, the products of a row's and a column's taps. Windows
/// reach beyond the map as a convolution's do that is padded symmetrically.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filter {
    /// Of the map.
    pub channels: usize,
    /// The weights of one direction.
    pub taps: &'static [f32],
    /// Pixels between two outputs, both ways.
    pub stride: usize,
}

impl Filter {
    /// The depthwise convolution that it is.
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

/// A function of one value.
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

    /// The number that shaders know it by.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// By its name, as [`fmt::Display`] writes it.
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

/// The three convolutions that differ in cost, and so in kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvKind {
    /// Every output channel reads every input channel over a window.
    Dense,
    /// Every channel by itself over a window.
    Depthwise,
    /// One pixel at a time: a matrix product.
    Pointwise,
}

/// Where a window lies on an input of a given size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows of zeros above the picture.
    pub top: usize,
    /// Columns of zeros to its left.
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

    /// The side of the square window.
    pub fn kernel(&self) -> usize {
        self.weight.dims()[2]
    }

    /// Which of the three kinds this is; none if it is grouped in another way.
    pub fn kind(&self) -> Option<ConvKind> {
        match (self.groups, self.kernel(), self.stride) {
            (1, 1, 1) => Some(ConvKind::Pointwise),
            (1, _, _) => Some(ConvKind::Dense),
            (g, _, _) if g == self.inputs() && g == self.outputs() => Some(ConvKind::Depthwise),
            _ => None,
        }
    }

    /// The window's place on `height` x `width` pixels; none if not one output fits.
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
    /// The window's place on `height` x `width` pixels; none if not one output fits.
    pub fn window(&self, height: usize, width: usize) -> Option<Window> {
        let reach = self.kernel.checked_sub(1)?;
        let (top, height) = symmetric(height, reach, self.stride)?;
        let (left, width) = symmetric(width, reach, self.stride)?;
        Some(Window { top, left, height, width })
    }
}

/// What lies before the first of `size` pixels, half of the window's reach, and the outputs.
fn symmetric(size: usize, reach: usize, stride: usize) -> Option<(usize, usize)> {
    let before = reach / 2;
    Some((before, (size + 2 * before).checked_sub(reach + 1)?.checked_div(stride)? + 1))
}

impl Op {
    /// Why nothing computes it by itself.
    pub(crate) fn alone(&self) -> String {
        match self {
            Self::Conv(conv) => {
                let (groups, inputs) = (conv.groups, conv.inputs());
                format!("{groups} groups of {inputs} channels: only 1 or all are supported")
            }
            _ => format!("{} stands alone: no convolution before it could take it in", self.name(None)),
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
