//! The classifier head: global average pooling and dense layers.

use super::{
    builder::{Builder, ConvGeometry, POINTWISE},
    skeleton::{Dense, DenseActivation, Layer},
    table::Hidden,
    task::Task,
};
use crate::{
    Result,
    graph::{Activation, NodeId, Op},
};

/// PyTorch's default epsilon, for batch norms in custom classifiers.
const EPSILON: f64 = 1e-5;

/// The result of building a classifier head.
pub(super) struct Classifier {
    pub task: Task,
    /// 0 without dense layers: the output is the embedding.
    pub classes: usize,
    /// The vector that the dense layers classify, or the output of a network without a classifier.
    pub embedding: NodeId,
}

/// Builds the head from the features to the logits.
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
            Some(_) => b.layer(layer, ConvGeometry { ..POINTWISE }, table.activation)?,
            None => {
                b.fully_connected(&layer.conv, layer.linear, None, table.bias)?;
                if let Some(name) = &layer.activation {
                    let activation = b.effective(table.activation);
                    b.activation(name, activation);
                }
            }
        }
    }
    b.epsilon(EPSILON);
    let (embedding, features, from_library) = (b.at.id, b.at.channels, is_library_classifier(dense));
    for Dense { conv, norm, followed_by } in dense {
        let tensors = b.tensors();
        let matrix = tensors.shape(&format!("{conv}.weight")).is_none_or(|shape| shape.len() != 4);
        // Only custom layers may omit the bias.
        let bias = from_library || tensors.contains(&format!("{conv}.bias"));
        b.fully_connected(conv, matrix, None, bias)?;
        if let Some(norm) = norm {
            b.norm(norm, norm)?;
        }
        match followed_by {
            DenseActivation::None => {}
            DenseActivation::Library(name) => {
                let activation = b.effective(table.map_or(Activation::Relu, |hidden| hidden.activation));
                b.activation(name, activation);
            }
            DenseActivation::Assumed(name) => b.activation(name, b.rules().head_activation.value),
        }
    }
    // V3 whose second dense layer was removed: the first one's output is an embedding, not class scores.
    let embeds = match dense {
        [] => true,
        [Dense { followed_by: DenseActivation::Library(_), .. }] => b.at.channels >= features,
        _ => false,
    };
    if embeds {
        b.graph.flatten();
        return Ok(Classifier { task: Task::Embed, classes: 0, embedding: b.at.id });
    }
    Ok(Classifier { task: Task::Classify, classes: b.at.channels, embedding })
}

/// True if these are the library's layers, all of which have biases.
fn is_library_classifier(dense: &[Dense]) -> bool {
    match dense {
        [only] => {
            ["classifier", "classifier.0", "classifier.1", "classifier.3", "fc"].contains(&only.conv.as_str())
        }
        _ => dense
            .iter()
            .any(|layer| matches!(layer.followed_by, DenseActivation::Library(_)) && layer.norm.is_none()),
    }
}
