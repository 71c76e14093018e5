//! A network: what a checkpoint, its configuration and a name add up to.

use std::path::Path;

use super::{
    answer::{Feature, Task},
    backbone,
    checkpoint::Checkpoint,
    config::Config,
    library::{Arch, Library},
    preprocessing::{Preprocessing, Resize},
    skeleton::{Mismatch, Skeleton},
    table::{Family, Table},
};
use crate::{Error, Result, Shape, graph::Graph};

/// A network, ready to be planned and run.
#[derive(Debug, Clone)]
pub struct Network {
    /// The source library and its own name for the network: `torchvision/mobilenet_v2`.
    pub arch: String,
    /// What it is, apart from its width.
    pub family: Family,
    /// From the normalised picture to what the task makes of the answer. Nodes are named after the source library's
    /// modules, and a node's value is what a hook on its module sees.
    pub graph: Graph,
    /// Classes that it tells apart, the background included where there is one.
    pub classes: usize,
    /// Channels of the input: 3, unless the checkpoint was made for something else.
    pub channels: usize,
    /// How the checkpoint wants its pictures.
    pub preprocessing: Preprocessing,
    /// Rows and columns of a picture after that.
    pub input: [usize; 2],
    /// The classes' names, where the configuration has them.
    pub labels: Option<Vec<String>>,
    /// What its answer is for.
    pub task: Task,
    /// The last map of every stride, for networks that are built on this one.
    pub features: Vec<Feature>,
    /// What was assumed because nothing said it, a sentence each.
    pub notes: Vec<String>,
}

impl Network {
    /// Opens a `.safetensors` file or a folder; see [`Checkpoint::open`].
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`Network::from_checkpoint`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_as(path, None)
    }

    /// Opens a checkpoint as the network of this name: `library/name`, or `library/name.tag` for
    /// one of several published checkpoints that want different pictures. The name counts more
    /// than a `config.json` beside the weights.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`Network::from_checkpoint`].
    pub fn open_as(path: impl AsRef<Path>, arch: Option<&str>) -> Result<Self> {
        // A wrong name is told before anything is read.
        arch.map(Arch::parse).transpose()?;
        Self::from_checkpoint(&Checkpoint::open(path)?, arch)
    }

    /// The network that a checkpoint holds.
    ///
    /// # Errors
    /// [`Error::UnknownNetwork`] if the name is unknown or the keys are those of no network here,
    /// [`Error::File`] if the keys contradict the name or a configuration cannot be honoured,
    /// [`Error::Checkpoint`] for the first tensor that is missing, superfluous or not as it should be.
    pub fn from_checkpoint(checkpoint: &Checkpoint, arch: Option<&str>) -> Result<Self> {
        let said = arch.map(Arch::parse).transpose()?;
        let configured = match &checkpoint.config {
            // A name that was said may be the remedy for a configuration that is not understood.
            Some(config) => configured(config).or_else(|e| if said.is_some() { Ok(None) } else { Err(e) })?,
            None => None,
        };
        let mut notes = Vec::new();
        let library = Library::of(checkpoint).ok_or_else(|| unknown(checkpoint, &seen(checkpoint)))?;
        let named = said.or(configured);
        if let Some(arch) = named.filter(|arch| arch.library != library) {
            return Err(Error::file(
                checkpoint.path(),
                format!("said to be {arch}, but its tensors are named as {library} does"),
            ));
        }
        let skeleton = library.skeleton(checkpoint).map_err(|reason| unknown(checkpoint, &reason))?;
        let classifier = skeleton.top.last();
        if !checkpoint.has(&format!("{classifier}.")) {
            let saw = seen(checkpoint);
            return Err(unknown(checkpoint, &format!("{library}'s names, but no {classifier}: {saw}")));
        }
        let (table, repeats) = fit(checkpoint, library, &skeleton, named)?;
        let arch = match named {
            Some(arch) => Some(arch),
            None => guess(checkpoint, library, &skeleton, table, &mut notes)?,
        };
        // A configuration speaks of this network only if it names it.
        let same = |config: &Arch| arch.is_some_and(|a| std::ptr::eq(a.known, config.known));
        let config = configured.filter(same).and(checkpoint.config.as_ref());
        if config.is_none() && checkpoint.config.is_some() {
            notes.push("config.json beside the weights does not name this network: not used".into());
        }

        let name = arch.map_or("", |arch| arch.known.name);
        let rules = library.rules(name, table, config)?;
        let built = backbone::build(checkpoint, &skeleton, table, &repeats, &rules)?;

        let retagged = said.is_some_and(|arch| arch.tag.is_some());
        let preprocessor =
            checkpoint.preprocessor.as_ref().filter(|_| checkpoint.config.is_none() || config.is_some());
        let preprocessing = match library.preprocessing(config, preprocessor)? {
            Some(preprocessing) if !retagged => preprocessing,
            _ => preset(library, arch, table, &mut notes),
        };
        let input = match (preprocessing.crop, preprocessing.resize) {
            (Some(size), _) | (None, Resize::Exact(size)) => size,
            (None, Resize::Short(side)) => [side, side],
        };
        if built.channels != 3 {
            notes.push(format!("the input has {} channels: pictures have 3", built.channels));
        }
        let mut labels = config.map(|config| library.labels(config)).transpose()?.flatten();
        if let Some(found) = labels.as_ref().map(Vec::len).filter(|n| *n != built.classes) {
            notes.push(format!("config.json names {found} classes of {}: names left out", built.classes));
            labels = None;
        }
        for note in &notes {
            log::info!("{}: {note}", checkpoint.path().display());
        }
        Ok(Self {
            arch: arch.map_or_else(|| format!("{library}/{}", table.family), |arch| arch.to_string()),
            family: table.family,
            graph: built.graph,
            classes: built.classes,
            channels: built.channels,
            preprocessing,
            input,
            labels,
            task: built.task,
            features: built.features,
            notes,
        })
    }

    /// The shape of a batch of `pictures` inputs.
    pub fn input_shape(&self, pictures: usize) -> Shape {
        Shape::new(pictures, self.channels, self.input[0], self.input[1])
    }
}

