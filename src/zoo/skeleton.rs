//! The module names found in a checkpoint's keys, in order, and the check of a table against them.

use super::table::{Stage, Table, Top};
use crate::checkpoint::Tensors;

/// A convolution or fully connected layer, with its batch norm, activation and filter.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    /// The module with the weight.
    pub conv: String,
    /// True for a fully connected layer, whose weight is a matrix.
    pub linear: bool,
    /// The batch norm; none if the layer has a bias instead.
    pub norm: Option<String>,
    /// The activation, if it is a separate module, not inside the batch norm.
    pub activation: Option<String>,
    /// The anti-aliasing filter after the layer, which downsamples in place of the layer's stride. Used only
    /// if [`super::rules::Rules::antialias`] is set.
    pub filter: Option<String>,
}

/// Squeeze-excite's modules.
#[derive(Debug, Clone)]
pub(super) struct Squeeze {
    pub pool: String,
    pub reduce: String,
    pub activation: String,
    pub expand: String,
    pub gate: String,
    /// The enclosing module, whose output is the scaled map.
    pub whole: String,
}

/// A block's modules.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    /// The module whose output is the residual sum; none if the block never has a residual.
    pub sum: Option<String>,
    /// V4's first depthwise convolution.
    pub start: Option<Layer>,
    pub expand: Option<Layer>,
    /// The middle convolution, depthwise or dense.
    pub spatial: Option<Layer>,
    pub squeeze: Option<Squeeze>,
    pub project: Option<Layer>,
    /// A ResNet's shortcut.
    pub shortcut: Option<Shortcut>,
    /// The library's module name for the block's output as a feature map.
    pub feature: String,
}

/// A ResNet block's shortcut, and the activation after the sum.
#[derive(Debug, Clone)]
pub(super) struct Shortcut {
    /// The projection, used if the block changes the shape.
    pub layer: Layer,
    pub activation: String,
}

/// A network's modules.
#[derive(Debug, Clone)]
pub(super) struct Skeleton {
    pub stem: Layer,
    /// The library's module name for the stem's output as a feature map.
    pub stem_feature: String,
    pub blocks: Vec<Block>,
    /// Blocks in each stage, if the names show them.
    pub stages: Option<Vec<usize>>,
    /// True if blocks with an expansion ratio of 1 omit the expansion convolution.
    pub expand_optional: bool,
    /// True if the hidden layer is part of the classifier module, so that replacing the classifier removes
    /// it.
    pub hidden_in_classifier: bool,
    /// The convolutions after the blocks, at the end of the backbone.
    pub head: Vec<Layer>,
    /// The library's module name for the head's output as a feature map, if it has one.
    pub head_feature: Option<String>,
    pub top: TopModules,
}

/// The modules between the features and the output.
#[derive(Debug, Clone)]
pub(super) enum TopModules {
    Classifier {
        pool: String,
        /// The layer between the pool and the dense layers.
        hidden: Option<Layer>,
        /// The dense layers; empty if the output is the features.
        dense: Vec<Dense>,
    },
    // The code that builds these heads has the names of their modules.
    LrAspp,
    DeepLabV3,
    DeepLabV3Plus,
    SsdLite,
}

/// A dense layer of a classifier.
#[derive(Debug, Clone)]
pub(super) struct Dense {
    pub conv: String,
    /// The batch norm after it.
    pub norm: Option<String>,
    pub followed_by: DenseActivation,
}

/// The activation after a dense layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DenseActivation {
    /// No activation.
    None,
    /// The library's activation, with its module name.
    Library(String),
    /// A module without tensors, with its node name. The function is a default or an override.
    Assumed(String),
}

