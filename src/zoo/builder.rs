//! Layers from a checkpoint's tensors and its modules' names, one behind another.

use std::{collections::HashSet, sync::Arc};

use super::{checkpoint::Checkpoint, skeleton::Layer, table::Family};
use crate::{
    Error, Result, Tensor,
    graph::{Activation, BatchNorm, Conv, Extent, Graph, Joint, NodeId, Op, Padding},
};

/// What a library does alike in all of a network.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub padding: Padding,
    /// Batch norm's.
    pub epsilon: f64,
    /// Instead of the table's.
    pub activation: Option<Activation>,
    pub dilated: Option<Dilated>,
}

/// Strides that become dilations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dilated {
    /// Once the picture is this many times smaller.
    pub stride: usize,
    /// Whether the block that would have halved the map is dilated itself, not only those behind
    /// it: torchvision's networks are like that, and transformers' are not.
    pub at_once: bool,
}

/// What a convolution's weight must look like, and how it moves.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub depthwise: bool,
}

pub(super) const POINTWISE: Form = Form { kernel: 1, stride: 1, dilation: 1, depthwise: false };

/// A map of the graph, by its node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub id: NodeId,
    pub channels: usize,
}

pub(super) struct Builder<'a> {
    checkpoint: &'a Checkpoint,
    rules: &'a Rules,
    /// Batch norm's, which what answers may have another of.
    pub epsilon: f64,
    pub graph: Graph,
    /// The latest value.
    pub at: Map,
    /// The keys read so far.
    used: HashSet<String>,
}

impl<'a> Builder<'a> {
    /// Begins with a picture of so many channels.
    pub fn new(checkpoint: &'a Checkpoint, rules: &'a Rules, channels: usize) -> Self {
        let mut graph = Graph::default();
        let at = Map { id: graph.push("input", Op::Input(channels), &[]), channels };
        Self { checkpoint, rules, epsilon: rules.epsilon, graph, at, used: HashSet::new() }
    }

