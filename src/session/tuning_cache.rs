//! Tuning results stored for later sessions, one file per network, input shape and device.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Shape, Tensor,
    gpu::{AdapterInfo, Gpu, cache},
    graph::{Graph, Node, Op},
    kernels,
    plan::Tuned,
    tensor::Element,
};

/// Everything that tuning results depend on. A file with another key is stale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Key {
    adapter: String,
    backend: String,
    driver: String,
    input: [usize; 4],
    /// The storage type of feature maps and weights.
    element: String,
    /// Checksum of the network's convolutions and their shapes.
    network: u64,
    /// Checksum of all kernel sources and of the crate's version, because another version's planner may
    /// choose other tiles.
    kernels: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    key: Key,
    record: TuningRecord,
}

/// Stored results of tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TuningRecord {
    /// The candidates that beat the cost model's choice.
    pub winners: Tuned,
    /// Milliseconds per run with the winners.
    pub ms: f64,
    /// Relative error of the network's scores: the norm of their difference from the f32 scores, over the
    /// norm of the f32 scores.
    pub error: f64,
    /// Checksum of the weights that `error` was measured with. Results in f32 do not depend on it.
    pub weights: u64,
}

/// The largest relative error of the scores at which f16 is chosen automatically.
pub const MAX_F16_ERROR: f64 = 1e-2;

impl Key {
    fn new(info: &AdapterInfo, graph: &Graph, input: Shape, element: Element) -> Option<Self> {
        let shapes = graph.shapes(input).ok()?;
        // Tuning chooses kernels for convolutions only, whatever the outputs are.
        let convolutions = graph.nodes().filter_map(|(id, node)| match &node.op {
            Op::Conv(conv) => {
                let form = (conv.weight.dims(), conv.stride, conv.dilation, conv.groups, conv.activation);
                let int8 = (node.weight_scales.is_some(), node.quantisation.is_some());
                Some((node.name(), form, int8, shapes[id.index()]))
            }
            _ => None,
        });
        let layers = format!("{:?}", convolutions.collect::<Vec<_>>());
        let texts: String = kernels::texts().chain([env!("CARGO_PKG_VERSION")]).collect();
        Some(Self {
            adapter: info.name.clone(),
            backend: info.backend.clone(),
            driver: info.driver.clone(),
            input: input.into(),
            element: element.to_string(),
            network: cache::checksum("network", layers.as_bytes()),
            kernels: cache::checksum("kernels", texts.as_bytes()),
        })
    }

    /// Returns the name of the file for this key. Kernels are not part of it, so that a newer version
    /// replaces the file of an older one.
    fn file(&self) -> String {
        let named = Self { kernels: 0, ..self.clone() };
        let text = serde_json::to_string(&named).unwrap_or_default();
        format!("tuned-{:016x}.json", cache::checksum("file", text.as_bytes()))
    }
}

/// Returns a checksum of a network's convolutions, batch norms and activations, with their weights.
pub fn weights_checksum(graph: &Graph) -> u64 {
    let sum = |node: &Node| {
        let weights: Vec<&Tensor> = match &node.op {
            Op::Conv(conv) => [&conv.weight].into_iter().chain(&conv.bias).map(Arc::as_ref).collect(),
            Op::BatchNorm(norm) => {
                [&norm.gamma, &norm.beta, &norm.mean, &norm.variance].map(Arc::as_ref).to_vec()
            }
            Op::Activation(_) => Vec::new(),
            // Others depend on the requested outputs.
            _ => return None,
        };
        let named = format!("{} {} {:?}", node.name(), node.op.name(None), node.quantisation);
        Some(weights.iter().fold(cache::checksum("node", named.as_bytes()), |all, tensor| {
            all.rotate_left(1) ^ cache::checksum("weights", bytemuck::cast_slice(tensor.data()))
        }))
    };
    graph.nodes().filter_map(|(_, node)| sum(node)).fold(0, |all, sum| all.rotate_left(1) ^ sum)
}

/// Loads the stored tuning results for this network on this device, if there are any. f16 results are used only
/// with the weights that they were measured with, because the error depends on the weights.
/// A damaged or stale file is ignored with a warning.
pub fn load_tuning(gpu: &Gpu, graph: &Graph, input: Shape, element: Element) -> Option<TuningRecord> {
    let folder = gpu.cache_folder()?;
    let key = Key::new(gpu.adapter(), graph, input, element)?;
    let file = key.file();
    let bytes = cache::read(folder, &file)?;
    let path = folder.join(&file);
    let found = cache::unseal(&file, &bytes).and_then(|data| serde_json::from_slice::<File>(data).ok());
    match found {
        Some(File { key: of_file, record })
            if of_file == key && element == Element::F16 && record.weights != weights_checksum(graph) =>
        {
            log::info!("{}: measured with other weights: not used in f16, tune again", path.display());
            None
        }
        Some(File { key: of_file, record }) if of_file == key => {
            let Tuned { kernels, gated, schedules } = &record.winners;
            let (kernels, schedules) = (kernels.len() + gated.len(), schedules.len());
            log::debug!("{}: using {kernels} tuned kernels and {schedules} tuned schedules", path.display());
            Some(record)
        }
        Some(_) => {
            log::warn!(
                "{}: measured with other kernels or another driver: not used, tune again",
                path.display()
            );
            None
        }
        None => {
            log::warn!("{}: damaged: not used, tune again", path.display());
            None
        }
    }
}

/// Stores tuning results for [`load_tuning`]. Returns false if there is no cache folder or it cannot be written.
pub fn store_tuning(gpu: &Gpu, graph: &Graph, input: Shape, element: Element, record: TuningRecord) -> bool {
    let Some((folder, key)) = gpu.cache_folder().zip(Key::new(gpu.adapter(), graph, input, element)) else {
        return false;
    };
    let file = key.file();
    serde_json::to_vec_pretty(&File { key, record })
        .is_ok_and(|data| cache::write_whole(folder, &file, &cache::seal(&file, &data)))
}
