//! The networks that libraries know by name, and what their published weights want of pictures.

use std::fmt;

use super::{
    preprocessing::Preprocessing,
    table::{Head, Row, Table, scaled},
};

/// A network that a library knows by name. Some names stand for several structures, which keys tell apart.
#[derive(Debug)]
pub(super) struct Known {
    pub library: &'static str,
    pub name: &'static str,
    /// Tells structures of one name apart; empty for the first.
    pub variant: &'static str,
    pub table: &'static Table,
    /// The width multiplier, where the name fixes it.
    pub width: Option<f64>,
    /// Whether the width multiplier leaves out the stem and, unless [`Head::narrows`], the head.
    pub fixed_ends: bool,
    /// The stages' expansion ratios, where a depth multiplier adds blocks to the table's.
    pub deeper: Option<&'static [&'static [f64]]>,
    /// Convolutions of the head, if the table has one: a depth multiplier may add some.
    pub heads: usize,
    /// What each published checkpoint wants of a picture; the default first.
    pub presets: &'static [Preset],
}

impl Known {
    /// A name that stands for the table in any width.
    pub const fn new(
        library: &'static str,
        name: &'static str,
        table: &'static Table,
        presets: &'static [Preset],
    ) -> Self {
        Self {
            library,
            name,
            variant: "",
            table,
            width: None,
            fixed_ends: false,
            deeper: None,
            heads: 1,
            presets,
        }
    }

    /// Another structure of the name than its first.
    pub const fn variant(self, variant: &'static str) -> Self {
        Self { variant, ..self }
    }

    /// With [`Known::fixed_ends`].
    pub const fn fixed_ends(self) -> Self {
        Self { fixed_ends: true, ..self }
    }

    /// With a depth multiplier: the stages' expansion ratios, and the convolutions of the head.
    pub const fn deeper(self, expansions: &'static [&'static [f64]], heads: usize) -> Self {
        Self { deeper: Some(expansions), heads, ..self }
    }

    /// Output channels of the last block, where the name fixes the width.
    pub fn last_channels(&self) -> Option<usize> {
        Some(scaled(self.table.stages.last()?.outputs, self.width?))
    }

    /// Output channels of the stem.
    pub fn stem_channels(&self) -> usize {
        let published = self.table.stem_channels;
        if self.fixed_ends { published } else { scaled(published, self.width.unwrap_or(1.0)) }
    }

    /// Output channels of its table's head.
    pub fn head_channels(&self, head: &Head) -> usize {
        let scaled = scaled(head.channels, self.width.unwrap_or(1.0));
        match (head.narrows, self.fixed_ends) {
            (true, _) => scaled,
            (false, true) => head.channels,
            (false, false) => scaled.max(head.channels),
        }
    }

    /// The expansion ratios of its blocks, stage by stage.
    fn expansions(&self) -> Vec<&'static [f64]> {
        let table = || self.table.stages.iter().map(|stage| stage.expansions).collect();
        self.deeper.map_or_else(table, <[_]>::to_vec)
    }

    /// Blocks in each stage.
    pub fn repeats(&self) -> Vec<usize> {
        self.expansions().into_iter().map(<[_]>::len).collect()
    }

    /// Its blocks in order, before the width multiplier.
    pub fn rows(&self) -> Vec<Row> {
        self.table.rows_of(&self.expansions())
    }
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
