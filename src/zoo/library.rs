//! What a library is to the zoo: a scheme of names, what is alike in all of its networks, and what the
//! files beside its weights say.

use super::{preprocessing::Preprocessing, rules::Rules, skeleton::Skeleton, table::Table, task::Scores};
use crate::{
    Result,
    checkpoint::{Anchor, Config, Tensors},
};

/// A library, and with it a scheme of names. Each is a constant in a file of its own.
#[derive(Debug)]
pub(super) struct Library {
    pub name: &'static str,
    /// The tensors that its networks begin with. The longest name first: what stands before it is taken for
    /// a wrapper.
    pub anchors: &'static [Anchor],
    /// Whether tensors are named as in one of its networks.
    pub recognises: fn(&Tensors) -> bool,
    /// The modules that the keys show, or why they are no network of the family.
    pub skeleton: fn(&Tensors) -> Result<Skeleton, String>,
    /// What is alike in all of a network that it knows by this name, or by none, given the `config.json`
    /// that speaks of it.
    pub rules: fn(&str, &Table, &Tensors, Option<&Config>) -> Result<Rules>,
    /// What the files beside the weights say of pictures, if they do: `config.json` and
    /// `preprocessor_config.json`.
    pub preprocessing: fn(Option<&Config>, Option<&Config>) -> Result<Option<Preprocessing>>,
    /// The classes' names in `config.json`, if it has some.
    pub labels: fn(&Config) -> Result<Option<Vec<String>>>,
    /// What `config.json` says of the scores, if it does.
    pub scores: fn(&Config) -> Result<Option<Scores>>,
}

impl PartialEq for Library {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
