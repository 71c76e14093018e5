//! The libraries whose checkpoints are read, and the networks that they know by name.

use std::fmt;

use super::{
    builder::Rules, checkpoint::Checkpoint, config::Config, preprocessing::Preprocessing, skeleton::Skeleton,
    table::Table, timm, torchvision, transformers,
};
use crate::{Error, Result};

/// A library, and with it a scheme of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    Torchvision,
    Timm,
    Transformers,
}

/// A network that a library knows by name.
#[derive(Debug)]
pub(super) struct Known {
    pub name: &'static str,
    pub table: &'static Table,
    /// Channels that leave the last block, where the name fixes the width.
    pub width: Option<usize>,
    /// What each published checkpoint wants of a picture, by its tag; the default first.
    pub presets: &'static [(&'static str, Preprocessing)],
}

/// A network's name, taken apart: `timm/mobilenetv3_large_100.ra_in1k`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arch<'a> {
    pub library: Library,
    pub known: &'static Known,
    /// Which of the presets was asked for; none: the default.
    pub tag: Option<&'a str>,
    /// That preset.
    pub preset: &'static Preprocessing,
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
            Self::Transformers => "transformers",
        })
    }
}

impl fmt::Display for Arch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.library, self.known.name)
    }
}

impl Library {
    pub const ALL: [Self; 3] = [Self::Torchvision, Self::Timm, Self::Transformers];

    /// The library whose names the checkpoint's keys have.
    pub fn of(checkpoint: &Checkpoint) -> Option<Self> {
        Self::ALL.into_iter().find(|library| match library {
            Self::Torchvision => torchvision::recognises(checkpoint),
            Self::Timm => timm::recognises(checkpoint),
            Self::Transformers => transformers::recognises(checkpoint),
        })
    }

    /// The structures that it publishes.
    pub fn tables(self) -> &'static [&'static Table] {
        match self {
            Self::Torchvision => torchvision::TABLES,
            Self::Timm => timm::TABLES,
            Self::Transformers => transformers::TABLES,
        }
    }

    /// The networks that it knows by name.
    pub fn known(self) -> &'static [Known] {
        match self {
            Self::Torchvision => torchvision::KNOWN,
            Self::Timm => timm::KNOWN,
            Self::Transformers => transformers::KNOWN,
        }
    }

    /// The modules that the keys show, or why they are no network of the family.
    pub fn skeleton(self, checkpoint: &Checkpoint) -> Result<Skeleton, String> {
        match self {
            Self::Torchvision => torchvision::skeleton(checkpoint),
            Self::Timm => timm::skeleton(checkpoint),
            Self::Transformers => transformers::skeleton(checkpoint),
        }
    }

    /// What is alike in all of the network `name`.
    pub fn rules(self, name: &str, table: &Table, config: Option<&Config>) -> Result<Rules> {
        match self {
            Self::Torchvision => Ok(torchvision::rules(table.family)),
            Self::Timm => timm::rules(name, config),
            Self::Transformers => transformers::rules(config),
        }
    }

    /// What the files beside the weights say of pictures, if they do.
    pub fn preprocessing(
        self,
        config: Option<&Config>,
        preprocessor: Option<&Config>,
    ) -> Result<Option<Preprocessing>> {
        match self {
            // torchvision has no such files: those beside its weights are as timm's.
            Self::Torchvision | Self::Timm => config.map(timm::preprocessing).transpose(),
            Self::Transformers => preprocessor.map(transformers::preprocessing).transpose(),
        }
    }

    /// The classes' names in `config.json`, if it has some.
    pub fn labels(self, config: &Config) -> Result<Option<Vec<String>>> {
        match self {
            Self::Torchvision | Self::Timm => timm::labels(config),
            Self::Transformers => transformers::labels(config),
        }
    }

    /// The network of this name, with or without a tag behind a dot.
    pub fn arch(self, name: &str) -> Result<Arch<'_>> {
        let (name, tag) = name.split_once('.').map_or((name, None), |(name, tag)| (name, Some(tag)));
        let Some(known) = self.known().iter().find(|known| known.name == name) else {
            let names: Vec<&str> = self.known().iter().map(|known| known.name).collect();
            return Err(Error::UnknownNetwork(format!(
                "{self} has no {name:?} here; known are {}",
                names.join(", ")
            )));
        };
        let preset = match tag {
            None | Some("DEFAULT") => known.presets.first(),
            Some(tag) => known.presets.iter().find(|(name, _)| *name == tag),
        };
        let Some((_, preset)) = preset else {
            let tags: Vec<&str> = known.presets.iter().map(|(tag, _)| *tag).collect();
            let (tag, tags) = (tag.unwrap_or_default(), tags.join(", "));
            return Err(Error::UnknownNetwork(format!("{self}/{name} has no tag {tag:?}; known are {tags}")));
        };
        Ok(Arch { library: self, known, tag, preset })
    }
}

impl<'a> Arch<'a> {
    /// Takes `library/name` or `library/name.tag` apart.
    pub fn parse(arch: &'a str) -> Result<Self> {
        let (library, name) = arch.split_once('/').unwrap_or(("", arch));
        match Library::ALL.into_iter().find(|l| l.to_string() == library) {
            Some(library) => library.arch(name),
            None => Err(Error::UnknownNetwork(format!(
                "{arch:?} is no name like torchvision/mobilenet_v2, timm/mobilenetv3_large_100 or transformers/mobilenet_v1"
            ))),
        }
    }
}
