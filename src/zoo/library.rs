//! A library's interface to the zoo: its naming scheme, its networks' common settings, and the files next to
//! its weights.

use super::{preprocessing::Preprocessing, rules::Rules, skeleton::Skeleton, table::Table, task::ScoreKind};
use crate::{
    Result,
    checkpoint::{Anchor, Config, Tensors},
};

/// A library and its naming scheme. Each library is a static in a separate file.
#[derive(Debug)]
pub(super) struct Library {
    pub name: &'static str,
    /// The first tensors of its networks. If one name ends with another, the longer one is first: otherwise
    /// the part that only the longer one has would count as the prefix of a wrapper.
    pub anchors: &'static [Anchor],
    /// Returns whether the tensors are named as in the library's networks.
    pub recognises: fn(&Tensors) -> bool,
    /// Returns the modules that the keys show, or why they are not a network of the library.
    pub skeleton: fn(&Tensors) -> Result<Skeleton, String>,
    /// Returns the rules of a network, given its name (empty if unknown) and its `config.json`.
    pub rules: fn(&str, &Table, &Tensors, Option<&Config>) -> Result<Rules>,
    /// Returns the preprocessing given by `config.json` and `preprocessor_config.json`, if any.
    pub preprocessing: fn(Option<&Config>, Option<&Config>) -> Result<Option<Preprocessing>>,
    /// Returns the class names in `config.json`, if any.
    pub labels: fn(&Config) -> Result<Option<Vec<String>>>,
    /// Returns the kind of scores given by `config.json`, if any.
    pub scores: fn(&Config) -> Result<Option<ScoreKind>>,
}

impl PartialEq for Library {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
