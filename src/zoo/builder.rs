//! Joins a checkpoint's tensors, its modules' names and a family's table into a graph.

use std::{collections::HashSet, sync::Arc};

use super::{
    checkpoint::Checkpoint,
    skeleton::{Block, Layer, Skeleton, Squeeze},
    table::{Family, Stage, Table},
};
use crate::{
    Result, Tensor,
    graph::{Activation, BatchNorm, Conv, Graph, MaxPool, NodeId, Op, Padding},
};

/// What a library does alike in all of a network.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub padding: Padding,
    /// Batch norm's.
    pub epsilon: f64,
    /// Instead of the table's.
    pub activation: Option<Activation>,
    /// Once the picture is this many times smaller, strides become dilations.
    pub output_stride: Option<usize>,
}

/// A graph, and what the shapes told on the way.
#[derive(Debug)]
pub(super) struct Built {
    pub graph: Graph,
    /// The input's.
    pub channels: usize,
    pub classes: usize,
}

/// Builds the graph of `table`, with `repeats` blocks in its stages.
///
/// # Errors
/// [`crate::Error::Checkpoint`] for the first tensor that is missing, misshapen, of the wrong type, not
/// finite, or superfluous.
pub(super) fn build(
    checkpoint: &Checkpoint,
    skeleton: &Skeleton,
    table: &Table,
    repeats: &[usize],
    rules: &Rules,
) -> Result<Built> {
    let resnet = table.family == Family::ResNet;
    let kernel = if resnet { 7 } else { 3 };
    let stem = format!("{}.weight", skeleton.stem.conv);
    let weight = checkpoint.tensor(&stem, &[None, None, Some(kernel), Some(kernel)])?;
    let channels = weight.dims()[1];
    let mut graph = Graph::default();
    let at = graph.push("input", Op::Input(channels), &[]);
    let mut b = Builder { checkpoint, rules, graph, at, channels, used: HashSet::new() };

    let dense = Form { kernel, stride: 2, dilation: 1, depthwise: false };
    b.layer(&skeleton.stem, dense, table.stem)?;
    if resnet {
        b.push("maxpool", Op::MaxPool(MaxPool { kernel: 3, stride: 2 }));
    }
    let mut blocks = skeleton.blocks.iter();
    let mut strides = Strides { reduced: 2, dilation: 1, limit: rules.output_stride };
    for (stage, &repeats) in table.stages.iter().zip(repeats) {
        for (i, block) in blocks.by_ref().take(repeats).enumerate() {
            let (stride, dilation) = strides.next(if i == 0 { stage.stride } else { 1 });
            b.block(block, stage, table, stride, dilation)?;
        }
    }
    for layer in &skeleton.head {
        b.layer(layer, POINTWISE, table.head.unwrap_or_default())?;
    }
    b.push(&skeleton.pool, Op::GlobalPool);
    if let (Some(layer), Some(hidden)) = (&skeleton.hidden, &table.hidden) {
        b.hidden(layer, hidden.bias, hidden.activation)?;
    }
    b.hidden(&skeleton.classifier, true, Activation::Identity)?;

    let mut extra = checkpoint
        .keys()
        .filter(|key| !b.used.contains(*key) && key.rsplit('.').next() != Some("num_batches_tracked"));
    if let Some(key) = extra.next() {
        let others = match extra.count() {
            0 => String::new(),
            n => format!(" (nor are {n} more)"),
        };
        return Err(checkpoint.error(key, format!("is no part of a {}{others}", table.family)));
    }
    Ok(Built { graph: b.graph, channels, classes: b.channels })
}

/// Turns strides into dilations past the limit, as transformers' MobileNetV2 does.
struct Strides {
    reduced: usize,
    dilation: usize,
    limit: Option<usize>,
}

impl Strides {
    /// The stride and dilation of the next block.
    fn next(&mut self, stride: usize) -> (usize, usize) {
        if Some(self.reduced) == self.limit {
            let dilation = self.dilation;
            // The block that would have halved the map still sees its neighbours.
            self.dilation *= stride;
            (1, dilation)
        } else {
            self.reduced *= stride;
            (stride, 1)
        }
    }
}

/// What a convolution's weight must look like, and how it moves.
#[derive(Clone, Copy)]
struct Form {
    kernel: usize,
    stride: usize,
    dilation: usize,
    depthwise: bool,
}

const POINTWISE: Form = Form { kernel: 1, stride: 1, dilation: 1, depthwise: false };

struct Builder<'a> {
    checkpoint: &'a Checkpoint,
    rules: &'a Rules,
    graph: Graph,
    /// The latest value.
    at: NodeId,
    /// Its channels.
    channels: usize,
    /// The keys read so far.
    used: HashSet<String>,
}

