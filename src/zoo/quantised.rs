//! Int8 networks: attaches the scales and zero points in a file's record to the graph's nodes.

use crate::{
    checkpoint::Record,
    graph::{Graph, Op},
};

/// Attaches scales and zero points to the nodes of their modules.
///
/// # Errors
/// A message about a module that the graph lacks, or whose output is never int8.
pub(super) fn attach(graph: &mut Graph, record: &Record) -> Result<(), String> {
    let mut maps = record.maps.clone();
    let ids: Vec<_> = graph.nodes().map(|(id, _)| id).collect();
    for id in ids {
        let node = graph.node_mut(id);
        node.quantisation = maps.remove(node.output_name());
        if node.quantisation.is_some() && node.op.is_post_processing() {
            let module = node.output_name();
            return Err(format!("gives a scale for {module:?}, whose output is never int8"));
        }
    }
    match maps.keys().next() {
        None => Ok(()),
        Some(module) => {
            let others = if maps.len() > 1 { format!(" and {} more", maps.len() - 1) } else { String::new() };
            Err(format!("gives scales for {module:?}{others}, but the network has no such module"))
        }
    }
}

/// A sentence about the layers with int8 weights, if any.
pub(super) fn note(graph: &Graph) -> Option<String> {
    let layers = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Conv(_)));
    let (all, quantised) = layers
        .fold((0, 0), |(all, some), (_, node)| (all + 1, some + usize::from(node.weight_scales.is_some())));
    let mapped = graph.nodes().any(|(_, node)| node.quantisation.is_some());
    let what = match (quantised, mapped) {
        (0, _) => return None,
        (_, true) => "they are computed in integers",
        (_, false) => "they are computed in floating point, as are the maps",
    };
    Some(format!("{quantised} of {all} layers have int8 weights: {what}"))
}
