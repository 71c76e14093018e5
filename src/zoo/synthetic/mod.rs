//! Networks without a checkpoint: the published structures with seeded weights, for benchmarks
//! and experiments. They have learnt nothing.

mod builder;
mod networks;

pub use builder::Builder;
pub use networks::{Squeeze, Tail, V3Options, resnet18, resnet50, v1, v1_full, v2, v3_large, v3_small};

use super::{Family, Network, Preprocessing, Scores, Task};
use crate::{Error, Result, graph::Graph};

/// What [`network`] knows. All but `mobilenet_v1_full` and the ResNets come in other widths too.
pub const NAMES: [&str; 7] = [
    "mobilenet_v1",
    "mobilenet_v1_full",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet18",
    "resnet50",
];

/// The network of this name, with the width behind an `@` if it has another than 1:
/// `mobilenet_v2@0.35`.
///
/// # Errors
/// [`Error::UnknownNetwork`] if there is none, or it does not come in that width.
pub fn network(name: &str) -> Result<Network> {
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
        (base, Some(_)) if NAMES.contains(&base) => {
            return Err(unknown(name, &format!("{base} has one width")));
        }
        _ => return Err(unknown(name, "no network is called that")),
    };
    Ok(named(name, family, graph))
}

/// Every name that [`network`] knows.
pub fn names() -> impl Iterator<Item = String> {
    NAMES.into_iter().map(String::from)
}

fn named(name: &str, family: Family, graph: Graph) -> Network {
    Network {
        arch: format!("synthetic/{name}"),
        family,
        graph,
        classes: networks::CLASSES,
        scores: Scores::Softmax,
        channels: 3,
        preprocessing: Preprocessing::default(),
        input: [224, 224],
        labels: None,
        task: Task::Classify,
        features: Vec::new(),
        origins: Vec::new(),
        tensors: Vec::new(),
        notes: vec!["its weights are random: what it answers means nothing".into()],
        warnings: Vec::new(),
    }
}

fn parse_width(name: &str, width: &str) -> Result<f64> {
    let parsed = width.parse::<f64>().ok().filter(|width| *width > 0.0 && *width <= 4.0);
    parsed.ok_or_else(|| unknown(name, &format!("a width is a number above 0 and up to 4, not {width:?}")))
}

fn unknown(name: &str, reason: &str) -> Error {
    let names = NAMES.join(", ");
    Error::UnknownNetwork(format!("synthetic/{}: {reason}; known are {names}", name.escape_debug()))
}
