//! Builds graphs layer by layer, with random weights seeded by the layers' names.

use std::sync::Arc;

use crate::{
    Tensor,
    graph::{Activation, BatchNorm, Conv, Graph, MaxPool, NodeId, Op, Padding},
    random::Random,
};

/// Builds a graph layer by layer: each layer reads the current value and replaces it.
///
/// A convolution is three nodes, as in the libraries: the convolution, its batch norm and its activation.
/// Weights are random and scaled by the fan-in, so that values do not vanish or explode. Batch norms are
/// close to the identity.
///
/// ```
/// use goldcrest::{graph::Activation::Relu6, zoo::synthetic::Builder};
/// let mut b = Builder::new(3);
/// b.named("stem").conv(3, 32, 2, Relu6);
/// let start = b.at();
/// b.named("block.depthwise").depthwise(3, 1, Relu6);
/// b.named("block.project").pointwise(32, Relu6);
/// b.named("block").residual(start);
/// let graph = b.finish();
/// ```
#[derive(Debug, Clone)]
pub struct Builder {
    graph: Graph,
    at: NodeId,
    /// Channels of each node's value.
    channels: Vec<usize>,
    /// The next layer's name, if it was given.
    name: Option<String>,
    /// A prefix of layer names in the weights' seeds.
    seed_prefix: String,
}

impl Builder {
    /// Starts with an input of `channels` channels.
    pub fn new(channels: usize) -> Self {
        let mut graph = Graph::default();
        let at = graph.push("input", Op::Input(channels), &[]);
        Self { graph, at, channels: vec![channels], name: None, seed_prefix: String::new() }
    }

    /// Selects another draw of the random weights for the same layers. 0 is the default draw.
    pub fn drawn(self, draw: u32) -> Self {
        Self { seed_prefix: if draw == 0 { String::new() } else { format!("{draw}.") }, ..self }
    }

    /// The current value.
    pub fn at(&self) -> NodeId {
        self.at
    }

    /// The current value's channels.
    pub fn channels(&self) -> usize {
        self.channels[self.at.index()]
    }

    /// Makes an earlier value of this builder the current one.
    pub fn back_to(&mut self, earlier: NodeId) -> &mut Self {
        self.at = earlier;
        self
    }

