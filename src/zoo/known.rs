//! The libraries' named networks, and the preprocessing of their published weights.

use std::fmt;

use super::{
    preprocessing::Preprocessing,
    table::{Head, Row, Table, scaled},
};

/// A library's named network. Some names have several structures, which the keys tell apart.
#[derive(Debug)]
pub(super) struct Known {
    pub library: &'static str,
    pub name: &'static str,
    /// Distinguishes structures of the same name; empty for the first.
    pub variant: &'static str,
    pub table: &'static Table,
    /// The width multiplier, if the name fixes it.
    pub width: Option<f64>,
    /// True if the width multiplier does not apply to the stem. It then applies to the head only with
    /// [`Head::narrows`].
    pub fixed_ends: bool,
    /// The stages' expansion ratios, if a depth multiplier adds blocks to the table's.
    pub deeper: Option<&'static [&'static [f64]]>,
    /// Convolutions in the head, if the table has a head; a depth multiplier may add some.
    pub heads: usize,
    /// The preprocessing of each published checkpoint, the default first.
    pub presets: &'static [Preset],
}

impl Known {
    /// A network of any width.
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

    /// An additional structure of the same name.
    pub const fn variant(self, variant: &'static str) -> Self {
        Self { variant, ..self }
    }

    /// Sets [`Known::fixed_ends`].
    pub const fn fixed_ends(self) -> Self {
        Self { fixed_ends: true, ..self }
    }

    /// Applies a depth multiplier: the stages' expansion ratios, and the convolutions in the head.
    pub const fn deeper(self, expansions: &'static [&'static [f64]], heads: usize) -> Self {
        Self { deeper: Some(expansions), heads, ..self }
    }

    /// Output channels of the last block, if the name fixes the width.
    pub fn last_channels(&self) -> Option<usize> {
        Some(scaled(self.table.stages.last()?.outputs, self.width?))
    }

    /// Output channels of the stem.
    pub fn stem_channels(&self) -> usize {
        let published = self.table.stem_channels;
        if self.fixed_ends { published } else { scaled(published, self.width.unwrap_or(1.0)) }
    }

    /// Output channels of the table's head.
    pub fn head_channels(&self, head: &Head) -> usize {
        let scaled = scaled(head.channels, self.width.unwrap_or(1.0));
        match (head.narrows, self.fixed_ends) {
            (true, _) => scaled,
            (false, true) => head.channels,
            (false, false) => scaled.max(head.channels),
        }
    }

    /// The expansion ratios of the blocks, stage by stage.
    fn expansions(&self) -> Vec<&'static [f64]> {
        let table = || self.table.stages.iter().map(|stage| stage.expansions).collect();
        self.deeper.map_or_else(table, <[_]>::to_vec)
    }

    /// Blocks in each stage.
    pub fn repeats(&self) -> Vec<usize> {
        self.expansions().into_iter().map(<[_]>::len).collect()
    }

    /// The blocks in order, before the width multiplier.
    pub fn rows(&self) -> Vec<Row> {
        self.table.rows_of(&self.expansions())
    }
}

/// The preprocessing of a published checkpoint.
#[derive(Debug)]
pub(super) struct Preset {
    /// The checkpoint's tag within its network.
    pub tag: &'static str,
    /// The hashes at the end of its file names: the start of the files' SHA-256.
    pub hashes: &'static [&'static str],
    pub preprocessing: Preprocessing,
}

impl Preset {
    pub const fn new(tag: &'static str, preprocessing: Preprocessing) -> Self {
        Self { tag, hashes: &[], preprocessing }
    }

    /// Sets the hashes in the published files' names.
    pub const fn hashed(self, hashes: &'static [&'static str]) -> Self {
        Self { hashes, ..self }
    }
}

/// A parsed network name, such as `timm/mobilenetv3_large_100.ra_in1k`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arch {
    pub known: &'static Known,
    /// The requested preset; none for the default.
    pub preset: Option<&'static Preset>,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.known.library, self.known.name)
    }
}

impl Arch {
    /// True if library and name are equal; variant and preset do not count.
    pub fn is(&self, other: &Self) -> bool {
        (self.known.library, self.known.name) == (other.known.library, other.known.name)
    }
}
