//! Untrained networks without a checkpoint: the published structures with seeded random weights, for
//! benchmarks and experiments.

mod builder;
mod heads;
mod modules;
mod names;
mod networks;
mod published;
mod tensors;
mod weights;

pub use builder::Builder;
pub use names::names;
pub use networks::{Squeeze, Tail, V3Options, resnet18, resnet50, v1, v1_full, v2, v3_large, v3_small};

use super::{Family, Network, Preprocessing, ScoreKind, Task};
use crate::{Result, graph::Graph};
use names::unknown;

/// The papers' networks. All except `mobilenet_v1_full` and the ResNets support other widths too.
pub const NAMES: [&str; 7] = [
    "mobilenet_v1",
    "mobilenet_v1_full",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet18",
    "resnet50",
];

/// The note on every synthetic network.
const RANDOM: &str = "its weights are random: its outputs are meaningless";

/// Builds the network with this name. It is one of [`NAMES`], optionally with a width after `@`, such as
/// `mobilenet_v2@0.35`; or a library's network, such as `timm/mobilenetv3_large_100`, with the input size,
/// preprocessing and classes of its default weights. [`names`] lists all names.
///
/// ```
/// # fn main() -> goldcrest::Result<()> {
/// let network = goldcrest::zoo::synthetic::network("timm/mobilenetv4_conv_small_050")?;
/// assert_eq!((network.classes, network.input), (1000, [224, 224]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::UnknownNetwork`](crate::Error::UnknownNetwork) if the name is unknown, or the width is not
/// supported.
pub fn network(name: &str) -> Result<Network> {
    if let Some(known) = published::all().find(|known| published::name(known) == name) {
        return published::network(known);
    }
    let (base, width) = match name.split_once('@') {
        Some((base, width)) => (base, Some(parse_width(name, width)?)),
        None => (name, None),
    };
    let scaled = width.unwrap_or(1.0);
    let v3 = V3Options { width: scaled, ..V3Options::default() };
    let (family, graph) = match (base, width) {
        ("mobilenet_v1", _) => (Family::V1, v1(scaled)),
        ("mobilenet_v1_full", None) => (Family::V1_FULL, v1_full()),
        ("mobilenet_v2", _) => (Family::V2, v2(scaled)),
        ("mobilenet_v3_large", _) => (Family::V3_LARGE, v3_large(&v3)),
        ("mobilenet_v3_small", _) => (Family::V3_SMALL, v3_small(&v3)),
        ("resnet18", None) => (Family::RESNET, resnet18()),
        ("resnet50", None) => (Family::RESNET, resnet50()),
        (base, Some(_)) if names().iter().any(|known| known == base) => {
            return Err(unknown(name, &format!("{base} has only one width")));
        }
        _ => return Err(unknown(name, "no such network")),
    };
    Ok(named(name, family, graph))
}

fn named(name: &str, family: Family, graph: Graph) -> Network {
    Network {
        arch: format!("synthetic/{name}"),
        family,
        graph,
        classes: networks::CLASSES,
        scores: ScoreKind::Softmax,
        channels: 3,
        preprocessing: Preprocessing::default(),
        input: [224, 224],
        labels: None,
        task: Task::Classify,
        features: Vec::new(),
        embedding: None,
        origins: Vec::new(),
        tensors: Vec::new(),
        notes: vec![RANDOM.into()],
        warnings: Vec::new(),
        files: Vec::new(),
    }
}

fn parse_width(name: &str, width: &str) -> Result<f64> {
    let parsed = width.parse::<f64>().ok().filter(|width| *width > 0.0 && *width <= 4.0);
    parsed.ok_or_else(|| unknown(name, &format!("a width is a number above 0 and up to 4, not {width:?}")))
}