/// The dense layers of `module`: `module` itself, or the layers of a list, in order of their indices. The
/// list may also contain dropouts and activations. `library` is a dense layer's name and the name of the
/// library's activation after it.
pub(super) fn dense(
    tensors: &Tensors,
    module: &str,
    library: Option<(&str, &str)>,
) -> Result<Vec<Dense>, String> {
    let mut leaves = Vec::new();
    collect(tensors, module, &mut Vec::new(), &mut leaves)?;
    let mut layers: Vec<Dense> = Vec::new();
    let mut previous: Option<&[usize]> = None;
    for (position, name) in &leaves {
        let is_norm = tensors.contains(&format!("{name}.running_mean"))
            || tensors.shape(&format!("{name}.weight")).is_some_and(|shape| shape.len() == 1);
        let gap = previous.is_some_and(|previous| has_gap(previous, position));
        if let Some(last) = layers.last_mut().filter(|_| gap) {
            last.followed_by = DenseActivation::Assumed(format!("{}.activation", last.conv));
        }
        match layers.last_mut() {
            _ if !is_norm => {
                layers.push(Dense { conv: name.clone(), norm: None, followed_by: DenseActivation::None });
            }
            Some(last) if last.norm.is_none() && last.followed_by == DenseActivation::None => {
                last.norm = Some(name.clone())
            }
            _ => return Err(format!("the normalisation {name} does not follow a layer of the classifier")),
        }
        previous = Some(position);
    }
    if let Some((conv, activation)) = library
        && let Some(layer) = layers.iter_mut().find(|layer| layer.conv == conv && layer.norm.is_none())
    {
        layer.followed_by = DenseActivation::Library(activation.into());
    }
    Ok(layers)
}

/// True if a module without tensors lies between two positions in nested lists.
fn has_gap(a: &[usize], b: &[usize]) -> bool {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let step = b.get(same).zip(a.get(same)).map_or(0, |(b, a)| b - a);
    step > 1 || b.iter().skip(same + 1).any(|first| *first > 0)
}

/// Collects `module` and the modules under it that have tensors, with their positions in nested lists.
fn collect(
    tensors: &Tensors,
    module: &str,
    position: &mut Vec<usize>,
    leaves: &mut Vec<(Vec<usize>, String)>,
) -> Result<(), String> {
    if ["weight", "bias"].iter().any(|end| tensors.contains(&format!("{module}.{end}"))) {
        leaves.push((position.clone(), module.into()));
        return Ok(());
    }
    let children = tensors.children(&format!("{module}."));
    for child in &children {
        let number = match (child.parse(), children.len()) {
            (Ok(number), _) => number,
            (Err(_), 1) => 0,
            _ => {
                return Err(format!(
                    "the layers {} in {module} have no numbers that show their order",
                    children.join(", ")
                ));
            }
        };
        position.push(number);
        collect(tensors, &format!("{module}.{child}"), position, leaves)?;
        position.pop();
    }
    Ok(())
}

impl TopModules {
    /// The head's output module, which must exist. None for a classifier, which may be absent.
    pub fn last(&self) -> Option<&str> {
        match self {
            Self::Classifier { .. } => None,
            Self::LrAspp => Some("classifier.low_classifier"),
            Self::DeepLabV3 => Some("classifier.4"),
            Self::DeepLabV3Plus => Some("segmentation_head.classifier"),
            Self::SsdLite => Some("head.classification_head.module_list.0.1"),
        }
    }

    /// True if these are modules of the same kind of head as `top`.
    pub fn matches(&self, top: &Top) -> bool {
        matches!(
            (self, top),
            (Self::Classifier { .. }, Top::Classifier(_))
                | (Self::LrAspp, Top::LrAspp)
                | (Self::DeepLabV3, Top::DeepLabV3)
                | (Self::DeepLabV3Plus, Top::DeepLabV3Plus)
                | (Self::SsdLite, Top::SsdLite)
        )
    }
}

impl Block {
    /// The block's last convolution.
    fn last(&self) -> Option<&Layer> {
        self.project.as_ref().or(self.spatial.as_ref())
    }

    /// The module that identifies the block in messages.
    fn name(&self) -> &str {
        let layers = [&self.spatial, &self.start, &self.expand, &self.project];
        layers.into_iter().flatten().next().map_or("a block", |layer| &layer.conv)
    }
}

