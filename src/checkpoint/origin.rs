//! Where the values that make a network came from.

use std::fmt;

/// A value that decides how a network computes or how it wants its pictures, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// What `--set` and `config.json` call it.
    pub name: &'static str,
    /// As `--set` would say it.
    pub value: String,
    /// Who said so.
    pub from: Source,
}

/// Who said a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The tensors' names and shapes.
    Keys,
    /// A field of a file beside the weights.
    Config(String),
    /// The file of weights: its name, or what training wrote into it.
    File(&'static str),
    /// The name that was said, with `--arch`.
    Arch,
    /// The value itself was said, with `--set`.
    Set,
    /// Nobody: it is what the library does by default.
    Default(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys => f.write_str("keys and shapes"),
            Self::Config(field) => f.write_str(field),
            Self::File(what) => write!(f, "the file's {what}"),
            Self::Arch => f.write_str("--arch"),
            Self::Set => f.write_str("--set"),
            Self::Default(library) => write!(f, "default of {library}"),
        }
    }
}

impl serde::Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A value and who said it.
#[derive(Debug, Clone)]
pub(crate) struct Sourced<T> {
    pub value: T,
    pub from: Source,
}

impl<T> Sourced<T> {
    pub fn new(value: T, from: Source) -> Self {
        Self { value, from }
    }

    /// Another value, if it was said.
    pub fn or(self, said: Option<Sourced<T>>) -> Self {
        said.unwrap_or(self)
    }
}

/// The table of all values, in the order in which they were settled.
#[derive(Debug, Default)]
pub(crate) struct Origins(pub Vec<Origin>);

impl Origins {
    /// Notes where a value came from, and gives it.
    pub fn settle<T>(&mut self, name: &'static str, known: Sourced<T>, text: impl FnOnce(&T) -> String) -> T {
        self.0.push(Origin { name, value: text(&known.value), from: known.from });
        known.value
    }
}
