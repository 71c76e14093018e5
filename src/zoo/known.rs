//! The networks that libraries know by name, and what their published weights want of pictures.

use std::fmt;

use super::{preprocessing::Preprocessing, table::Table};

/// A network that a library knows by name. Some names stand for several structures, which keys tell apart.
#[derive(Debug)]
pub(super) struct Known {
    pub library: &'static str,
    pub name: &'static str,
    pub table: &'static Table,
    /// Channels that leave the last block, where the name fixes the width.
    pub width: Option<usize>,
    /// What each published checkpoint wants of a picture; the default first.
    pub presets: &'static [Preset],
}

/// What a published checkpoint wants of a picture.
#[derive(Debug)]
pub(super) struct Preset {
    pub tag: &'static str,
    /// What the names of its files end in, the beginning of their SHA-256.
    pub hashes: &'static [&'static str],
    pub how: Preprocessing,
}

impl Preset {
    pub const fn new(tag: &'static str, how: Preprocessing) -> Self {
        Self { tag, hashes: &[], how }
    }

    /// Published as files with these hashes in their names.
    pub const fn hashed(self, hashes: &'static [&'static str]) -> Self {
        Self { hashes, ..self }
    }
}

/// A network's name, taken apart: `timm/mobilenetv3_large_100.ra_in1k`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arch {
    pub known: &'static Known,
    /// The preset that was asked for; none: the default.
    pub preset: Option<&'static Preset>,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.known.library, self.known.name)
    }
}

impl Arch {
    /// Whether both are one name.
    pub fn is(&self, other: &Self) -> bool {
        (self.known.library, self.known.name) == (other.known.library, other.known.name)
    }
}
