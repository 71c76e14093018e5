//! Networks that torch converted to int8: attaches the scales and zero points of torch's modules to the nodes
//! with the same values.
//!
//! Weights and their scales are the same as in torch. The arithmetic is that of all int8 networks
//! here, and differs from torch's in two ways:
//!
//! - torch rounds more often: it stores in 8 bits a convolution's output before a residual sum or a
//!   non-linear activation, and the network's output. Here these values are not rounded to 8 bits.
//! - torch keeps biases and rescaling factors in floating point. Here they are integers.
//!
//! Single values therefore differ by one step, and outputs differ from torch's about as much as torch's
//! differ from those in floating point (`tests/converted.rs`).

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Result, Tensor,
    checkpoint::Tensors,
    graph::{Activation, Affine, Graph, Node, NodeId, Op},
};

/// The module that quantises pictures in torchvision's networks.
pub(super) const QUANT: &str = "quant";

/// The modules that add and multiply. In a block that does neither, their scale is unused.
const FUNCTIONALS: [&str; 4] = ["skip_add", "add_relu", "skip_add_relu", "skip_mul"];

/// The fixed scale of torch's gates, which no tensor stores: 256 steps from 0 to 1.
const GATE: Affine = Affine { scale: 1.0 / 256.0, zero: -128 };

/// The error for a module without a scale.
const MISSING: &str =
    "is missing: save the complete state_dict of the network after torch.ao.quantization.convert";

/// Attaches scales and zero points to the nodes. Where several of torch's modules are one layer here, the
/// last module's scale counts. The graph's outputs get none: they stay in floating point.
///
/// # Errors
/// [`crate::Error::Checkpoint`] for a module that has no scale, or that is not in the graph.
pub(super) fn attach(graph: &mut Graph, tensors: &Tensors) -> Result<()> {
    if tensors.maps.is_empty() {
        return Ok(());
    }
    let missing = |module: &str| tensors.error(&format!("{module}.scale"), MISSING);
    if !tensors.maps.contains_key(QUANT) {
        // With dynamic quantisation only the dense layers are int8, and maps are in floating point.
        let spatial =
            |node: &Node| node.weight_scales.is_some() && matches!(&node.op, Op::Conv(conv) if !conv.linear);
        return if graph.nodes().any(|(_, node)| spatial(node)) { Err(missing(QUANT)) } else { Ok(()) };
    }
    let mut maps = tensors.maps.clone();
    let uses = graph.uses();
    let mut residuals: BTreeMap<NodeId, Affine> = BTreeMap::new();
    let ids: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    for &id in &ids {
        let node = graph.node(id);
        let [first, last] = [node.inputs.iter().min(), node.inputs.iter().max()].map(|id| id.copied());
        let [residual, input] = [first, last].map(|id| id.and_then(|id| graph.node(id).quantisation));
        let map = take_map(node, &mut maps, input).map_err(|module| missing(&module))?;
        // The preceding node that becomes one layer with this one: its value is never rounded.
        let fused = last.filter(|last| {
            uses[last.index()] == 1
                && match graph.node(*last).op {
                    Op::Conv(_) => matches!(node.op, Op::Add | Op::Activation(_)),
                    Op::Add => matches!(node.op, Op::Activation(_)),
                    _ => false,
                }
        });
        if let (Op::Add, Some(fused), Some(residual)) = (&node.op, fused, residual) {
            residuals.insert(fused, residual);
        }
        graph.node_mut(id).quantisation = map;
        if let Some(fused) = fused {
            graph.node_mut(fused).quantisation = None;
        }
    }
    for id in ids {
        enlarge_scales(graph, id, residuals.get(&id).copied());
    }
    let outputs: Vec<NodeId> = graph.outputs().iter().map(|(_, id)| *id).collect();
    for id in outputs {
        graph.node_mut(id).quantisation = None;
    }
    let is_functional = |module: &str| FUNCTIONALS.contains(&module.rsplit('.').next().unwrap_or_default());
    match maps.keys().find(|module| !is_functional(module)) {
        Some(module) => {
            let reason = "belongs to a module that the network does not have";
            Err(tensors.error(&format!("{module}.scale"), reason))
        }
        None => Ok(()),
    }
}

/// Removes the scale of a node's output from `maps`. Clipping activations and pooling keep that of their
/// `input`.
///
/// # Errors
/// The name of the module whose scale is missing.
fn take_map(
    node: &Node,
    maps: &mut BTreeMap<String, Affine>,
    input: Option<Affine>,
) -> std::result::Result<Option<Affine>, String> {
    let name = node.output_name();
    let map = match &node.op {
        Op::Input(_) => maps.remove(QUANT),
        Op::Conv(_) if node.weight_scales.is_some() => Some(maps.remove(name).ok_or(name)?),
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

/// The largest sum of bias and residual, in units of a 32-bit accumulator, which leaves room for the products.
const MOST_ADDED: f32 = (1u32 << 28) as f32;

/// Enlarges the scales of outputs with tiny weights, so that bias and residual fit the accumulator.
fn enlarge_scales(graph: &mut Graph, id: NodeId, residual: Option<Affine>) {
    let node = graph.node(id);
    let input = node.inputs.first().and_then(|input| graph.node(*input).quantisation);
    let (Op::Conv(conv), Some(scales), Some(input)) = (&node.op, &node.weight_scales, input) else { return };
    let residual_max = residual.map_or(0.0, |affine| affine.value(127).max(-affine.value(-128)));
    let enough = |(o, scale): (usize, &f32)| {
        let bias = conv.bias.as_ref().map_or(0.0, |bias| bias.data()[o].abs());
        scale.max((bias + residual_max) / (input.scale * MOST_ADDED)).min(f32::MAX)
    };
    let larger: Vec<f32> = scales.iter().enumerate().map(enough).collect();
    if larger[..] == scales[..] {
        return;
    }
    let each = conv.weight.data().len() / larger.len();
    let weight = |i: usize| {
        let (weight, scale) = (conv.weight.data()[i], larger[i / each]);
        if scale == scales[i / each] { weight } else { (weight / scale).round_ties_even() * scale }
    };
    let weight = Arc::new(Tensor::from_fn(conv.weight.dims(), weight));
    let node = graph.node_mut(id);
    node.weight_scales = Some(larger.into());
    if let Op::Conv(conv) = &mut node.op {
        conv.weight = weight;
    }
}
