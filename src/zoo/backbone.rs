//! The backbone of a network, from its stem to the last convolution before its head. The family's table gives
//! the structure, the library the names.

use super::{
    builder::{Builder, ConvGeometry, FeatureMap, POINTWISE},
    rules::Dilated,
    skeleton::{Block, Layer, Skeleton, Squeeze},
    table::{Stage, Table},
    task::Feature,
};
use crate::{
    Result,
    graph::{Activation, MaxPool, NodeId, Op},
};

/// The feature maps that heads read.
pub(super) struct Backbone {
    /// The last feature map of each stride.
    pub features: Vec<Feature>,
    /// The outputs of each block, in order.
    pub blocks: Vec<BlockOutputs>,
}

impl Backbone {
    /// The output of the last block.
    pub fn last_block(&self) -> FeatureMap {
        self.blocks.last().expect("a table has blocks").output
    }

    /// The output of the first block whose map is `reduced` times smaller than the picture.
    pub fn first(&self, reduced: usize) -> FeatureMap {
        let found = self.blocks.iter().find(|block| block.reduced == reduced);
        found.map_or_else(|| self.last_block(), |block| block.output)
    }
}

/// A block's outputs.
pub(super) struct BlockOutputs {
    /// Size of the picture divided by the size of the output.
    pub reduced: usize,
    /// The output of its expansion convolution.
    pub expanded: Option<FeatureMap>,
    pub output: FeatureMap,
}

/// Replaces strides with dilations beyond a limit.
struct Strides {
    reduced: usize,
    dilation: usize,
    limit: Option<Dilated>,
}

impl Strides {
    /// The stride and dilation of the next block.
    fn next(&mut self, stride: usize) -> (usize, usize) {
        match self.limit {
            Some(limit) if self.reduced >= limit.stride => {
                let before = self.dilation;
                self.dilation *= stride;
                (1, if limit.dilates_first_block { self.dilation } else { before })
            }
            _ => {
                self.reduced *= stride;
                (stride, 1)
            }
        }
    }
}

