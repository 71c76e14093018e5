//! Builds a graph layer by layer from a checkpoint's tensors and module names.

use std::sync::Arc;

use super::{rules::Rules, skeleton::Layer, table::Antialias};
use crate::{
    Error, Result, Tensor,
    checkpoint::{Source, Tensors},
    graph::{Activation, BatchNorm, ConcatAxis, Conv, Extent, Filter, Graph, NodeId, Op},
};

/// The geometry of a convolution: the expected kernel, and its stride and dilation.
#[derive(Clone, Copy)]
pub(super) struct ConvGeometry {
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub depthwise: bool,
}

pub(super) const POINTWISE: ConvGeometry =
    ConvGeometry { kernel: 1, stride: 1, dilation: 1, depthwise: false };

/// A feature map of the graph: its node and its channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct FeatureMap {
    pub id: NodeId,
    pub channels: usize,
}

pub(super) struct Builder<'a> {
    tensors: &'a Tensors<'a>,
    rules: &'a Rules,
    /// The table's activation that [`Rules::activation`] replaces.
    replaced: Activation,
    /// The epsilon of the following batch norms; a head's may differ from the backbone's.
    epsilon: f64,
    pub graph: Graph,
    /// The current value: the next layer's input.
    pub at: FeatureMap,
}

impl<'a> Builder<'a> {
    /// Starts with an input of `channels` channels. [`Rules::activation`], if set, replaces the table's
    /// activation `replaced`.
    pub fn new(tensors: &'a Tensors<'a>, rules: &'a Rules, replaced: Activation, channels: usize) -> Self {
        let mut graph = Graph::default();
        let at = FeatureMap { id: graph.push("input", Op::Input(channels), &[]), channels };
        Self { tensors, rules, replaced, epsilon: rules.epsilon.value, graph, at }
    }