impl Builder<'_> {
    fn push(&mut self, name: &str, op: Op) {
        self.at = self.graph.push(name, op, &[self.at]);
    }

    fn tensor(&mut self, key: String, shape: &[Option<usize>]) -> Result<Tensor> {
        let tensor = self.checkpoint.tensor(&key, shape)?;
        self.used.insert(key);
        Ok(tensor)
    }

    /// One of a batch norm's vectors.
    fn vector(&mut self, module: &str, name: &str) -> Result<Arc<Tensor>> {
        Ok(Arc::new(self.tensor(format!("{module}.{name}"), &[Some(self.channels)])?))
    }

    fn block(
        &mut self,
        block: &Block,
        stage: &Stage,
        table: &Table,
        stride: usize,
        dilation: usize,
    ) -> Result<()> {
        let (input, channels) = (self.at, self.channels);
        let activation = stage.activation;
        if let Some(expand) = &block.expand {
            self.layer(expand, POINTWISE, activation)?;
        }
        let windowed = Form { kernel: stage.kernel, stride, dilation, depthwise: block.shortcut.is_none() };
        self.layer(&block.windowed, windowed, activation)?;
        if let Some(squeeze) = &block.squeeze {
            self.squeeze(squeeze, table.squeeze.unwrap_or(activation))?;
        }
        // Without a bottleneck a ResNet's last convolution has a window too.
        let full = block.shortcut.is_some() && block.expand.is_none();
        let project = if full { Form { stride: 1, ..windowed } } else { POINTWISE };
        self.layer(&block.project, project, table.project)?;
        let same = stride == 1 && self.channels == channels;
        match (&block.sum, &block.shortcut) {
            (Some(name), Some(shortcut)) => {
                let earlier =
                    if same { input } else { self.shortcut(&shortcut.layer, input, channels, stride)? };
                self.at = self.graph.push(name, Op::Add, &[earlier, self.at]);
                self.activation(&shortcut.activation, activation);
            }
            (Some(name), None) if stage.residual && same => {
                self.at = self.graph.push(name, Op::Add, &[input, self.at]);
            }
            _ => {}
        }
        Ok(())
    }

    /// `input` in the shape of the latest value, which it leaves the latest.
    fn shortcut(&mut self, layer: &Layer, input: NodeId, channels: usize, stride: usize) -> Result<NodeId> {
        let (main, outputs) = (self.at, self.channels);
        (self.at, self.channels) = (input, channels);
        self.layer(layer, Form { stride, ..POINTWISE }, Activation::Identity)?;
        if self.channels != outputs {
            let reason = format!("has {} outputs, what they are added to has {outputs}", self.channels);
            return Err(self.checkpoint.error(&format!("{}.weight", layer.conv), reason));
        }
        Ok(std::mem::replace(&mut self.at, main))
    }

    fn squeeze(&mut self, squeeze: &Squeeze, activation: Activation) -> Result<()> {
        let (map, channels) = (self.at, self.channels);
        self.push(&squeeze.pool, Op::GlobalPool);
        self.fully_connected(&squeeze.reduce, false, None, true)?;
        self.activation(&squeeze.activation, activation);
        self.fully_connected(&squeeze.expand, false, Some(channels), true)?;
        self.activation(&squeeze.gate, Activation::HardSigmoid);
        self.at = self.graph.push(&squeeze.whole, Op::Scale, &[map, self.at]);
        Ok(())
    }

    /// A convolution, its batch norm and its activation.
    fn layer(&mut self, layer: &Layer, form: Form, activation: Activation) -> Result<()> {
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
            epsilon: self.rules.epsilon,
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
    fn hidden(&mut self, layer: &Layer, bias: bool, activation: Activation) -> Result<()> {
        self.fully_connected(&layer.conv, layer.linear, None, bias)?;
        if let (Some(name), true) = (&layer.activation, activation != Activation::Identity) {
            self.activation(name, activation);
        }
        Ok(())
    }

    fn activation(&mut self, name: &str, activation: Activation) {
        self.push(name, Op::Activation(activation));
    }

    /// A convolution without bias.
    fn conv(&mut self, name: &str, form: Form) -> Result<()> {
        let (outputs, inputs) = if form.depthwise { (Some(self.channels), 1) } else { (None, self.channels) };
        let k = Some(form.kernel);
        let weight = self.tensor(format!("{name}.weight"), &[outputs, Some(inputs), k, k])?;
        self.push_conv(name, weight, None, form, false);
        Ok(())
    }

    /// A fully connected layer, held as a matrix or as a 1x1 convolution. `outputs` is how
    /// many it must have, if that is known.
    fn fully_connected(
        &mut self,
        name: &str,
        matrix: bool,
        outputs: Option<usize>,
        bias: bool,
    ) -> Result<()> {
        let inputs = self.channels;
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
        let groups = if form.depthwise { self.channels } else { 1 };
        self.channels = weight.dims()[0];
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
