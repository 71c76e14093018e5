//! The tensors of a skeleton's modules: shapes from the table's sizes, values from seeds.

use std::borrow::Cow;

use safetensors::{Dtype, tensor::View};

use super::{
    builder::{gain, noise, spread},
    heads,
};
use crate::{
    graph::Activation,
    zoo::{
        known::Known,
        skeleton::{Block, Layer, Names, Skeleton},
        table::{Row, Top, divisible, scaled},
    },
};

/// The tensors of `known`, with its blocks and its modules.
pub(super) fn of(known: &Known, rows: &[Row], skeleton: &Skeleton, classes: usize) -> Weights {
    let table = known.table;
    let width = known.width.unwrap_or(1.0);
    let mut weights = Weights::default();
    let stem = known.stem_channels();
    weights.layer(&skeleton.stem, [stem, 3], table.stem_kernels[0], gain(table.stem));
    let mut maps = heads::Maps::new(stem);
    let mut stride = if table.stem_pool { 4 } else { 2 };
    for (row, block) in rows.iter().zip(&skeleton.blocks) {
        stride *= row.stride;
        let (inputs, outputs) = (maps.last, scaled(row.stage.outputs, width));
        let expanded = divisible(inputs as f64 * row.expansion, 8);
        weights.block(known, row, block, [inputs, expanded, outputs], rows.len());
        maps.add(stride, expanded, outputs);
    }
    if let Some(head) = &table.head {
        let channels = known.head_channels(head);
        for layer in &skeleton.head {
            weights.layer(layer, [channels, maps.features], 1, gain(head.activation));
            maps.features = channels;
        }
    }
    match (&skeleton.top, &table.top) {
        (Names::Classifier { hidden, dense, .. }, Top::Classifier(sizes)) => {
            let mut inputs = maps.features;
            if let (Some(layer), Some(sizes)) = (hidden, sizes) {
                let (channels, gain) = ([sizes.channels, inputs], gain(sizes.activation));
                match layer.norm {
                    Some(_) => weights.layer(layer, channels, 1, gain),
                    None => weights.dense(&layer.conv, &[channels[0], channels[1], 1, 1], sizes.bias, gain),
                }
                inputs = sizes.channels;
            }
            weights.dense(&dense[0].conv, &[classes, inputs], true, 1.0);
        }
        (_, top) => heads::add(&mut weights, top, &maps, classes),
    }
    weights
}

/// Names, shapes and seeds of tensors.
#[derive(Default)]
pub(super) struct Weights(Vec<(String, Weight)>);

impl Weights {
    /// A convolution and its batch norm, which is close to the identity. `inputs` are those of a group.
    pub fn layer(&mut self, layer: &Layer, [outputs, inputs]: [usize; 2], kernel: usize, gain: f32) {
        let spread = spread(inputs * kernel * kernel, gain);
        self.push(format!("{}.weight", layer.conv), &[outputs, inputs, kernel, kernel], 0.0, spread);
        let Some(norm) = &layer.norm else { return };
        for (name, centre) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            self.push(format!("{norm}.{name}"), &[outputs], centre, 0.1);
        }
    }

    /// A fully connected layer, whose weight is a matrix, or a pointwise convolution without batch norm.
    pub fn dense(&mut self, module: &str, dims: &[usize], bias: bool, gain: f32) {
        self.push(format!("{module}.weight"), dims, 0.0, spread(dims[1], gain));
        if bias {
            self.push(format!("{module}.bias"), &dims[..1], 0.0, 0.1);
        }
    }

    /// A block of a network with so many `blocks`.
    fn block(&mut self, known: &Known, row: &Row, block: &Block, channels: [usize; 3], blocks: usize) {
        let [inputs, expanded, outputs] = channels;
        let (table, stage) = (known.table, row.stage);
        let activated = gain(stage.activation);
        let mut at = inputs;
        if let Some(start) = &block.start {
            self.layer(start, [at, 1], stage.start, 1.0);
        }
        if let Some(expand) = &block.expand {
            self.layer(expand, [expanded, at], 1, activated);
            at = expanded;
        }
        if let Some(windowed) = &block.windowed {
            let dense = if block.project.is_some() { expanded } else { outputs };
            let form = if stage.dense { [dense, at] } else { [at, 1] };
            self.layer(windowed, form, stage.kernel, activated);
            at = form[0];
        }
        if let Some(squeeze) = &block.squeeze {
            let squeezed = divisible(at as f64 / 4.0, table.squeeze_divisor);
            let inner = gain(table.squeeze.unwrap_or(stage.activation));
            self.dense(&squeeze.reduce, &[squeezed, at, 1, 1], true, inner);
            self.dense(&squeeze.expand, &[at, squeezed, 1, 1], true, 1.0);
        }
        if let Some(project) = &block.project {
            let mut gain = gain(table.project);
            if block.squeeze.is_some() {
                // Squeeze-excite's gates halve what they scale.
                gain *= 4.0;
            }
            let adds = stage.residual && (block.shortcut.is_some() || row.stride == 1 && inputs == outputs);
            if adds {
                // Otherwise each residual sum doubles the variance, to 2^50 in ResNet-152.
                gain /= blocks as f32;
            }
            // Without a bottleneck a ResNet's last convolution has a window too.
            let full = block.shortcut.is_some() && block.expand.is_none();
            self.layer(project, [outputs, at], if full { stage.kernel } else { 1 }, gain);
        }
        if let Some(shortcut) = &block.shortcut
            && (row.stride != 1 || inputs != outputs)
        {
            self.layer(&shortcut.layer, [outputs, inputs], 1, gain(Activation::Identity));
        }
    }

    fn push(&mut self, name: String, dims: &[usize], centre: f32, spread: f32) {
        let weight = Weight { seed: name.clone(), dims: dims.into(), centre, spread };
        self.0.push((name, weight));
    }

    /// A safetensors file's bytes.
    pub fn into_bytes(self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        safetensors::serialize(self.0, None)
    }
}

/// A tensor whose values are made when it is serialised.
struct Weight {
    seed: String,
    dims: Vec<usize>,
    centre: f32,
    spread: f32,
}

impl View for Weight {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.dims
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = noise(&self.seed, &self.dims[..], self.centre, self.spread);
        Cow::Owned(values.data().iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.dims.iter().product::<usize>()
    }
}
