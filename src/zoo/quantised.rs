//! Networks in 8 bits: what a file says of maps, put at the nodes that it speaks of.

use crate::{
    checkpoint::Record,
    graph::{Graph, Op},
};

/// Has the nodes know what their maps' integers stand for.
///
/// # Errors
/// The module that the graph has not.
pub(super) fn attach(graph: &mut Graph, record: &Record) -> Result<(), String> {
    let mut maps = record.maps.clone();
    let ids: Vec<_> = graph.nodes().map(|(id, _)| id).collect();
    for id in ids {
        let node = graph.node_mut(id);
        node.map = maps.remove(node.output_name());
        if node.map.is_some()
            && matches!(node.op, Op::Argmax(_) | Op::Softmax(_) | Op::Boxes(_) | Op::Select(_))
        {
            let module = node.output_name();
            return Err(format!("says what the integers of {module:?} stand for, which is never in 8 bits"));
        }
    }
    match maps.keys().next() {
        None => Ok(()),
        Some(module) => {
            let others =
                if maps.len() > 1 { format!(" (nor {} more)", maps.len() - 1) } else { String::new() };
            Err(format!(
                "says what the integers of {module:?} stand for, and the network has no such module{others}"
            ))
        }
    }
}

/// A sentence on what of it is in 8 bits, if anything is.
pub(super) fn note(graph: &Graph) -> Option<String> {
    let layers = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Conv(_)));
    let (all, quantised) =
        layers.fold((0, 0), |(all, some), (_, node)| (all + 1, some + usize::from(node.steps.is_some())));
    let mapped = graph.nodes().any(|(_, node)| node.map.is_some());
    let what = match (quantised, mapped) {
        (0, _) => return None,
        (_, true) => "they are computed in integers",
        (_, false) => "they are computed in floating point, as maps are",
    };
    Some(format!("the weights of {quantised} of {all} layers are of 8 bits: {what}"))
}
