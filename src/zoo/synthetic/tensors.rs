//! The tensors of a skeleton's modules, with shapes from the table.

use super::{builder::gain, heads, weights::Weights};
use crate::{
    graph::Activation,
    zoo::{
        known::Known,
        skeleton::{Block, Skeleton, TopModules},
        table::{Row, Top, divisible, scaled},
    },
};

/// The tensors of `known`, whose blocks are `rows` and whose modules are `skeleton`.
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
        self::block(&mut weights, known, row, block, [inputs, expanded, outputs], rows.len());
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
        (TopModules::Classifier { hidden, dense, .. }, Top::Classifier(sizes)) => {
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

/// Adds the tensors of a block. `blocks` is the number of blocks in the network.
fn block(
    weights: &mut Weights,
    known: &Known,
    row: &Row,
    block: &Block,
    channels: [usize; 3],
    blocks: usize,
) {
    let [inputs, expanded, outputs] = channels;
    let (table, stage) = (known.table, row.stage);
    let activated = gain(stage.activation);
    let mut at = inputs;
    if let Some(start) = &block.start {
        weights.layer(start, [at, 1], stage.start, 1.0);
    }
    if let Some(expand) = &block.expand {
        weights.layer(expand, [expanded, at], 1, activated);
        at = expanded;
    }
    if let Some(spatial) = &block.spatial {
        let dense = if block.project.is_some() { expanded } else { outputs };
        let form = if stage.dense { [dense, at] } else { [at, 1] };
        weights.layer(spatial, form, stage.kernel, activated);
        at = form[0];
    }
    if let Some(squeeze) = &block.squeeze {
        let squeezed = divisible(at as f64 / 4.0, table.squeeze_divisor);
        let inner = gain(table.squeeze.unwrap_or(stage.activation));
        weights.dense(&squeeze.reduce, &[squeezed, at, 1, 1], true, inner);
        weights.dense(&squeeze.expand, &[at, squeezed, 1, 1], true, 1.0);
    }
    if let Some(project) = &block.project {
        let mut gain = gain(table.project);
        if block.squeeze.is_some() {
            // Squeeze-excite's gates halve the values, and so quarter the variance.
            gain *= 4.0;
        }
        let adds = stage.residual && (block.shortcut.is_some() || row.stride == 1 && inputs == outputs);
        if adds {
            // Otherwise each residual sum would double the variance, up to 2^50 in ResNet-152.
            gain /= blocks as f32;
        }
        // The last convolution of a ResNet's basic block has the full kernel.
        let full = block.shortcut.is_some() && block.expand.is_none();
        weights.layer(project, [outputs, at], if full { stage.kernel } else { 1 }, gain);
    }
    if let Some(shortcut) = &block.shortcut
        && (row.stride != 1 || inputs != outputs)
    {
        weights.layer(&shortcut.layer, [outputs, inputs], 1, gain(Activation::Identity));
    }
}
