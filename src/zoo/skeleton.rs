//! Which modules a checkpoint's keys show, by name and in order, and whether a family is
//! made of them.

use super::table::{Stage, Table, Top};
use crate::checkpoint::Tensors;

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
    /// What shrinks the map behind it, in networks that have that.
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
    /// Whether the layer before the classifier is a part of it, and goes where that is replaced.
    pub replaceable: bool,
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
        /// Between the pool and what classifies.
        hidden: Option<Layer>,
        /// What classifies: nothing where the network gives its features.
        dense: Vec<Dense>,
    },
    /// These have names of their own.
    LrAspp,
    DeepLabV3,
    DeepLabV3Plus,
    SsdLite,
}

/// A dense layer of a classifier.
#[derive(Debug, Clone)]
pub(super) struct Dense {
    pub conv: String,
    /// The batch norm behind it.
    pub norm: Option<String>,
    pub behind: Behind,
}

/// What comes behind a dense layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing: it is the last, or the next follows at once.
    Nothing,
    /// The library's own activation, under this name.
    Own(String),
    /// A module without tensors, so that only an assumption or its user tells which function it is.
    Assumed(String),
}

/// The dense layers of the module called `module`, in the order of their numbers: itself, or those of a list of
/// layers in which dropouts and activations may stand anywhere. The activation behind the layer called
/// `own`, if that has one, is the library's.
pub(super) fn dense(
    tensors: &Tensors,
    module: &str,
    own: Option<(&str, &str)>,
) -> Result<Vec<Dense>, String> {
    let mut leaves = Vec::new();
    collect(tensors, module, &mut Vec::new(), &mut leaves)?;
    let mut layers: Vec<Dense> = Vec::new();
    let mut before: Option<&[usize]> = None;
    for (place, name) in &leaves {
        let is_norm = tensors.contains(&format!("{name}.running_mean"))
            || tensors.shape(&format!("{name}.weight")).is_some_and(|shape| shape.len() == 1);
        let gap = before.is_some_and(|before| between(before, place));
        if let Some(last) = layers.last_mut().filter(|_| gap) {
            last.behind = Behind::Assumed(format!("{}.activation", last.conv));
        }
        match layers.last_mut() {
            _ if !is_norm => {
                layers.push(Dense { conv: name.clone(), norm: None, behind: Behind::Nothing });
            }
            Some(last) if last.norm.is_none() && last.behind == Behind::Nothing => {
                last.norm = Some(name.clone())
            }
            _ => return Err(format!("a normalisation {name} that follows no layer of the classifier's")),
        }
        before = Some(place);
    }
    if let Some((own, activation)) = own
        && let Some(layer) = layers.iter_mut().find(|layer| layer.conv == own && layer.norm.is_none())
    {
        layer.behind = Behind::Own(activation.into());
    }
    Ok(layers)
}

/// Whether a module without tensors stands between two places in nested lists.
fn between(a: &[usize], b: &[usize]) -> bool {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let step = b.get(same).zip(a.get(same)).map_or(0, |(b, a)| b - a);
    step > 1 || b.iter().skip(same + 1).any(|first| *first > 0)
}

/// The modules with tensors of their own at `module` and under it, with their places.
fn collect(
    tensors: &Tensors,
    module: &str,
    place: &mut Vec<usize>,
    leaves: &mut Vec<(Vec<usize>, String)>,
) -> Result<(), String> {
    if ["weight", "bias"].iter().any(|end| tensors.contains(&format!("{module}.{end}"))) {
        leaves.push((place.clone(), module.into()));
        return Ok(());
    }
    let children = tensors.children(&format!("{module}."));
    for child in &children {
        let number = match (child.parse(), children.len()) {
            (Ok(number), _) => number,
            (Err(_), 1) => 0,
            _ => {
                return Err(format!(
                    "the layers {} in {module} have names, but no order",
                    children.join(", ")
                ));
            }
        };
        place.push(number);
        collect(tensors, &format!("{module}.{child}"), place, leaves)?;
        place.pop();
    }
    Ok(())
}

impl Names {
    /// The module without which there is no answer, if there has to be one.
    pub fn last(&self) -> Option<&str> {
        match self {
            Self::Classifier { .. } => None,
            Self::LrAspp => Some("classifier.low_classifier"),
            Self::DeepLabV3 => Some("classifier.4"),
            Self::DeepLabV3Plus => Some("segmentation_head.classifier"),
            Self::SsdLite => Some("head.classification_head.module_list.0.1"),
        }
    }

    /// Whether these could be those of `top`.
    pub fn are(&self, top: &Top) -> bool {
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
    pub fn width(&self, tensors: &Tensors) -> Option<usize> {
        let key = format!("{}.weight", self.blocks.last()?.last()?.conv);
        tensors.shape(&key)?.first().copied()
    }

    /// The blocks in each of `table`'s stages, if the table describes this network.
    pub fn fit(&self, table: &Table, tensors: &Tensors) -> Result<Vec<usize>, Mismatch> {
        let published: Vec<usize> = table.stages.iter().map(Stage::repeats).collect();
        let repeats = self.stages.clone().unwrap_or_else(|| published.clone());
        let fail = |agreed, reason| Err(Mismatch { agreed, reason });
        if repeats.len() != published.len() {
            return fail(0, format!("{} stages of blocks, not {}", repeats.len(), published.len()));
        }
        if table.stem_pool && repeats != published {
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
            if block.squeeze.is_some() != stage.squeeze && !stage.searched {
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
                if let Some(&[_, 1, k, w]) = weight.as_ref().and_then(|key| tensors.shape(key))
                    && k == w
                    && k != kernel
                    && !stage.searched
                {
                    return fail(i, format!("a {k}x{k} window in {name}, not {kernel}x{kernel}"));
                }
            }
        }
        let agreed = self.blocks.len();
        // Without a classifier the last convolution may have been left out too.
        let headless = matches!(&self.top, Names::Classifier { dense, hidden: None, .. } if dense.is_empty());
        match (self.head.is_empty(), table.head.is_some()) {
            (true, true) if !headless => {
                return fail(agreed, "no convolution between the blocks and the pool".into());
            }
            (false, false) => {
                return fail(agreed, format!("a convolution {} after the blocks", self.head[0].conv));
            }
            _ => {}
        }
        let (Names::Classifier { hidden, dense, .. }, Top::Classifier(wanted)) = (&self.top, &table.top)
        else {
            return Ok(repeats);
        };
        let own = dense.iter().any(|layer| matches!(layer.behind, Behind::Own(_)));
        match (hidden, wanted) {
            (Some(layer), None) => fail(agreed, format!("a layer {} before the classifier", layer.conv)),
            // torchvision has it in the classifier, which somebody may have replaced.
            (None, Some(_)) if !own && !self.replaceable && !dense.is_empty() => {
                fail(agreed, "no layer between the pool and the classifier".into())
            }
            // timm's two V3-Large differ by this bias, and by what no key tells. Where one is
            // wanted and missing, the builder says so.
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