/// The network that a `config.json` names, if it names one: timm's by its name alone.
fn configured(config: &Config) -> Result<Option<Arch<'_>>> {
    if let Some(name) = config.text("architecture")? {
        return if name.contains('/') { Arch::parse(name) } else { Library::Timm.arch(name) }.map(Some);
    }
    config.text("model_type")?.map(|name| Library::Transformers.arch(name)).transpose()
}

/// The table that the keys fit, which must be that of the name, if there is one.
fn fit(
    checkpoint: &Checkpoint,
    library: Library,
    skeleton: &Skeleton,
    named: Option<Arch>,
) -> Result<(&'static Table, Vec<usize>)> {
    let mut nearest: Option<(Family, Mismatch)> = None;
    let mut found = None;
    // A ResNet is compared with ResNets alone, and what segments with what segments as it does.
    let residual = skeleton.blocks.iter().any(|block| block.shortcut.is_some());
    let alike = |t: &Table| (t.family == Family::ResNet) == residual && skeleton.top.are(&t.top);
    for table in library.tables().iter().filter(|t| alike(t)) {
        match skeleton.fit(table, checkpoint) {
            Ok(repeats) => {
                found = Some((*table, repeats));
                break;
            }
            Err(m) if nearest.as_ref().is_none_or(|(_, n)| m.agreed > n.agreed) => {
                nearest = Some((table.family, m));
            }
            Err(_) => {}
        }
    }
    let Some((table, repeats)) = found else {
        let (family, mismatch) =
            nearest.map_or((String::new(), String::new()), |(f, m)| (f.to_string(), m.reason));
        let sort = if residual { "ResNet" } else { "MobileNet" };
        let reason = format!("{library}'s names, but no {sort}: {mismatch}, unlike in {family}, the nearest");
        return Err(unknown(checkpoint, &reason));
    };
    if let Some(arch) = named {
        let contradiction = |found: String| {
            Err(Error::file(
                checkpoint.path(),
                format!("said to be {arch}, but its tensors are those of {found}"),
            ))
        };
        let width = skeleton.width(checkpoint);
        if !std::ptr::eq(arch.known.table, table) {
            let mut alike = library.known().iter().filter(|known| std::ptr::eq(known.table, table));
            let like = alike.clone().find(|known| known.width == width).or(alike.next());
            let like = like.map_or(String::new(), |known| format!(", as {library}/{} is", known.name));
            return contradiction(format!("{}{like}", table.family));
        }
        if let (Some(wanted), Some(width)) = (arch.known.width, width)
            && wanted != width
        {
            let other =
                library.known().iter().find(|k| std::ptr::eq(k.table, table) && k.width == Some(width));
            let other = other.map_or("another width".into(), |known| format!("{library}/{}", known.name));
            return contradiction(format!("{other}: the last block has {width} channels, not {wanted}"));
        }
    }
    Ok((table, repeats))
}

