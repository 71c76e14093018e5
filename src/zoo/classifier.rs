//! What classifies: the mean over a map and dense layers.

use super::{
    builder::{Builder, Form, POINTWISE},
    skeleton::{Behind, Dense, Layer},
    table::Hidden,
    task::Task,
};
use crate::{
    Result,
    graph::{Activation, NodeId, Op},
};

/// PyTorch's batch norm, which people put into classifiers of their own.
const EPSILON: f64 = 1e-5;

/// What classifies, on top of the features.
pub(super) struct Classifier {
    pub task: Task,
    /// None without dense layers: the embedding is the answer.
    pub classes: usize,
    /// The vector that the dense layers classify.
    pub embedding: NodeId,
}

/// From the features to logits.
pub(super) fn build(
    b: &mut Builder,
    pool: &str,
    hidden: Option<&Layer>,
    dense: &[Dense],
    table: Option<&Hidden>,
) -> Result<Classifier> {
    b.push(pool, Op::GlobalPool);
    if let (Some(layer), Some(table)) = (hidden, table) {
        match layer.norm {
            Some(_) => b.layer(layer, Form { ..POINTWISE }, table.activation)?,
            None => {
                b.fully_connected(&layer.conv, layer.linear, None, table.bias)?;
                if let Some(name) = &layer.activation {
                    let activation = b.said(table.activation);
                    b.activation(name, activation);
                }
            }
        }
    }
    b.epsilon(EPSILON);
    let (embedding, features, own) = (b.at.id, b.at.channels, is_own(dense));
    for Dense { conv, norm, behind } in dense {
        let tensors = b.tensors();
        let matrix = tensors.shape(&format!("{conv}.weight")).is_none_or(|shape| shape.len() != 4);
        // Only a layer of somebody's own may do without.
        let bias = own || tensors.contains(&format!("{conv}.bias"));
        b.fully_connected(conv, matrix, None, bias)?;
        if let Some(norm) = norm {
            b.norm(norm, norm)?;
        }
        match behind {
            Behind::Nothing => {}
            Behind::Own(name) => {
                let activation = b.said(table.map_or(Activation::Relu, |hidden| hidden.activation));
                b.activation(name, activation);
            }
            Behind::Assumed(name) => b.activation(name, b.rules().head_activation.value),
        }
    }
    // V3's first dense layer by itself is what is left of it without the second.
    let embeds = match dense {
        [] => true,
        [Dense { behind: Behind::Own(_), .. }] => b.at.channels >= features,
        _ => false,
    };
    if embeds {
        b.graph.flatten();
        return Ok(Classifier { task: Task::Embed, classes: 0, embedding: b.at.id });
    }
    Ok(Classifier { task: Task::Classify, classes: b.at.channels, embedding })
}

/// Whether these are the library's own layers, all of which have biases.
fn is_own(dense: &[Dense]) -> bool {
    match dense {
        [only] => {
            ["classifier", "classifier.0", "classifier.1", "classifier.3", "fc"].contains(&only.conv.as_str())
        }
        _ => dense.iter().any(|layer| matches!(layer.behind, Behind::Own(_)) && layer.norm.is_none()),
    }
}
