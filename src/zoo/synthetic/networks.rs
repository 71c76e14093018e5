//! The papers' networks from the zoo's tables, in any width and with options.

use super::Builder;
use crate::{
    graph::{
        Activation::{self, HardSwish, Identity, Relu, Relu6},
        Graph,
    },
    zoo::{
        table::{Row, Table, divisible, scaled},
        v1, v2, v3,
    },
};

/// ImageNet's number of classes.
pub const CLASSES: usize = 1000;

/// MobileNetV1 with its channels scaled by `width`.
pub fn v1(width: f64) -> Graph {
    v1_of(width, |b, name, outputs, stride| {
        b.named(format!("{name}.depthwise")).depthwise(3, stride, Relu6);
        b.named(format!("{name}.pointwise")).pointwise(outputs, Relu6);
    })
}

/// MobileNetV1 with one dense 3x3 convolution in place of each depthwise and pointwise pair, the baseline in
/// its paper.
pub fn v1_full() -> Graph {
    v1_of(1.0, |b, name, outputs, stride| {
        b.named(format!("{name}.conv")).conv(3, outputs, stride, Relu6);
    })
}

fn v1_of(width: f64, block: impl Fn(&mut Builder, &str, usize, usize)) -> Graph {
    let mut b = Builder::new(3);
    b.named("stem").conv(3, scaled(v1::V1.stem_channels, width), 2, Relu6);
    for (i, Row { stage, stride, .. }) in v1::V1.rows().into_iter().enumerate() {
        block(&mut b, &format!("block{}", i + 1), scaled(stage.outputs, width), stride);
    }
    classified(b, &[])
}

/// An inverted residual.
struct Inverted {
    kernel: usize,
    /// The expanded channels; none if the block starts with its depthwise convolution.
    expanded: Option<usize>,
    outputs: usize,
    stride: usize,
    activation: Activation,
    /// Squeeze-excite's inner channels divided by the channels that it scales; none without squeeze-excite.
    squeeze: Option<f64>,
}

impl Inverted {
    fn add(&self, b: &mut Builder, name: &str) {
        let (input, inputs) = (b.at(), b.channels());
        if let Some(expanded) = self.expanded {
            b.named(format!("{name}.expand")).pointwise(expanded, self.activation);
        }
        b.named(format!("{name}.depthwise")).depthwise(self.kernel, self.stride, self.activation);
        if let Some(ratio) = self.squeeze {
            let squeezed = scaled(b.channels(), ratio);
            b.named(format!("{name}.squeeze_excite")).squeeze_excite(squeezed, Relu);
        }
        b.named(format!("{name}.project")).pointwise(self.outputs, Identity);
        if self.stride == 1 && inputs == self.outputs {
            b.named(name).residual(input);
        }
    }
}

/// MobileNetV2 with its channels scaled by `width`. The last convolution is never narrower than published.
pub fn v2(width: f64) -> Graph {
    let mut b = Builder::new(3);
    b.named("stem").conv(3, scaled(v2::V2.stem_channels, width), 2, Relu6);
    for (i, Row { stage, stride, expansion }) in v2::V2.rows().into_iter().enumerate() {
        let block = Inverted {
            kernel: stage.kernel,
            expanded: stage.expand.then(|| divisible(expansion * b.channels() as f64, 8)),
            outputs: scaled(stage.outputs, width),
            stride,
            activation: stage.activation,
            squeeze: None,
        };
        block.add(&mut b, &format!("block{}", i + 1));
    }
    b.named("head").pointwise(scaled(1280, width.max(1.0)), Relu6);
    classified(b, &[])
}

/// Options of MobileNetV3. The defaults are the published network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct V3Options {
    /// The width multiplier.
    pub width: f64,
    /// The inner width of squeeze-excite.
    pub squeeze_excite: Squeeze,
    /// True for hard-swish where the published network has it, false for ReLU everywhere.
    pub hard_swish: bool,
    /// Replaces all activations except squeeze-excite's; overrides `hard_swish`.
    pub activation: Option<Activation>,
    /// The stem's channels: 16 as published, or 32 as in earlier networks.
    pub stem: usize,
    /// The layers between the blocks and the classifier.
    pub tail: Tail,
    /// The draw of random weights; see [`Builder::drawn`].
    pub draw: u32,
}

/// The inner width of squeeze-excite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Squeeze {
    /// No squeeze-excite.
    None,
    /// A quarter of the channels that it gates.
    Quarter,
    /// Another fraction of the channels that it gates.
    Ratio(f64),
}

/// The layers between the blocks and the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// V3's: the expansion convolution of one more block, global average pooling, then the widest layer.
    Efficient,
    /// V2's: one more full block, the widest layer, then global average pooling.
    Plain,
}

