//! The libraries' networks from the zoo's tables. The zoo builds each graph from a checkpoint in memory with
//! simple names and seeded values, as from any other checkpoint, so that no structure is defined twice.

use super::{modules, tensors};
use crate::{
    Error, Result,
    checkpoint::{Anchor, Checkpoint, Overrides, Source, Sourced, Tensors},
    zoo::{
        Network, ScoreKind, assemble::assemble, known::Known, registry, rules::Dilated, table::Top,
        transformers,
    },
};

/// `library/name` as for `--arch`, followed by `/variant` if the name has several structures and this is not
/// the first.
pub(super) fn name(known: &Known) -> String {
    let variant = if known.variant.is_empty() { "" } else { "/" };
    format!("{}/{}{variant}{}", known.library, known.name, known.variant)
}

/// All networks, library by library.
pub(super) fn all() -> impl Iterator<Item = &'static Known> {
    registry::LIBRARIES.into_iter().flat_map(|library| registry::known(library.name))
}

/// The network with seeded weights.
///
/// # Errors
/// Any [`Error`] if the table is inconsistent, which the tests rule out.
pub(super) fn network(known: &'static Known) -> Result<Network> {
    let arch = format!("synthetic/{}", name(known));
    let table = known.table;
    let rows = known.rows();
    let skeleton = modules::skeleton(known, &rows);
    let classes = classes(known);
    let bytes = tensors::of(known, &rows, &skeleton, classes).into_bytes();
    let bytes = bytes.map_err(|error| Error::file(&arch, error.to_string()))?;
    let checkpoint = Checkpoint::from_bytes(&arch, bytes, None, None)?;
    let first = Anchor::new("stem.weight");
    let mut tensors = Tensors::new(&checkpoint, &[first], &Overrides::default())?;

    let library = registry::LIBRARIES.into_iter().find(|library| library.name == known.library);
    let library = library.ok_or_else(|| Error::UnknownNetwork(arch.clone()))?;
    let mut rules = (library.rules)(known.name, table, &tensors, None)?;
    if let Top::DeepLabV3Plus = table.top {
        // As in the `config.json` of Google's checkpoint.
        let from = Source::Default(library.name);
        rules.dilated = Sourced::new(Some(Dilated { stride: 8, dilates_first_block: false }), from);
    }
    let built = assemble(&mut tensors, &skeleton, table, &known.repeats(), &rules)?;
    let preprocessing = known.presets[0].preprocessing;
    Ok(Network {
        arch,
        family: table.family,
        graph: built.graph,
        classes: built.classes,
        scores: ScoreKind::Softmax,
        channels: built.channels,
        preprocessing,
        input: preprocessing.size(),
        labels: None,
        task: built.task,
        features: built.features,
        embedding: built.embedding,
        origins: Vec::new(),
        tensors: Vec::new(),
        notes: vec![super::RANDOM.into()],
        warnings: Vec::new(),
        files: Vec::new(),
    })
}

/// The number of classes of the published weights: ImageNet (in transformers with a background class), Pascal
/// VOC or COCO.
fn classes(known: &Known) -> usize {
    match known.table.top {
        Top::Classifier(_) if known.library == transformers::LIBRARY.name => 1001,
        Top::Classifier(_) => 1000,
        Top::LrAspp | Top::DeepLabV3 | Top::DeepLabV3Plus => 21,
        Top::SsdLite => 91,
    }
}
