//! The graph of a network: a backbone from the family's table, and a head.

use super::{
    builder::Builder,
    classifier, deeplab, deeplab_plus, lraspp,
    rules::Rules,
    skeleton::{Skeleton, TopModules},
    ssdlite,
    table::{Table, Top},
    task::{Feature, Task},
};
use crate::{
    Result,
    checkpoint::{Tensors, not_part_of},
    graph::{Graph, NodeId},
};

/// A graph, and the properties read from the tensors' shapes.
#[derive(Debug)]
pub(super) struct Built {
    pub graph: Graph,
    /// Input channels.
    pub channels: usize,
    pub classes: usize,
    pub task: Task,
    pub features: Vec<Feature>,
    /// A classifier's [`classifier::Classifier::embedding`].
    pub embedding: Option<NodeId>,
}

/// Builds the graph of `table`, with `repeats[i]` blocks in stage `i`.
///
/// # Errors
/// [`crate::Error::Checkpoint`] for the first tensor that is missing, not finite or not used, or that has a
/// wrong shape or type.
pub(super) fn assemble(
    tensors: &mut Tensors,
    skeleton: &Skeleton,
    table: &Table,
    repeats: &[usize],
    rules: &Rules,
) -> Result<Built> {
    let built = build(tensors, skeleton, table, repeats, rules)?;
    let unread: Vec<String> = tensors.unread().into_iter().map(str::to_owned).collect();
    let is_auxiliary = |name: &str| name.split('.').next().is_some_and(|first| first.starts_with("aux"));
    let mut extra = Vec::new();
    for name in unread {
        if is_auxiliary(&name) {
            tensors.leave(&name, "of an auxiliary head");
        } else {
            extra.push(name);
        }
    }
    let Some(first) = extra.first() else { return Ok(built) };
    Err(tensors.error(first, not_part_of(&table.family.to_string(), extra.len() - 1, first)))
}

fn build(
    tensors: &Tensors,
    skeleton: &Skeleton,
    table: &Table,
    repeats: &[usize],
    rules: &Rules,
) -> Result<Built> {
    let stem = [format!("{}.weight", skeleton.stem.conv), format!("{}.0.weight", skeleton.stem.conv)];
    let stem = stem.iter().find(|key| tensors.contains(key)).unwrap_or(&stem[0]);
    let fits = |side: &&usize| tensors.shape(stem).is_some_and(|shape| shape.get(2) == Some(side));
    let kernel = *table.stem_kernels.iter().find(fits).unwrap_or(&table.stem_kernels[0]);
    let weight = tensors.tensor(stem, &[None, None, Some(kernel), Some(kernel)])?;
    let channels = weight.dims()[1];
    let mut b = Builder::new(tensors, rules, table.stem, channels);
    let input = b.at;
    let backbone = b.backbone(skeleton, table, repeats, kernel)?;
    let mut embedding = None;
    let (task, classes) = match (&skeleton.top, &table.top) {
        (TopModules::LrAspp, _) => lraspp::build(&mut b, input, &backbone)?,
        (TopModules::DeepLabV3, _) => deeplab::build(&mut b, input, &backbone)?,
        (TopModules::DeepLabV3Plus, _) => deeplab_plus::build(&mut b, input, &backbone)?,
        (TopModules::SsdLite, _) => ssdlite::build(&mut b, &backbone)?,
        (TopModules::Classifier { pool, hidden, dense }, top) => {
            let table = if let Top::Classifier(hidden) = top { hidden.as_ref() } else { None };
            let built = classifier::build(&mut b, pool, hidden.as_ref(), dense, table)?;
            embedding = Some(built.embedding);
            (built.task, built.classes)
        }
    };
    Ok(Built { graph: b.graph, channels, classes, task, features: backbone.features, embedding })
}
