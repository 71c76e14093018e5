//! Networks that torch converted to 8 bits: what its modules say of their outputs' integers, put at the nodes that have
//! the same values.
//!
//! They have the same weights and the same steps here, and are computed as our own are. Torch's kernels round more often:
//! what a convolution makes before a sum or an activation that bends, and the answer, become 8 bits there and stay sums of
//! 32 here; and torch has biases and what sums are scaled by in floating point, where here all are integers. So values
//! differ by a step here and there, and answers by about as much as torch's differ from those in floating point
//! (`tests/converted.rs`).

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Result, Tensor,
    checkpoint::Tensors,
    graph::{Activation, Affine, Graph, Node, NodeId, Op},
};

/// The module that makes integers of pictures, in torchvision's networks.
pub(super) const QUANT: &str = "quant";

/// The modules that add and multiply. One in a block that does neither says nothing.
const FUNCTIONALS: [&str; 4] = ["skip_add", "add_relu", "skip_add_relu", "skip_mul"];

/// Torch's gates, of which no tensor tells: 256 steps from 0 to 1.
const GATE: Affine = Affine { scale: 1.0 / 256.0, zero: -128 };

/// What is said of a module that lacks it.
const MISSING: &str =
    "is missing: save all of the state_dict that the network has after torch.ao.quantization.convert";

/// Has the nodes know what their maps' integers stand for. Torch says so of each module, where several may be one layer
/// here: then it is the last one's that counts, and of what answers nobody's.
///
/// # Errors
/// [`crate::Error::Checkpoint`] for a module that says nothing, or that the graph has not.
pub(super) fn attach(graph: &mut Graph, tensors: &Tensors) -> Result<()> {
    if tensors.maps.is_empty() {
        return Ok(());
    }
    let missing = |module: &str| tensors.error(&format!("{module}.scale"), MISSING);
    if !tensors.maps.contains_key(QUANT) {
        // One of which dense layers alone are in 8 bits has maps in floating point.
        let spatial =
            |node: &Node| node.steps.is_some() && matches!(&node.op, Op::Conv(conv) if !conv.linear);
        return if graph.nodes().any(|(_, node)| spatial(node)) { Err(missing(QUANT)) } else { Ok(()) };
    }
    let mut maps = tensors.maps.clone();
    let uses = graph.uses();
    let mut residuals: BTreeMap<NodeId, Affine> = BTreeMap::new();
    let ids: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    for &id in &ids {
        let node = graph.node(id);
        let [first, last] = [node.inputs.iter().min(), node.inputs.iter().max()].map(|id| id.copied());
        let [residual, input] = [first, last].map(|id| id.and_then(|id| graph.node(id).map));
        let map = said(node, &mut maps, input).map_err(|module| missing(&module))?;
        // What a layer makes before its activation or its sum is never rounded here.
        let within = last.filter(|last| {
            uses[last.index()] == 1
                && match graph.node(*last).op {
                    Op::Conv(_) => matches!(node.op, Op::Add | Op::Activation(_)),
                    Op::Add => matches!(node.op, Op::Activation(_)),
                    _ => false,
                }
        });
        if let (Op::Add, Some(within), Some(residual)) = (&node.op, within, residual) {
            residuals.insert(within, residual);
        }
        graph.node_mut(id).map = map;
        if let Some(within) = within {
            graph.node_mut(within).map = None;
        }
    }
    for id in ids {
        make_room(graph, id, residuals.get(&id).copied());
    }
    let answers: Vec<NodeId> = graph.answers().iter().map(|(_, id)| *id).collect();
    for id in answers {
        graph.node_mut(id).map = None;
    }
    let is_functional = |module: &str| FUNCTIONALS.contains(&module.rsplit('.').next().unwrap_or_default());
    match maps.keys().find(|module| !is_functional(module)) {
        Some(module) => {
            let reason = "says what the integers of a module stand for, and the network has no such module";
            Err(tensors.error(&format!("{module}.scale"), reason))
        }
        None => Ok(()),
    }
}

/// Takes from `maps` what torch says of a node's output. What only cuts off or pools keeps the integers of its `input`.
///
/// # Errors
/// The module that should say it.
fn said(
    node: &Node,
    maps: &mut BTreeMap<String, Affine>,
    input: Option<Affine>,
) -> std::result::Result<Option<Affine>, String> {
    let name = node.output_name();
    let map = match &node.op {
        Op::Input(_) => maps.remove(QUANT),
        Op::Conv(_) if node.steps.is_some() => Some(maps.remove(name).ok_or(name)?),
        Op::Activation(Activation::HardSwish | Activation::Swish) => Some(maps.remove(name).ok_or(name)?),
        Op::Activation(Activation::HardSigmoid | Activation::Sigmoid) => {
            maps.remove(name).or(input.map(|_| GATE))
        }
        Op::Add | Op::Scale => {
            let block = name.strip_suffix(".add").unwrap_or(name);
            let modules = FUNCTIONALS.map(|functional| format!("{block}.{functional}"));
            let found = modules.iter().find_map(|module| maps.remove(module));
            let [sum, rectified, _, product] = modules;
            let usual = match &node.op {
                Op::Scale => product,
                _ if block == name => sum,
                _ => rectified,
            };
            Some(found.ok_or(usual)?)
        }
        Op::Activation(_) | Op::GlobalPool | Op::MaxPool(_) => input,
        _ => None,
    };
    Ok(map)
}

/// Sums are of 32 bits, and what is added to them, bias and residual, is to leave room: so many steps at most.
const ROOM: f32 = (1u32 << 28) as f32;

/// Has a convolution's outputs with tiny weights, which torch gives steps as tiny, take larger ones.
fn make_room(graph: &mut Graph, id: NodeId, residual: Option<Affine>) {
    let node = graph.node(id);
    let input = node.inputs.first().and_then(|input| graph.node(*input).map);
    let (Op::Conv(conv), Some(steps), Some(input)) = (&node.op, &node.steps, input) else { return };
    let reach = residual.map_or(0.0, |affine| affine.value(127).max(-affine.value(-128)));
    let enough = |(o, step): (usize, &f32)| {
        let bias = conv.bias.as_ref().map_or(0.0, |bias| bias.data()[o].abs());
        step.max((bias + reach) / (input.scale * ROOM)).min(f32::MAX)
    };
    let larger: Vec<f32> = steps.iter().enumerate().map(enough).collect();
    if larger[..] == steps[..] {
        return;
    }
    let each = conv.weight.data().len() / larger.len();
    let weight = |i: usize| {
        let (weight, step) = (conv.weight.data()[i], larger[i / each]);
        if step == steps[i / each] { weight } else { (weight / step).round_ties_even() * step }
    };
    let weight = Arc::new(Tensor::from_fn(conv.weight.dims(), weight));
    let node = graph.node_mut(id);
    node.steps = Some(larger.into());
    if let Op::Conv(conv) = &mut node.op {
        conv.weight = weight;
    }
}