    /// Names the next layer. The name also seeds its weights. The default name is the kind of layer and the
    /// number of nodes so far.
    pub fn named(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// Adds a dense `kernel` x `kernel` convolution.
    pub fn conv(
        &mut self,
        kernel: usize,
        outputs: usize,
        stride: usize,
        activation: Activation,
    ) -> &mut Self {
        let name = self.name("conv");
        self.normed(&name, kernel, outputs, stride, 1, activation)
    }

    /// Adds a depthwise `kernel` x `kernel` convolution.
    pub fn depthwise(&mut self, kernel: usize, stride: usize, activation: Activation) -> &mut Self {
        let (name, channels) = (self.name("depthwise"), self.channels());
        self.normed(&name, kernel, channels, stride, channels, activation)
    }

    /// Adds a 1x1 convolution.
    pub fn pointwise(&mut self, outputs: usize, activation: Activation) -> &mut Self {
        let name = self.name("pointwise");
        self.normed(&name, 1, outputs, 1, 1, activation)
    }

    /// Adds a fully connected layer on a map of one pixel, with a bias and without batch norm.
    pub fn fully_connected(&mut self, outputs: usize, activation: Activation) -> &mut Self {
        let name = self.name("fully_connected");
        self.biased(&name, outputs, activation, true)
    }

    /// Adds squeeze-excite, which scales each channel by a gate between 0 and 1. Three steps compute the
    /// gates: global average pooling, a layer to `squeezed` channels with this activation, and a layer back
    /// to all channels with a hard sigmoid.
    pub fn squeeze_excite(&mut self, squeezed: usize, activation: Activation) -> &mut Self {
        let (name, map, channels) = (self.name("squeeze_excite"), self.at, self.channels());
        self.push(format!("{name}.pool"), Op::GlobalPool, channels);
        self.biased(&format!("{name}.reduce"), squeezed, activation, false);
        self.biased(&format!("{name}.expand"), channels, Activation::HardSigmoid, false);
        self.push_reading(name, Op::Scale, &[map, self.at], channels)
    }

    /// Adds an earlier value, which must have the same shape.
    pub fn residual(&mut self, from: NodeId) -> &mut Self {
        let (name, channels) = (self.name("sum"), self.channels());
        self.push_reading(name, Op::Add, &[from, self.at], channels)
    }

    /// Adds a separate activation, such as that after a residual sum.
    pub fn activation(&mut self, activation: Activation) -> &mut Self {
        let (name, channels) = (self.name("activation"), self.channels());
        self.push(name, Op::Activation(activation), channels)
    }

    /// Adds max pooling with a `kernel` x `kernel` window.
    pub fn max_pool(&mut self, kernel: usize, stride: usize) -> &mut Self {
        let (name, channels) = (self.name("max_pool"), self.channels());
        self.push(name, Op::MaxPool(MaxPool { kernel, stride }), channels)
    }

    /// Adds global average pooling.
    pub fn global_pool(&mut self) -> &mut Self {
        let (name, channels) = (self.name("global_pool"), self.channels());
        self.push(name, Op::GlobalPool, channels)
    }

    /// Returns the graph, whose output is the last node's value.
    pub fn finish(self) -> Graph {
        self.graph
    }

    fn name(&mut self, kind: &str) -> String {
        self.name.take().unwrap_or_else(|| format!("{kind}{}", self.channels.len()))
    }

    fn push(&mut self, name: String, op: Op, channels: usize) -> &mut Self {
        self.push_reading(name, op, &[self.at], channels)
    }

    fn push_reading(&mut self, name: String, op: Op, inputs: &[NodeId], channels: usize) -> &mut Self {
        self.at = self.graph.push(name, op, inputs);
        self.channels.push(channels);
        self
    }

    /// Adds a convolution with its batch norm and its activation.
    fn normed(
        &mut self,
        name: &str,
        kernel: usize,
        outputs: usize,
        stride: usize,
        groups: usize,
        activation: Activation,
    ) -> &mut Self {
        let fan_in = self.channels() / groups * kernel * kernel;
        let dims = [outputs, self.channels() / groups, kernel, kernel];
        let weight = self.random_tensor(name, dims, 0.0, spread(fan_in, gain(activation)));
        self.push_conv(name, weight, None, stride, groups, false);
        let vector = |what: &str, centre, spread| {
            Arc::new(self.random_tensor(&format!("{name}.norm.{what}"), [outputs], centre, spread))
        };
        let norm = BatchNorm {
            gamma: vector("gamma", 1.0, 0.1),
            beta: vector("beta", 0.0, 0.1),
            mean: vector("mean", 0.0, 0.1),
            variance: vector("variance", 1.0, 0.1),
            epsilon: 1e-5,
        };
        self.push(format!("{name}.norm"), Op::BatchNorm(norm), outputs);
        self.activated(name, activation)
    }

    /// Adds a fully connected layer with its bias and its activation.
    fn biased(&mut self, name: &str, outputs: usize, activation: Activation, linear: bool) -> &mut Self {
        let inputs = self.channels();
        let weight = self.random_tensor(name, [outputs, inputs, 1, 1], 0.0, spread(inputs, gain(activation)));
        let bias = self.random_tensor(&format!("{name}.bias"), [outputs], 0.0, 0.1);
        self.push_conv(name, weight, Some(Arc::new(bias)), 1, 1, linear);
        self.activated(name, activation)
    }

    fn random_tensor(&self, name: &str, dims: impl Into<Vec<usize>>, centre: f32, spread: f32) -> Tensor {
        random_tensor(&format!("{}{name}", self.seed_prefix), dims, centre, spread)
    }

    fn push_conv(
        &mut self,
        name: &str,
        weight: Tensor,
        bias: Option<Arc<Tensor>>,
        stride: usize,
        groups: usize,
        linear: bool,
    ) {
        let outputs = weight.dims()[0];
        let conv = Conv {
            weight: Arc::new(weight),
            bias,
            stride,
            dilation: 1,
            padding: Padding::Symmetric,
            groups,
            activation: Activation::Identity,
            linear,
        };
        self.push(name.into(), Op::Conv(conv), outputs);
    }

    fn activated(&mut self, name: &str, activation: Activation) -> &mut Self {
        if activation == Activation::Identity {
            return self;
        }
        self.named(format!("{name}.activation")).activation(activation)
    }
}

/// The factor on the variance of weights that compensates for the loss in the following activation.
pub(super) fn gain(activation: Activation) -> f32 {
    match activation {
        Activation::Identity => 1.0,
        Activation::HardSwish => 3.0,
        Activation::Swish => 2.8,
        _ => 2.0,
    }
}

/// Half the range of weights, such that sums over `fan_in` inputs have `gain` times the inputs' mean square.
pub(super) fn spread(fan_in: usize, gain: f32) -> f32 {
    // A uniform distribution's standard deviation is half its width divided by sqrt(3).
    (3.0 * gain / fan_in.max(1) as f32).sqrt()
}

/// Values within `spread` of `centre`, seeded by the FNV-1a hash of `name`.
pub(super) fn random_tensor(name: &str, dims: impl Into<Vec<usize>>, centre: f32, spread: f32) -> Tensor {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let mut random = Random::new(seed);
    Tensor::from_fn(dims, |_| centre + spread * (2.0 * random.unit() - 1.0))
}