/// The name that the keys suggest, and in `notes` what else they could be.
fn guess(
    checkpoint: &Checkpoint,
    library: Library,
    skeleton: &Skeleton,
    table: &'static Table,
    notes: &mut Vec<String>,
) -> Result<Option<Arch<'static>>> {
    let width = skeleton.width(checkpoint);
    let mut fitting = library
        .known()
        .iter()
        .filter(|known| std::ptr::eq(known.table, table) && (known.width.is_none() || known.width == width));
    let Some(first) = fitting.next() else {
        notes.push(format!("no network of {library}'s has this width: assumed what most of them want"));
        return Ok(None);
    };
    let arch = library.arch(first.name)?;
    if matches!(table.family, Family::V4ConvMedium | Family::V4ConvLarge) {
        notes.push(format!("keys do not tell timm's aa_ and blur_ networks from plain ones: assumed {arch}"));
    }
    for other in fitting {
        notes.push(format!(
            "keys do not tell timm's tf_ networks from plain ones: assumed {arch}, say {library}/{} if it is that",
            other.name
        ));
    }
    Ok(Some(arch))
}

/// What the name wants of pictures, and in `notes` what its other tags would.
fn preset(library: Library, arch: Option<Arch>, table: &Table, notes: &mut Vec<String>) -> Preprocessing {
    let Some(arch) = arch else {
        let like = library.known().iter().find(|known| std::ptr::eq(known.table, table));
        return like.map_or_else(Preprocessing::default, |known| known.presets[0].1.clone());
    };
    let presets = arch.known.presets;
    let others: Vec<&str> =
        presets.iter().filter(|(_, preset)| preset != arch.preset).map(|(tag, _)| *tag).collect();
    if arch.tag.is_none() && !others.is_empty() {
        notes.push(format!(
            "pictures are prepared as for {arch}.{}; say {arch}.TAG for another of {}",
            presets[0].0,
            others.join(", ")
        ));
    }
    arch.preset.clone()
}

/// The beginnings of the keys.
fn seen(checkpoint: &Checkpoint) -> String {
    let mut first: Vec<&str> = checkpoint.keys().filter_map(|key| key.split('.').next()).collect();
    let tensors = first.len();
    first.dedup();
    let more = if first.len() > 6 { " ..." } else { "" };
    first.truncate(6);
    format!("saw {tensors} tensors under {}{more}", first.join(", "))
}

fn unknown(checkpoint: &Checkpoint, reason: &str) -> Error {
    Error::UnknownNetwork(format!("{}: {reason}", checkpoint.path().display()))
}