impl Default for V3Options {
    fn default() -> Self {
        Self {
            width: 1.0,
            squeeze_excite: Squeeze::Quarter,
            hard_swish: true,
            activation: None,
            stem: 16,
            tail: Tail::Efficient,
            draw: 0,
        }
    }
}

/// MobileNetV3-Large.
pub fn v3_large(options: &V3Options) -> Graph {
    v3_of(&v3::LARGE, 1280, options)
}

/// MobileNetV3-Small.
pub fn v3_small(options: &V3Options) -> Graph {
    v3_of(&v3::SMALL, 1024, options)
}

/// The published expanded channels are scaled, as in torchvision. timm expands the scaled inputs instead.
fn v3_of(table: &Table, widest: usize, options: &V3Options) -> Graph {
    let published = |wanted: Activation| if options.hard_swish { wanted } else { Relu };
    let swish = |wanted: Activation| options.activation.unwrap_or(published(wanted));
    let scaled = |channels| scaled(channels, options.width);
    let ratio = match options.squeeze_excite {
        Squeeze::None => None,
        Squeeze::Quarter => Some(0.25),
        Squeeze::Ratio(ratio) => Some(ratio),
    };
    let mut b = Builder::new(3).drawn(options.draw);
    b.named("stem").conv(3, scaled(options.stem), 2, swish(HardSwish));
    let rows = table.rows();
    let mut published = table.stem_channels;
    for (i, &Row { stage, stride, expansion }) in rows.iter().enumerate() {
        let expanded = scaled(divisible(published as f64 * expansion, 8));
        published = stage.outputs;
        let block = Inverted {
            kernel: stage.kernel,
            expanded: stage.expand.then_some(expanded),
            outputs: scaled(published),
            stride,
            activation: swish(stage.activation),
            squeeze: ratio.filter(|_| stage.squeeze),
        };
        block.add(&mut b, &format!("block{}", i + 1));
    }
    let (outputs, expanded, widest) = (b.channels(), 6 * b.channels(), scaled(widest));
    match options.tail {
        Tail::Efficient => {
            b.named("head").pointwise(expanded, swish(HardSwish));
            classified(b, &[(widest, swish(HardSwish))])
        }
        Tail::Plain => {
            let block = Inverted {
                kernel: 3,
                expanded: Some(expanded),
                outputs: 2 * outputs,
                stride: 1,
                activation: swish(HardSwish),
                squeeze: None,
            };
            block.add(&mut b, &format!("block{}", rows.len() + 1));
            b.named("head").pointwise(widest, swish(HardSwish));
            classified(b, &[])
        }
    }
}

/// ResNet-18.
pub fn resnet18() -> Graph {
    resnet([2, 2, 2, 2], 1)
}

/// ResNet-50 with its strides in the 3x3 convolutions, as in torchvision.
pub fn resnet50() -> Graph {
    resnet([3, 4, 6, 3], 4)
}

/// Four stages with these numbers of blocks. With `expansion` 1, a block is two 3x3 convolutions; otherwise
/// it is a bottleneck whose last convolution multiplies the channels by `expansion`.
fn resnet(blocks: [usize; 4], expansion: usize) -> Graph {
    let mut b = Builder::new(3);
    b.named("stem").conv(7, 64, 2, Relu);
    b.named("max_pool").max_pool(3, 2);
    for (stage, (blocks, channels)) in blocks.into_iter().zip([64, 128, 256, 512]).enumerate() {
        for i in 0..blocks {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            residual(&mut b, &format!("stage{}.block{}", stage + 1, i + 1), channels, stride, expansion);
        }
    }
    classified(b, &[])
}

fn residual(b: &mut Builder, name: &str, channels: usize, stride: usize, expansion: usize) {
    let (input, inputs, outputs) = (b.at(), b.channels(), channels * expansion);
    if expansion == 1 {
        b.named(format!("{name}.conv1")).conv(3, channels, stride, Relu);
        b.named(format!("{name}.conv2")).conv(3, outputs, 1, Identity);
    } else {
        b.named(format!("{name}.conv1")).pointwise(channels, Relu);
        b.named(format!("{name}.conv2")).conv(3, channels, stride, Relu);
        b.named(format!("{name}.conv3")).pointwise(outputs, Identity);
    }
    let main = b.at();
    if stride != 1 || inputs != outputs {
        b.back_to(input).named(format!("{name}.shortcut")).conv(1, outputs, stride, Identity);
        b.named(format!("{name}.sum")).residual(main);
    } else {
        b.named(format!("{name}.sum")).residual(input);
    }
    b.named(name).activation(Relu);
}

/// Adds global average pooling, the hidden layers and the classifier, and returns the graph.
fn classified(mut b: Builder, hidden: &[(usize, Activation)]) -> Graph {
    b.named("pool").global_pool();
    for &(outputs, activation) in hidden {
        b.named("hidden").fully_connected(outputs, activation);
    }
    b.named("classifier").fully_connected(CLASSES, Identity);
    b.finish()
}