    pub fn rules(&self) -> &'a Rules {
        self.rules
    }

    /// Refuses a checkpoint with tensors that were not read.
    pub fn used_all(&self, family: Family) -> Result<()> {
        let unread = |key: &&str| !self.used.contains(*key) && !key.ends_with("num_batches_tracked");
        let mut extra = self.checkpoint.keys().filter(unread);
        let Some(key) = extra.next() else { return Ok(()) };
        let others = match extra.count() {
            0 => String::new(),
            n => format!(" (nor are {n} more)"),
        };
        Err(self.error(key, format!("is no part of {family}{others}")))
    }

    /// Whether the checkpoint has a module of this name.
    pub fn has(&self, module: &str) -> bool {
        self.checkpoint.has(&format!("{module}."))
    }

    /// An error that names one of its tensors.
    pub fn error(&self, key: &str, reason: String) -> Error {
        self.checkpoint.error(key, reason)
    }

    /// Scales the latest value to the rows and columns of `map`.
    pub fn like(&mut self, name: &str, map: Map) {
        self.at.id = self.graph.push(name, Op::Resize(Extent::Like), &[self.at.id, map.id]);
    }

    /// Joins `parts`.
    pub fn join(&mut self, name: &str, joint: Joint, parts: &[Map]) {
        let ids: Vec<NodeId> = parts.iter().map(|part| part.id).collect();
        let channels = match joint {
            Joint::Channels => parts.iter().map(|part| part.channels).sum(),
            Joint::Pixels => parts[0].channels,
        };
        self.at = Map { id: self.graph.push(name, Op::Concat(joint), &ids), channels };
    }

    /// An operation that leaves the channels as they are.
    pub fn push(&mut self, name: &str, op: Op) {
        self.at.id = self.graph.push(name, op, &[self.at.id]);
    }

    fn tensor(&mut self, key: String, shape: &[Option<usize>]) -> Result<Tensor> {
        let tensor = self.checkpoint.tensor(&key, shape)?;
        self.used.insert(key);
        Ok(tensor)
    }

    /// One of a batch norm's vectors.
    fn vector(&mut self, module: &str, name: &str) -> Result<Arc<Tensor>> {
        Ok(Arc::new(self.tensor(format!("{module}.{name}"), &[Some(self.at.channels)])?))
    }

    /// A convolution, its batch norm and its activation.
    pub fn layer(&mut self, layer: &Layer, form: Form, activation: Activation) -> Result<()> {
        self.conv(&layer.conv, form)?;
        let Some(norm) = &layer.norm else {
            return Ok(());
        };
        // A batch norm that contains its activation is timm's; the activation's value is then
        // the module's, and the normalised value that of the identity `drop` inside it.
        let (norm_node, activation_node) = match &layer.activation {
            Some(activation) => (norm.clone(), activation),
            None if activation == Activation::Identity => (norm.clone(), norm),
            None => (format!("{norm}.drop"), norm),
        };
        let op = Op::BatchNorm(BatchNorm {
            gamma: self.vector(norm, "weight")?,
            beta: self.vector(norm, "bias")?,
            mean: self.vector(norm, "running_mean")?,
            variance: self.vector(norm, "running_var")?,
            epsilon: self.epsilon,
        });
        if let Op::BatchNorm(BatchNorm { variance, .. }) = &op
            && let Some(negative) = variance.data().iter().find(|v| **v < 0.0)
        {
            let key = format!("{norm}.running_var");
            return Err(self.checkpoint.error(&key, format!("a variance cannot be negative: {negative}")));
        }
        self.push(&norm_node, op);
        if activation != Activation::Identity {
            self.activation(activation_node, self.rules.activation.unwrap_or(activation));
        }
        Ok(())
    }

    /// A fully connected layer between the pool and the answer, and its activation.
    pub fn hidden(&mut self, layer: &Layer, bias: bool, activation: Activation) -> Result<()> {
        self.fully_connected(&layer.conv, layer.linear, None, bias)?;
        if let (Some(name), true) = (&layer.activation, activation != Activation::Identity) {
            self.activation(name, activation);
        }
        Ok(())
    }

    pub fn activation(&mut self, name: &str, activation: Activation) {
        self.push(name, Op::Activation(activation));
    }

    /// A convolution without bias.
    fn conv(&mut self, name: &str, form: Form) -> Result<()> {
        let channels = self.at.channels;
        let (outputs, inputs) = if form.depthwise { (Some(channels), 1) } else { (None, channels) };
        let k = Some(form.kernel);
        let weight = self.tensor(format!("{name}.weight"), &[outputs, Some(inputs), k, k])?;
        self.push_conv(name, weight, None, form, false);
        Ok(())
    }

    /// A pointwise convolution or a fully connected layer, held as a matrix or as a convolution. `outputs` is how
    /// many it must have, if that is known.
    pub fn fully_connected(
        &mut self,
        name: &str,
        matrix: bool,
        outputs: Option<usize>,
        bias: bool,
    ) -> Result<()> {
        let inputs = self.at.channels;
        let shape = [outputs, Some(inputs), Some(1), Some(1)];
        let weight = self.tensor(format!("{name}.weight"), &shape[..if matrix { 2 } else { 4 }])?;
        let outputs = weight.dims()[0];
        let bias = match bias {
            true => Some(Arc::new(self.tensor(format!("{name}.bias"), &[Some(outputs)])?)),
            false => None,
        };
        let weight = Tensor::new([outputs, inputs, 1, 1], weight.into_data())?;
        self.push_conv(name, weight, bias, POINTWISE, matrix);
        Ok(())
    }

    fn push_conv(&mut self, name: &str, weight: Tensor, bias: Option<Arc<Tensor>>, form: Form, linear: bool) {
        let groups = if form.depthwise { self.at.channels } else { 1 };
        self.at.channels = weight.dims()[0];
        let conv = Conv {
            weight: Arc::new(weight),
            bias,
            stride: form.stride,
            dilation: form.dilation,
            padding: self.rules.padding,
            groups,
            activation: Activation::Identity,
            linear,
        };
        self.push(name, Op::Conv(conv));
    }
}
