//! The results of a quantisation, layer by layer.

use serde::Serialize;

use super::draft::{Draft, conv};
use crate::{tensor::Element, zoo::Network};

/// The stored type of a layer's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredType {
    /// Integers from -127 to 127, with a scale per output.
    Int8,
    /// 16-bit floating point.
    F16,
    /// 32-bit floating point.
    F32,
}

impl std::fmt::Display for StoredType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Int8 => "int8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

/// The results of one layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    /// The library's name for it.
    pub name: String,
    /// The stored type of its weights.
    pub precision: StoredType,
    /// Bytes of its weights and biases in f32.
    pub bytes_before: u64,
    /// Bytes of its weights, scales and biases now.
    pub bytes_after: u64,
    /// The noise in its output, including that of all preceding layers: squared errors over squared f32
    /// values. None without pictures.
    pub noise: Option<f64>,
    /// The noise that this layer adds to the outputs if only it is int8. Layers with the most noise per cost
    /// stay in floating point first. None if no layer has to stay in floating point.
    pub alone: Option<f64>,
    /// The approximate cost of the layer in floating point, in multiply-adds, including the conversion of its
    /// maps. None if no layer has to stay in floating point.
    pub cost: Option<f64>,
}

/// The results of a quantisation.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The network's name.
    pub network: String,
    /// The number of pictures on which ranges and noise were measured.
    pub pictures: usize,
    /// The limit on the noise in the outputs. None without pictures, as are all noise values.
    pub max_noise: Option<f64>,
    /// The noise in the outputs.
    pub noise: Option<f64>,
    /// The noise with all layers in int8.
    pub noise_of_all: Option<f64>,
    /// The number of results whose best class changed, and the number of all results: pictures, pixels or
    /// boxes. None without classes.
    pub changed: Option<[u64; 2]>,
    /// The number of layer pairs whose channels were equalised.
    pub equalised: usize,
    /// Every layer, in order.
    pub layers: Vec<LayerReport>,
    /// Bytes of weights and biases in f32.
    pub bytes_before: u64,
    /// Bytes of weights, scales and biases now.
    pub bytes_after: u64,
    /// Reasons not to trust the results, one sentence each.
    pub warnings: Vec<String>,
}

impl Report {
    /// The part of the report that needs no pictures.
    pub(super) fn of(network: &Network, draft: &Draft, int8: &[bool]) -> Self {
        let layer = |(layer, &int8): (&super::draft::Layer, &bool)| {
            let conv = conv(&draft.exact, layer.id);
            let (weights, outputs) = (conv.weight.data().len() as u64, conv.outputs() as u64);
            let biases = if conv.bias.is_some() { 4 * outputs } else { 0 };
            let (precision, now) = match (int8, layer.float.1) {
                (true, _) => (StoredType::Int8, weights + 4 * outputs),
                (false, Element::F16) => (StoredType::F16, 2 * weights),
                (false, Element::F32) => (StoredType::F32, 4 * weights),
            };
            LayerReport {
                name: draft.exact.node(layer.id).name().to_owned(),
                precision,
                bytes_before: 4 * weights + biases,
                bytes_after: now + biases,
                noise: None,
                alone: None,
                cost: None,
            }
        };
        let layers: Vec<LayerReport> = draft.layers.iter().zip(int8).map(layer).collect();
        Self {
            network: network.arch.clone(),
            pictures: 0,
            max_noise: None,
            noise: None,
            noise_of_all: None,
            changed: None,
            equalised: 0,
            bytes_before: layers.iter().map(|layer| layer.bytes_before).sum(),
            bytes_after: layers.iter().map(|layer| layer.bytes_after).sum(),
            layers,
            warnings: Vec::new(),
        }
    }

    /// The number of int8 layers.
    pub fn int8(&self) -> usize {
        self.layers.iter().filter(|layer| layer.precision == StoredType::Int8).count()
    }
}

/// Formats a fraction as a percentage, with its significant digits.
pub(super) fn percent(fraction: f64) -> String {
    let percent = 100.0 * fraction;
    if percent != 0.0 && percent < 0.01 { format!("{percent:.1e} %") } else { format!("{percent:.3} %") }
}