    pub fn rules(&self) -> &'a Rules {
        self.rules
    }

    pub fn tensors(&self) -> &'a Tensors<'a> {
        self.tensors
    }

    /// Sets the epsilon of the following batch norms, unless `--set` or the weights file gives one.
    pub fn epsilon(&mut self, epsilon: f64) {
        if matches!(self.rules.epsilon.from, Source::Default(_) | Source::Config(_)) {
            self.epsilon = epsilon;
        }
    }

    /// A convolution's kernel size.
    pub fn kernel_size(&self, module: &str) -> Option<usize> {
        self.tensors.shape(&self.key(module, "weight"))?.last().copied()
    }

    /// True if the checkpoint has tensors of this module.
    pub fn has(&self, module: &str) -> bool {
        self.tensors.has(&format!("{module}."))
    }

    /// An error about a tensor of the checkpoint.
    pub fn error(&self, key: &str, reason: String) -> Error {
        self.tensors.error(key, reason)
    }

    /// Resizes the current value to the rows and columns of `map`.
    pub fn resize_like(&mut self, name: &str, map: FeatureMap) {
        self.at.id = self.graph.push(name, Op::Resize(Extent::Like), &[self.at.id, map.id]);
    }

    /// Concatenates `parts`.
    pub fn join(&mut self, name: &str, axis: ConcatAxis, parts: &[FeatureMap]) {
        let ids: Vec<NodeId> = parts.iter().map(|part| part.id).collect();
        let channels = match axis {
            ConcatAxis::Channels => parts.iter().map(|part| part.channels).sum(),
            ConcatAxis::Pixels => parts[0].channels,
        };
        self.at = FeatureMap { id: self.graph.push(name, Op::Concat(axis), &ids), channels };
    }

    /// Adds an operation that keeps the number of channels.
    pub fn push(&mut self, name: &str, op: Op) {
        self.at.id = self.graph.push(name, op, &[self.at.id]);
    }

    /// One of a batch norm's parameter vectors.
    fn vector(&mut self, module: &str, name: &str) -> Result<Arc<Tensor>> {
        Ok(Arc::new(self.tensors.tensor(&format!("{module}.{name}"), &[Some(self.at.channels)])?))
    }

    /// Adds a convolution, its batch norm and activation, and its anti-aliasing filter.
    pub fn layer(&mut self, layer: &Layer, geometry: ConvGeometry, activation: Activation) -> Result<()> {
        let filter = layer.filter.as_ref().filter(|_| geometry.stride > 1);
        let filter = filter.filter(|_| self.rules.antialias.value != Antialias::None);
        let stride = if filter.is_some() { 1 } else { geometry.stride };
        // If the batch norm was folded into the convolution, the convolution has a bias.
        let norm = layer.norm.as_ref();
        let folded = norm.is_some_and(|norm| !self.has(norm)) && self.bias_of(&layer.conv).is_some();
        self.conv(&layer.conv, ConvGeometry { stride, ..geometry }, folded)?;
        let Some(norm) = norm else {
            return Ok(());
        };
        // timm's batch norms contain their activation: the module's output is the activated value. The
        // normalised value is the output of the identity `drop` inside.
        let (norm_node, activation_node) = match &layer.activation {
            Some(activation) => (norm.clone(), activation),
            None if activation == Activation::Identity => (norm.clone(), norm),
            None => (format!("{norm}.drop"), norm),
        };
        if !folded {
            self.norm(norm, &norm_node)?;
        }
        if activation != Activation::Identity {
            self.activation(activation_node, self.effective(activation));
        }
        if let Some(filter) = filter {
            self.downsample(filter, geometry.stride);
        }
        Ok(())
    }

    /// The activation to use where the table has `activation`; see [`Rules::activation`].
    pub fn effective(&self, activation: Activation) -> Activation {
        match &self.rules.activation {
            Some(rule) if activation == self.replaced => rule.value,
            _ => activation,
        }
    }

    /// Adds the batch norm of module `norm`, as a node named `node`.
    pub fn norm(&mut self, norm: &str, node: &str) -> Result<()> {
        let op = BatchNorm {
            gamma: self.vector(norm, "weight")?,
            beta: self.vector(norm, "bias")?,
            mean: self.vector(norm, "running_mean")?,
            variance: self.vector(norm, "running_var")?,
            epsilon: self.epsilon,
        };
        if let Some(negative) = op.variance.data().iter().find(|v| **v < 0.0) {
            let key = format!("{norm}.running_var");
            return Err(self.tensors.error(&key, format!("a variance cannot be negative: {negative}")));
        }
        self.push(node, Op::BatchNorm(op));
        Ok(())
    }

    /// Adds the anti-aliasing filter, which downsamples by `stride`.
    fn downsample(&mut self, name: &str, stride: usize) {
        let taps: &[f32] = match self.rules.antialias.value {
            Antialias::Average => &[0.5; 2],
            _ => &[0.25, 0.5, 0.25],
        };
        self.push(name, Op::Filter(Filter { channels: self.at.channels, taps, stride }));
    }

    pub fn activation(&mut self, name: &str, activation: Activation) {
        self.push(name, Op::Activation(activation));
    }

    /// The name of a convolution's tensor. torch's module fusion turns a layer's modules into a list, with
    /// the convolution first.
    fn key(&self, module: &str, end: &str) -> String {
        let [direct, listed] = [format!("{module}.{end}"), format!("{module}.0.{end}")];
        if !self.tensors.contains(&direct) && self.tensors.contains(&listed) { listed } else { direct }
    }

    fn bias_of(&self, module: &str) -> Option<String> {
        Some(self.key(module, "bias")).filter(|key| self.tensors.contains(key))
    }

    /// Adds a convolution. `biased` is true if a batch norm was folded into it.
    fn conv(&mut self, name: &str, geometry: ConvGeometry, biased: bool) -> Result<()> {
        let channels = self.at.channels;
        let (outputs, inputs) = if geometry.depthwise { (Some(channels), 1) } else { (None, channels) };
        let k = Some(geometry.kernel);
        let key = self.key(name, "weight");
        let weight = self.tensors.tensor(&key, &[outputs, Some(inputs), k, k])?;
        let bias = self.bias_of(name).filter(|_| biased);
        let bias = bias.map(|key| self.tensors.tensor(&key, &[Some(weight.dims()[0])])).transpose()?;
        let conv = self.conv_of(weight, bias.map(Arc::new), geometry);
        self.push_conv(name, conv);
        self.attach_scales(&key)
    }

    /// Adds a fully connected layer. `matrix` is true if the weight has two dimensions, not four. `outputs`
    /// is the required number of outputs, if known.
    pub fn fully_connected(
        &mut self,
        name: &str,
        matrix: bool,
        outputs: Option<usize>,
        bias: bool,
    ) -> Result<()> {
        let inputs = self.at.channels;
        let shape = [outputs, Some(inputs), Some(1), Some(1)];
        let key = self.key(name, "weight");
        let weight = self.tensors.tensor(&key, &shape[..if matrix { 2 } else { 4 }])?;
        let outputs = weight.dims()[0];
        let bias = match bias {
            true => Some(Arc::new(self.tensors.tensor(&self.key(name, "bias"), &[Some(outputs)])?)),
            false => None,
        };
        let weight = Tensor::new([outputs, inputs, 1, 1], weight.into_data())?;
        let conv = self.conv_of(weight, bias, POINTWISE);
        self.push_conv(name, Conv { linear: matrix, ..conv });
        self.attach_scales(&key)
    }

    /// Attaches the scales of an int8 weight to the current convolution.
    fn attach_scales(&mut self, key: &str) -> Result<()> {
        self.graph.node_mut(self.at.id).weight_scales = self.tensors.scales(key)?.map(Into::into);
        Ok(())
    }

    /// A convolution of the current value.
    fn conv_of(&self, weight: Tensor, bias: Option<Arc<Tensor>>, geometry: ConvGeometry) -> Conv {
        Conv {
            weight: Arc::new(weight),
            bias,
            stride: geometry.stride,
            dilation: geometry.dilation,
            padding: self.rules.padding.value,
            groups: if geometry.depthwise { self.at.channels } else { 1 },
            activation: Activation::Identity,
            linear: false,
        }
    }

    fn push_conv(&mut self, name: &str, conv: Conv) {
        self.at.channels = conv.outputs();
        self.push(name, Op::Conv(conv));
    }

    /// Adds a pointwise convolution with fixed weights, one row per output.
    pub fn constant(&mut self, name: &str, rows: &[&[f32]]) -> Result<()> {
        let weight = Tensor::new([rows.len(), self.at.channels, 1, 1], rows.concat())?;
        let conv = self.conv_of(weight, None, POINTWISE);
        self.push_conv(name, conv);
        Ok(())
    }
}
