//! What came of a network in 8 bits, layer by layer.

use serde::Serialize;

use super::draft::{Draft, conv};
use crate::{tensor::Element, zoo::Network};

/// What a layer's weights are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Whole steps from -127 to 127.
    Int8,
    /// Floating point of 16 bits.
    F16,
    /// Floating point of 32 bits.
    F32,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Int8 => "int8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

/// A layer, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    /// The library's name for it.
    pub name: String,
    /// What its weights are stored as.
    pub precision: Precision,
    /// Bytes of its weights and biases in f32.
    pub bytes_before: u64,
    /// Bytes of its weights, steps and biases now.
    pub bytes_after: u64,
    /// The noise in what it makes, with all layers before it as they are now: squares of what values are off over squares
    /// of what they should be. None without pictures.
    pub noise: Option<f64>,
    /// The noise that answers have if this layer alone is in 8 bits, beyond what they have without: those with most for
    /// their cost are the first to stay in floating point. Measured only where some had to.
    pub alone: Option<f64>,
    /// About what it costs in floating point: its multiply-adds, and as many for each value that is converted.
    pub cost: Option<f64>,
}

/// What came of a network in 8 bits.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The network's name.
    pub network: String,
    /// Pictures that ranges and noise were measured on.
    pub pictures: usize,
    /// The noise that was allowed in answers. None without pictures; so for all noise.
    pub within: Option<f64>,
    /// The noise in the answers.
    pub noise: Option<f64>,
    /// The noise with every layer in 8 bits.
    pub noise_of_all: Option<f64>,
    /// How many answers have another best class, and of how many: pictures, pixels or boxes. None where there are no
    /// classes.
    pub changed: Option<[u64; 2]>,
    /// Pairs of layers whose channels were made alike.
    pub equalised: usize,
    /// Every layer, in order.
    pub layers: Vec<LayerReport>,
    /// Bytes of weights and biases in f32.
    pub bytes_before: u64,
    /// Bytes of weights, steps and biases now.
    pub bytes_after: u64,
    /// What speaks against trusting it, a sentence each.
    pub warnings: Vec<String>,
}

impl Report {
    /// Of what is known without pictures.
    pub(super) fn of(network: &Network, draft: &Draft, eight: &[bool]) -> Self {
        let layer = |(layer, &eight): (&super::draft::Layer, &bool)| {
            let conv = conv(&draft.exact, layer.id);
            let (weights, outputs) = (conv.weight.data().len() as u64, conv.outputs() as u64);
            let biases = if conv.bias.is_some() { 4 * outputs } else { 0 };
            let (precision, now) = match (eight, layer.float.1) {
                (true, _) => (Precision::Int8, weights + 4 * outputs),
                (false, Element::F16) => (Precision::F16, 2 * weights),
                (false, Element::F32) => (Precision::F32, 4 * weights),
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
        let layers: Vec<LayerReport> = draft.layers.iter().zip(eight).map(layer).collect();
        Self {
            network: network.arch.clone(),
            pictures: 0,
            within: None,
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

    /// Layers in 8 bits.
    pub fn int8(&self) -> usize {
        self.layers.iter().filter(|layer| layer.precision == Precision::Int8).count()
    }
}

/// A share for people, with as many digits as tell something.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent != 0.0 && percent < 0.01 { format!("{percent:.1e} %") } else { format!("{percent:.3} %") }
}