/// The first difference between a table and a checkpoint.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// The number of blocks that agree. The closest family has the most.
    pub agreed: usize,
    pub reason: String,
}

impl Skeleton {
    /// Output channels of the last block.
    pub fn width(&self, tensors: &Tensors) -> Option<usize> {
        let key = format!("{}.weight", self.blocks.last()?.last()?.conv);
        tensors.shape(&key)?.first().copied()
    }

    /// The number of blocks in each stage, if `table` fits this network.
    pub fn fit(&self, table: &Table, tensors: &Tensors) -> Result<Vec<usize>, Mismatch> {
        let published: Vec<usize> = table.stages.iter().map(Stage::repeats).collect();
        let repeats = self.stages.clone().unwrap_or_else(|| published.clone());
        let fail = |agreed, reason| Err(Mismatch { agreed, reason });
        if repeats.len() != published.len() {
            return fail(0, format!("{} stages of blocks, not {}", repeats.len(), published.len()));
        }
        if table.stem_pool && repeats != published {
            // ResNets of any depth could be built, but an unpublished depth means that a block is missing.
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
            if expands != stage.expand && (expands || !self.expand_optional) {
                let no = not(expands);
                return fail(i, format!("{no}pointwise convolution before {name}"));
            }
            if block.squeeze.is_some() != stage.squeeze && !stage.searched {
                let no = not(block.squeeze.is_some());
                return fail(i, format!("{no}squeeze-excite after {name}"));
            }
            if block.project.is_some() != stage.project {
                let no = not(block.project.is_some());
                return fail(i, format!("{no}projection convolution after {name}"));
            }
            let convolutions =
                [(&block.start, stage.start, "first"), (&block.spatial, stage.kernel, "middle")];
            for (layer, kernel, which) in convolutions {
                if layer.is_some() != (kernel > 0) {
                    let no = not(layer.is_some());
                    return fail(i, format!("{no}{which} spatial convolution in the block of {name}"));
                }
                // The builder reports a missing or malformed weight.
                let weight = layer.as_ref().map(|layer| format!("{}.weight", layer.conv));
                if let Some(&[_, 1, k, w]) = weight.as_ref().and_then(|key| tensors.shape(key))
                    && k == w
                    && k != kernel
                    && !stage.searched
                {
                    return fail(i, format!("a {k}x{k} kernel in {name}, not {kernel}x{kernel}"));
                }
            }
        }
        let agreed = self.blocks.len();
        // Without a classifier, the last convolution may be missing too.
        let headless =
            matches!(&self.top, TopModules::Classifier { dense, hidden: None, .. } if dense.is_empty());
        match (self.head.is_empty(), table.head.is_some()) {
            (true, true) if !headless => {
                return fail(agreed, "no convolution between the blocks and the pool".into());
            }
            (false, false) => {
                return fail(agreed, format!("a convolution {} after the blocks", self.head[0].conv));
            }
            _ => {}
        }
        let (TopModules::Classifier { hidden, dense, .. }, Top::Classifier(wanted)) = (&self.top, &table.top)
        else {
            return Ok(repeats);
        };
        let from_library = dense.iter().any(|layer| matches!(layer.followed_by, DenseActivation::Library(_)));
        match (hidden, wanted) {
            (Some(layer), None) => fail(agreed, format!("a layer {} before the classifier", layer.conv)),
            // torchvision's hidden layer is part of the classifier, which may have been replaced.
            (None, Some(_)) if !from_library && !self.hidden_in_classifier && !dense.is_empty() => {
                fail(agreed, "no layer between the pool and the classifier".into())
            }
            // The keys of timm's two V3-Large networks differ only in this bias. The builder reports a
            // missing bias.
            (Some(layer), Some(hidden))
                if !hidden.bias
                    && layer.norm.is_none()
                    && tensors.contains(&format!("{}.bias", layer.conv)) =>
            {
                fail(agreed, format!("a bias in {}", layer.conv))
            }
            _ => Ok(repeats),
        }
    }
}
