//! What tuning measured, kept for later sessions: a file for each network, shape and device.

use serde::{Deserialize, Serialize};

use crate::{
    Shape,
    gpu::{AdapterInfo, Gpu, cache},
    graph::{Graph, Op},
    kernels,
    plan::Tuned,
    tensor::Element,
};

/// What schedules depend on. A file is for one of these; anything else makes it stale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Key {
    adapter: String,
    backend: String,
    driver: String,
    input: [usize; 4],
    /// What maps and weights are stored as.
    element: String,
    /// Of the network's convolutions with their shapes.
    network: u64,
    /// Of every kernel's text, and of this version, whose planner cuts the tiles.
    kernels: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    key: Key,
    kept: Kept,
}

/// What is kept of tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What beat the model's choice.
    pub winners: Tuned,
    /// Milliseconds of a run with it.
    pub ms: f64,
    /// How far the network's scores are from those in f32, over their norm.
    pub error: f64,
    /// Of the weights that this is so of; what is measured in f32 depends on none.
    pub weights: u64,
}

/// The relative error that f16 may leave: beyond it nobody gets f16 who does not ask for it.
pub const F16_BOUND: f64 = 1e-2;

impl Key {
    fn new(info: &AdapterInfo, graph: &Graph, input: Shape, element: Element) -> Option<Self> {
        let shapes = graph.shapes(input).ok()?;
        // Whatever is wanted of the network, these are what tuning chooses for.
        let convolutions = graph.nodes().filter_map(|(id, node)| match &node.op {
            Op::Conv(conv) => {
                let form = (conv.weight.dims(), conv.stride, conv.dilation, conv.groups, conv.activation);
                Some((node.name(), form, shapes[id.index()]))
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

    /// The file that has its schedules. Kernels are not part of the name: a newer version
    /// replaces what an older one left.
    fn file(&self) -> String {
        let named = Self { kernels: 0, ..self.clone() };
        let text = serde_json::to_string(&named).unwrap_or_default();
        format!("tuned-{:016x}.json", cache::checksum("file", text.as_bytes()))
    }
}

/// A checksum of a network's weights.
pub fn weights(graph: &Graph) -> u64 {
    let sums = graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Conv(conv) => Some(cache::checksum(node.name(), bytemuck::cast_slice(conv.weight.data()))),
        _ => None,
    });
    sums.fold(0, |all, sum| all.rotate_left(1) ^ sum)
}

/// What tuning found for this network on this device, if it was kept; in f16 for these very weights, as
/// others may leave another error.
/// A damaged or stale file is ignored with a warning.
pub fn recall(gpu: &Gpu, graph: &Graph, input: Shape, element: Element) -> Option<Kept> {
    let folder = gpu.cache_folder()?;
    let key = Key::new(gpu.adapter(), graph, input, element)?;
    let file = key.file();
    let bytes = cache::read(folder, &file)?;
    let path = folder.join(&file);
    let found = cache::unseal(&file, &bytes).and_then(|data| serde_json::from_slice::<File>(data).ok());
    match found {
        Some(File { key: of, kept })
            if of == key && element == Element::F16 && kept.weights != weights(graph) =>
        {
            log::info!("{}: measured with other weights: not used in f16, tune again", path.display());
            None
        }
        Some(File { key: of, kept }) if of == key => {
            let Tuned { kernels, gated, schedules } = &kept.winners;
            let (kernels, schedules) = (kernels.len() + gated.len(), schedules.len());
            log::debug!("{}: {kernels} kernels and {schedules} schedules as measured", path.display());
            Some(kept)
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

/// Keeps what tuning found for [`recall`]. False if there is no cache folder or it cannot be written.
pub fn keep(gpu: &Gpu, graph: &Graph, input: Shape, element: Element, kept: Kept) -> bool {
    let Some((folder, key)) = gpu.cache_folder().zip(Key::new(gpu.adapter(), graph, input, element)) else {
        return false;
    };
    let file = key.file();
    serde_json::to_vec_pretty(&File { key, kept })
        .is_ok_and(|data| cache::write_whole(folder, &file, &cache::seal(&file, &data)))
}
