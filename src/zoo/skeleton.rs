//! Which modules a checkpoint's keys show, by name and in order, and whether a family is
//! made of them.

use super::{
    checkpoint::Checkpoint,
    table::{Family, Table, Top},
};

/// A convolution or fully connected layer, with what follows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    /// The module with the weight.
    pub conv: String,
    /// True for a fully connected layer, whose weight is a matrix.
    pub linear: bool,
    /// The batch norm; none if the layer has a bias instead.
    pub norm: Option<String>,
    /// The activation, where it is a module beside the batch norm and not inside it.
    pub activation: Option<String>,
}

/// Squeeze-excite's modules.
#[derive(Debug, Clone)]
pub(super) struct Squeeze {
    pub pool: String,
    pub reduce: String,
    pub activation: String,
    pub expand: String,
    pub gate: String,
    /// The whole, whose output is the scaled map.
    pub whole: String,
}

/// A block's modules.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    /// The block itself, whose output is the sum; none if it never adds.
    pub sum: Option<String>,
    /// V4's first depthwise convolution.
    pub start: Option<Layer>,
    pub expand: Option<Layer>,
    /// The middle, with a window: depthwise, or over all channels.
    pub windowed: Option<Layer>,
    pub squeeze: Option<Squeeze>,
    pub project: Option<Layer>,
    /// A ResNet's.
    pub shortcut: Option<Shortcut>,
    /// The module that the library calls its output a feature map by.
    pub feature: String,
}

/// What goes round a ResNet's block, and what follows the sum.
#[derive(Debug, Clone)]
pub(super) struct Shortcut {
    /// Where the block changes the shape.
    pub layer: Layer,
    pub activation: String,
}

/// A network's modules.
#[derive(Debug, Clone)]
pub(super) struct Skeleton {
    pub stem: Layer,
    /// The module that the library calls the stem's output a feature map by.
    pub stem_feature: String,
    pub blocks: Vec<Block>,
    /// Blocks in each stage, where names tell.
    pub stages: Option<Vec<usize>>,
    /// Whether blocks that would not widen leave out their first convolution.
    pub collapses: bool,
    /// Behind the blocks, the last of the features.
    pub head: Vec<Layer>,
    /// The module that the library calls the head's output a feature map by, if it does.
    pub head_feature: Option<String>,
    pub top: Names,
}

/// The modules that make an answer of the features.
#[derive(Debug, Clone)]
pub(super) enum Names {
    Classifier {
        pool: String,
        /// Between the pool and the classifier.
        hidden: Option<Layer>,
        classifier: Layer,
    },
    /// These have names of their own.
    LrAspp,
    DeepLabV3,
    SsdLite,
}

impl Names {
    /// The module without which there is no answer.
    pub fn last(&self) -> &str {
        match self {
            Self::Classifier { classifier, .. } => &classifier.conv,
            Self::LrAspp => "classifier.low_classifier",
            Self::DeepLabV3 => "classifier.4",
            Self::SsdLite => "head.classification_head.module_list.0.1",
        }
    }

    /// Whether these could be those of `top`.
    pub fn are(&self, top: &Top) -> bool {
        matches!(
            (self, top),
            (Self::Classifier { .. }, Top::Classifier(_))
                | (Self::LrAspp, Top::LrAspp)
                | (Self::DeepLabV3, Top::DeepLabV3)
                | (Self::SsdLite, Top::SsdLite)
        )
    }
}

impl Block {
    /// Its last convolution.
    fn last(&self) -> Option<&Layer> {
        self.project.as_ref().or(self.windowed.as_ref())
    }

    /// The module that messages name.
    fn name(&self) -> &str {
        let layers = [&self.windowed, &self.start, &self.expand, &self.project];
        layers.into_iter().flatten().next().map_or("a block", |layer| &layer.conv)
    }
}

/// Where a family and a checkpoint part.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// How many blocks agree: the nearest family is the one with the most.
    pub agreed: usize,
    pub reason: String,
}

