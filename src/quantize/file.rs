//! Encodes quantised networks as files.

use std::collections::BTreeMap;

use half::{f16, slice::HalfFloatSliceExt};
use safetensors::{Dtype, tensor::TensorView};

use super::{
    Quantized,
    draft::{conv, layers},
    weights::{quantise, rounded},
};
use crate::{
    Error, Result, Tensor,
    checkpoint::{Record, Source, scale_of},
    graph::{Affine, Conv, Graph, Node, Op, passes},
    tensor::Element,
    zoo::{Checkpoint, Network},
};

/// The name of the encoded bytes in errors.
const NAME: &str = "the quantised network";

/// A tensor's type, shape and bytes.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

impl Quantized {
    /// Encodes the file that the module's documentation describes. `network` is the original network. As a
    /// check, the bytes are opened again and compared with the original network.
    ///
    /// # Errors
    /// [`Error::Input`] if the network could not be opened again because it lacks the library's names, as
    /// synthetic networks and custom classifiers with batch norms do.
    pub fn encode(&self, network: &Network) -> Result<Vec<u8>> {
        let tensors = self.tensors(network);
        let mut record = recorded(network);
        let cannot =
            |reason: String| Error::Input(format!("{} cannot be written as int8: {reason}", network.arch));
        let open = |bytes: Vec<u8>| {
            let opened = Checkpoint::from_bytes(NAME, bytes, None, None);
            opened.and_then(|checkpoint| Network::from_checkpoint(&checkpoint, None))
        };
        // A value is named after the last module that computes it. The file has no batch norms, so a value
        // that is named after a batch norm here has another name in the opened graph. The names of maps come
        // from there.
        let opened = open(bytes(&tensors, &record)?).map_err(|error| cannot(error.to_string()))?;
        same(network, &opened).map_err(cannot)?;
        let graph = passes::prepared(&opened.graph, false);
        record.maps = aligned(&self.graph, &graph).map_err(cannot)?;
        bytes(&tensors, &record)
    }

    fn tensors(&self, network: &Network) -> BTreeMap<String, Stored> {
        let mut tensors = BTreeMap::new();
        for &(id, element) in &self.stored {
            store(&mut tensors, self.graph.node(id), conv(&self.graph, id), element);
        }
        // Layers that no output needs still belong to the library's network.
        let whole = passes::prepared(&network.graph, true);
        for id in layers(&whole, network) {
            let mut node = whole.node(id).clone();
            if !tensors.contains_key(&format!("{}.weight", node.name())) {
                let rounded = rounded(conv(&whole, id), None, None);
                node.weight_scales = Some(rounded.scales);
                store(
                    &mut tensors,
                    &node,
                    &Conv { weight: rounded.weight, ..conv(&whole, id).clone() },
                    None,
                );
            }
        }
        tensors
    }
}

/// Adds a layer's tensors: integers if it has scales and no `element`, else floats of type `element`.
fn store(tensors: &mut BTreeMap<String, Stored>, node: &Node, conv: &Conv, element: Option<Element>) {
    let (name, each) = (node.name(), conv.weight.data().len() / conv.outputs());
    let key = format!("{name}.weight");
    let dims = if conv.linear { &conv.weight.dims()[..2] } else { conv.weight.dims() };
    let weights = conv.weight.data();
    let (dtype, bytes) = match (element, &node.weight_scales) {
        (None, Some(scales)) => {
            tensors.insert(scale_of(&key), floats(&Tensor::from_fn([scales.len()], |o| scales[o])));
            let integers = weights.iter().enumerate();
            let integer = |(at, weight): (usize, &f32)| quantise(*weight, scales[at / each]) as u8;
            (Dtype::I8, integers.map(integer).collect())
        }
        (Some(Element::F16), _) => {
            let mut halves = vec![f16::ZERO; weights.len()];
            halves.convert_from_f32_slice(weights);
            (Dtype::F16, halves.iter().flat_map(|half| half.to_le_bytes()).collect())
        }
        _ => (Dtype::F32, floats(&conv.weight).2),
    };
    tensors.insert(key, (dtype, dims.to_vec(), bytes));
    if let Some(bias) = &conv.bias {
        tensors.insert(format!("{name}.bias"), floats(bias));
    }
}