impl Builder<'_> {
    /// Builds all layers from the stem, a `kernel` x `kernel` convolution, to the last one before the head.
    pub fn backbone(
        &mut self,
        skeleton: &Skeleton,
        table: &Table,
        repeats: &[usize],
        kernel: usize,
    ) -> Result<Backbone> {
        let rules = self.rules();
        let stride = rules.stem_stride.value;
        self.layer(&skeleton.stem, ConvGeometry { kernel, stride, ..POINTWISE }, table.stem)?;
        let mut strides = Strides { reduced: stride, dilation: 1, limit: rules.dilated.value };
        let feature = |module: &String, stride: usize, map: FeatureMap| Feature {
            module: module.clone(),
            stride,
            node: map.id,
        };
        let mut features = vec![feature(&skeleton.stem_feature, stride, self.at)];
        if table.stem_pool && rules.stem_pool.value {
            self.push("maxpool", Op::MaxPool(MaxPool { kernel: 3, stride: 2 }));
            strides.reduced *= 2;
        }
        let mut keep = |feature: Feature| {
            features.retain(|earlier| earlier.stride != feature.stride);
            features.push(feature);
        };
        let mut outputs = Vec::new();
        let mut blocks = skeleton.blocks.iter();
        for ((stage, &repeats), &first) in table.stages.iter().zip(repeats).zip(&rules.stage_strides.value) {
            for (i, block) in blocks.by_ref().take(repeats).enumerate() {
                let (stride, dilation) = strides.next(if i == 0 { first } else { 1 });
                let expanded = self.block(block, stage, table, stride, dilation)?;
                outputs.push(BlockOutputs { reduced: strides.reduced, expanded, output: self.at });
                keep(feature(&block.feature, strides.reduced, self.at));
            }
        }
        let activation = table.head.as_ref().map(|head| head.activation).unwrap_or_default();
        for layer in &skeleton.head {
            self.layer(layer, POINTWISE, activation)?;
        }
        if let Some(module) = &skeleton.head_feature {
            keep(feature(module, strides.reduced, self.at));
        }
        Ok(Backbone { features, blocks: outputs })
    }

    /// Builds a block, and returns the output of its expansion convolution.
    fn block(
        &mut self,
        block: &Block,
        stage: &Stage,
        table: &Table,
        stride: usize,
        dilation: usize,
    ) -> Result<Option<FeatureMap>> {
        let input = self.at;
        let activation = stage.activation;
        if let Some(start) = &block.start {
            let stride = if block.spatial.is_some() { 1 } else { stride };
            let geometry = ConvGeometry { kernel: stage.start, stride, dilation, depthwise: true };
            self.layer(start, geometry, Activation::Identity)?;
        }
        let mut expanded = None;
        if let Some(expand) = &block.expand {
            self.layer(expand, POINTWISE, activation)?;
            expanded = Some(self.at);
        }
        let kernel = match &block.spatial {
            Some(spatial) if stage.searched => self.kernel_size(&spatial.conv).unwrap_or(stage.kernel),
            _ => stage.kernel,
        };
        let geometry = ConvGeometry { kernel, stride, dilation, depthwise: !stage.dense };
        if let Some(spatial) = &block.spatial {
            self.layer(spatial, geometry, activation)?;
        }
        if let Some(squeeze) = &block.squeeze {
            let inner = table.squeeze.unwrap_or_else(|| self.effective(activation));
            self.squeeze(squeeze, inner)?;
        }
        if let Some(project) = &block.project {
            // The last convolution of a ResNet's basic block has the full kernel.
            let full = block.shortcut.is_some() && block.expand.is_none();
            self.layer(
                project,
                if full { ConvGeometry { stride: 1, ..geometry } } else { POINTWISE },
                table.project,
            )?;
        }
        let same = stride == 1 && self.at.channels == input.channels;
        match (&block.sum, &block.shortcut) {
            (Some(name), Some(shortcut)) => {
                // With dilation instead of stride, the block may keep a shortcut convolution although
                // the shapes match.
                let plain = same && !self.has(&shortcut.layer.conv);
                let earlier = if plain { input.id } else { self.shortcut(&shortcut.layer, input, stride)? };
                self.at.id = self.graph.push(name, Op::Add, &[earlier, self.at.id]);
                self.activation(&shortcut.activation, self.effective(activation));
            }
            (Some(name), None) if stage.residual && same => {
                self.at.id = self.graph.push(name, Op::Add, &[input.id, self.at.id]);
            }
            _ => {}
        }
        Ok(expanded)
    }

    /// Projects `input` to the shape of the current value, which stays current.
    fn shortcut(&mut self, layer: &Layer, input: FeatureMap, stride: usize) -> Result<NodeId> {
        let main = std::mem::replace(&mut self.at, input);
        self.layer(layer, ConvGeometry { stride, ..POINTWISE }, Activation::Identity)?;
        let shortcut = std::mem::replace(&mut self.at, main);
        if shortcut.channels != main.channels {
            let reason = format!(
                "has {} outputs, but the block's main branch has {}",
                shortcut.channels, main.channels
            );
            return Err(self.error(&format!("{}.weight", layer.conv), reason));
        }
        Ok(shortcut.id)
    }

    fn squeeze(&mut self, squeeze: &Squeeze, activation: Activation) -> Result<()> {
        let map = self.at;
        self.push(&squeeze.pool, Op::GlobalPool);
        self.fully_connected(&squeeze.reduce, false, None, true)?;
        let replacement = self.rules().squeeze.as_ref().map(|rule| rule.value);
        self.activation(&squeeze.activation, replacement.unwrap_or(activation));
        self.fully_connected(&squeeze.expand, false, Some(map.channels), true)?;
        self.activation(&squeeze.gate, self.rules().gate.value);
        self.at.id = self.graph.push(&squeeze.whole, Op::Scale, &[map.id, self.at.id]);
        Ok(())
    }
}