impl Skeleton {
    /// The channels that leave the last block.
    pub fn width(&self, checkpoint: &Checkpoint) -> Option<usize> {
        let key = format!("{}.weight", self.blocks.last()?.last()?.conv);
        checkpoint.shape(&key)?.first().copied()
    }

    /// The blocks in each of `table`'s stages, if the table describes this network.
    pub fn fit(&self, table: &Table, checkpoint: &Checkpoint) -> Result<Vec<usize>, Mismatch> {
        let published: Vec<usize> = table.stages.iter().map(|s| s.repeats).collect();
        let repeats = self.stages.clone().unwrap_or_else(|| published.clone());
        let fail = |agreed, reason| Err(Mismatch { agreed, reason });
        if repeats.len() != published.len() {
            return fail(0, format!("{} stages of blocks, not {}", repeats.len(), published.len()));
        }
        if table.family == Family::ResNet && repeats != published {
            // Any depth could be built: one that nobody publishes lacks a block.
            let agreed = repeats.iter().zip(&published).map(|(a, b)| a.min(b)).sum();
            return fail(agreed, format!("stages of {repeats:?} blocks, not {published:?}"));
        }
        let blocks: usize = repeats.iter().sum();
        if blocks != self.blocks.len() {
            return fail(0, format!("{} blocks, not {blocks}", self.blocks.len()));
        }
        let stages = table.stages.iter().zip(&repeats).flat_map(|(s, &n)| std::iter::repeat_n(s, n));
        for (i, (stage, block)) in stages.zip(&self.blocks).enumerate() {
            let name = block.name();
            let not = |found: bool| if found { "" } else { "no " };
            let expands = block.expand.is_some();
            if expands != stage.expand && (expands || !self.collapses) {
                let no = not(expands);
                return fail(i, format!("{no}pointwise convolution before {name}"));
            }
            if block.squeeze.is_some() != stage.squeeze {
                let no = not(block.squeeze.is_some());
                return fail(i, format!("{no}squeeze-excite after {name}"));
            }
            if block.project.is_some() != stage.project {
                let no = not(block.project.is_some());
                return fail(i, format!("{no}convolution that narrows after {name}"));
            }
            let windows = [(&block.start, stage.start, "first"), (&block.windowed, stage.kernel, "middle")];
            for (layer, kernel, which) in windows {
                if layer.is_some() != (kernel > 0) {
                    let no = not(layer.is_some());
                    return fail(i, format!("{no}{which} window in the block of {name}"));
                }
                // A weight that is missing or malformed is the builder's to complain about.
                let weight = layer.as_ref().map(|layer| format!("{}.weight", layer.conv));
                if let Some(&[_, 1, k, w]) = weight.as_ref().and_then(|key| checkpoint.shape(key))
                    && k == w
                    && k != kernel
                {
                    return fail(i, format!("a {k}x{k} window in {name}, not {kernel}x{kernel}"));
                }
            }
        }
        let agreed = self.blocks.len();
        match (self.head.is_empty(), table.head.is_some()) {
            (true, true) => return fail(agreed, "no convolution between the blocks and the pool".into()),
            (false, false) => {
                return fail(agreed, format!("a convolution {} after the blocks", self.head[0].conv));
            }
            _ => {}
        }
        let (Names::Classifier { hidden, .. }, Top::Classifier(wanted)) = (&self.top, &table.top) else {
            return Ok(repeats);
        };
        match (hidden, wanted) {
            (Some(layer), None) => fail(agreed, format!("a layer {} before the classifier", layer.conv)),
            (None, Some(_)) => fail(agreed, "no layer between the pool and the classifier".into()),
            // timm's two V3-Large differ by this bias, and by what no key tells. Where one is
            // wanted and missing, the builder says so.
            (Some(layer), Some(hidden))
                if !hidden.bias && checkpoint.contains(&format!("{}.bias", layer.conv)) =>
            {
                fail(agreed, format!("a bias in {}", layer.conv))
            }
            _ => Ok(repeats),
        }
    }
}
