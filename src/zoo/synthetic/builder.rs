//! Graphs layer by layer, with weights that depend on nothing but the layers' names.

use std::sync::Arc;

use crate::{
    Tensor,
    graph::{Activation, BatchNorm, Conv, Graph, MaxPool, NodeId, Op, Padding},
    random::Random,
};

/// A graph in the making: each layer reads the latest value and makes the next.
///
/// A convolution is three nodes, as in the libraries: the convolution, its batch norm, its
/// activation. Weights are random and scaled by how many each sum has, so that values neither
/// vanish nor explode; batch norms do next to nothing.
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
    /// Of every value so far.
    channels: Vec<usize>,
    /// The next layer's name, if it was given one.
    name: Option<String>,
    /// What names begin with where they decide weights.
    draw: String,
}

impl Builder {
    /// Begins with an input of so many channels.
    pub fn new(channels: usize) -> Self {
        let mut graph = Graph::default();
        let at = graph.push("input", Op::Input(channels), &[]);
        Self { graph, at, channels: vec![channels], name: None, draw: String::new() }
    }

    /// Other weights of the same layers: another draw for each number, and for 0 those of every network here.
    pub fn drawn(self, draw: u32) -> Self {
        Self { draw: if draw == 0 { String::new() } else { format!("{draw}.") }, ..self }
    }

    /// The latest value.
    pub fn at(&self) -> NodeId {
        self.at
    }

    /// Its channels.
    pub fn channels(&self) -> usize {
        self.channels[self.at.index()]
    }

    /// Goes back to an earlier value of this builder: the next layer reads it.
    pub fn back_to(&mut self, earlier: NodeId) -> &mut Self {
        self.at = earlier;
        self
    }

    /// Names the next layer, and so decides its weights. A layer without a name is called after
    /// what it does and how many nodes came before it.
    pub fn named(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// A convolution of a `kernel` x `kernel` window over all channels.
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

    /// A convolution of a `kernel` x `kernel` window over each channel by itself.
    pub fn depthwise(&mut self, kernel: usize, stride: usize, activation: Activation) -> &mut Self {
        let (name, channels) = (self.name("depthwise"), self.channels());
        self.normed(&name, kernel, channels, stride, channels, activation)
    }

    /// A convolution of one pixel at a time.
    pub fn pointwise(&mut self, outputs: usize, activation: Activation) -> &mut Self {
        let name = self.name("pointwise");
        self.normed(&name, 1, outputs, 1, 1, activation)
    }

    /// A fully connected layer with a bias and without batch norm, on a map of one pixel.
    pub fn fully_connected(&mut self, outputs: usize, activation: Activation) -> &mut Self {
        let name = self.name("fully_connected");
        self.biased(&name, outputs, activation, true)
    }

    /// Scales each channel by a gate between 0 and 1: the mean, `squeezed` channels with this
    /// activation, and back with a hard sigmoid.
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

    /// An activation by itself, as behind a sum.
    pub fn activation(&mut self, activation: Activation) -> &mut Self {
        let (name, channels) = (self.name("activation"), self.channels());
        self.push(name, Op::Activation(activation), channels)
    }

    /// The largest value of each `kernel` x `kernel` window.
    pub fn max_pool(&mut self, kernel: usize, stride: usize) -> &mut Self {
        let (name, channels) = (self.name("max_pool"), self.channels());
        self.push(name, Op::MaxPool(MaxPool { kernel, stride }), channels)
    }

    /// The mean over rows and columns.
    pub fn global_pool(&mut self) -> &mut Self {
        let (name, channels) = (self.name("global_pool"), self.channels());
        self.push(name, Op::GlobalPool, channels)
    }

    /// The graph, whose answer is the last value that was made.
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

    /// A convolution with its batch norm and its activation.
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
        let weight = self.noise(name, dims, 0.0, spread(fan_in, gain(activation)));
        self.push_conv(name, weight, None, stride, groups, false);
        let vector = |what: &str, centre, spread| {
            Arc::new(self.noise(&format!("{name}.norm.{what}"), [outputs], centre, spread))
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

    /// A fully connected layer with its bias and its activation.
    fn biased(&mut self, name: &str, outputs: usize, activation: Activation, linear: bool) -> &mut Self {
        let inputs = self.channels();
        let weight = self.noise(name, [outputs, inputs, 1, 1], 0.0, spread(inputs, gain(activation)));
        let bias = self.noise(&format!("{name}.bias"), [outputs], 0.0, 0.1);
        self.push_conv(name, weight, Some(Arc::new(bias)), 1, 1, linear);
        self.activated(name, activation)
    }

    fn noise(&self, name: &str, dims: impl Into<Vec<usize>>, centre: f32, spread: f32) -> Tensor {
        noise(&format!("{}{name}", self.draw), dims, centre, spread)
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

/// What the variance of weights is multiplied by, to make up for what the activation behind them cuts off.
pub(super) fn gain(activation: Activation) -> f32 {
    match activation {
        Activation::Identity => 1.0,
        Activation::HardSwish => 3.0,
        Activation::Swish => 2.8,
        _ => 2.0,
    }
}

/// Half the range of weights of `fan_in` inputs, so that the mean square of the sums is `gain` times that of the
/// inputs.
pub(super) fn spread(fan_in: usize, gain: f32) -> f32 {
    // A uniform distribution's deviation is its half width over the root of three.
    (3.0 * gain / fan_in.max(1) as f32).sqrt()
}

/// Values within `spread` of `centre` that depend on nothing but the name: its FNV-1a hash,
/// counted up and mixed by splitmix64.
pub(super) fn noise(name: &str, dims: impl Into<Vec<usize>>, centre: f32, spread: f32) -> Tensor {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let mut random = Random::new(seed);
    Tensor::from_fn(dims, |_| centre + spread * (2.0 * random.unit() - 1.0))
}