fn floats(tensor: &Tensor) -> Stored {
    let bytes = tensor.data().iter().flat_map(|value| value.to_le_bytes()).collect();
    (Dtype::F32, tensor.dims().to_vec(), bytes)
}

fn bytes(tensors: &BTreeMap<String, Stored>, record: &Record) -> Result<Vec<u8>> {
    let wrong = |error: safetensors::SafeTensorError| Error::file(NAME, error);
    let mut views = Vec::new();
    for (key, (dtype, dims, bytes)) in tensors {
        views.push((key, TensorView::new(*dtype, dims.clone(), bytes).map_err(wrong)?));
    }
    safetensors::serialize(views, Some(record.metadata())).map_err(wrong)
}

/// The metadata of a network: all settings except the library's defaults for the network's name.
fn recorded(network: &Network) -> Record {
    let assumed = |from: &Source| matches!(from, Source::Default(_));
    let mut record = Record { labels: network.labels.clone(), ..Record::default() };
    for origin in &network.origins {
        match origin.name {
            // The name of a family has no slash and is left out.
            "architecture" => {
                record.architecture = Some(origin.value.clone()).filter(|name| name.contains('/'))
            }
            name if !assumed(&origin.from) => drop(record.values.insert(name.into(), origin.value.clone())),
            _ => {}
        }
    }
    record
}

/// Checks that a network that was opened again equals the original, except for its graph.
fn same(network: &Network, opened: &Network) -> Result<(), String> {
    let [a, b] = [network, opened];
    let parts = [
        ("preprocessing", a.preprocessing == b.preprocessing && a.input == b.input),
        ("scores", a.scores == b.scores && a.classes == b.classes && a.labels == b.labels),
        ("task", std::mem::discriminant(&a.task) == std::mem::discriminant(&b.task)),
    ];
    match parts.iter().find(|(_, same)| !same) {
        Some((part, _)) => Err(format!("its {part} would differ when opened again")),
        None => Ok(()),
    }
}

/// The quantisation of `graph`'s maps, by the names of the same values in `opened`.
fn aligned(graph: &Graph, opened: &Graph) -> Result<BTreeMap<String, Affine>, String> {
    let other = |node: &Node| format!("{} would differ when opened again", node.name());
    let mut maps = BTreeMap::new();
    let mut pairs = graph.nodes().zip(opened.nodes());
    for ((_, node), (_, again)) in &mut pairs {
        if !alike(node, again) {
            return Err(other(node));
        }
        if let Some(affine) = node.quantisation
            && maps.insert(again.output_name().to_owned(), affine).is_some()
        {
            return Err(format!("two of its modules are called {}", again.output_name()));
        }
    }
    match (graph.nodes().nth(opened.nodes().len()), graph.nodes().len() == opened.nodes().len()) {
        (Some((_, node)), _) => Err(other(node)),
        (None, true) => Ok(maps),
        (None, false) => Err("it would have more layers when opened again".into()),
    }
}

/// True if two nodes compute the same, with the same weights.
fn alike(node: &Node, again: &Node) -> bool {
    let computes = match (&node.op, &again.op) {
        (Op::Conv(a), Op::Conv(b)) => {
            let bias = |conv: &Conv| conv.bias.as_ref().map(|bias| bias.data().to_vec());
            a.weight == b.weight
                && bias(a) == bias(b)
                && node.weight_scales == again.weight_scales
                && (a.stride, a.dilation, a.padding, a.groups, a.activation, a.linear)
                    == (b.stride, b.dilation, b.padding, b.groups, b.activation, b.linear)
        }
        (Op::Resize(a), Op::Resize(b)) | (Op::Argmax(a), Op::Argmax(b)) => a == b,
        (Op::MaxPool(a), Op::MaxPool(b)) => a == b,
        (Op::Concat(a), Op::Concat(b)) => a == b,
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
    };
    computes && node.inputs == again.inputs
}
