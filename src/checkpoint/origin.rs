//! The source of each setting of a network.

use std::fmt;

/// A setting of a network or of its preprocessing, and the source of its value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// The name that `--set` and `config.json` use.
    pub name: &'static str,
    /// The value, in the syntax of `--set`.
    pub value: String,
    /// The source of the value.
    pub from: Source,
}

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The tensors' names and shapes.
    Keys,
    /// A field of a file next to the weights.
    Config(String),
    /// The weights file: its name, or a record in it.
    File(&'static str),
    /// The network name given with `--arch`.
    Arch,
    /// The value given with `--set`.
    Set,
    /// The default of the named library.
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

/// A value and its source.
#[derive(Debug, Clone)]
pub(crate) struct Sourced<T> {
    pub value: T,
    pub from: Source,
}

impl<T> Sourced<T> {
    pub fn new(value: T, from: Source) -> Self {
        Self { value, from }
    }

    /// Returns the other value if there is one, else this one.
    pub fn or(self, other: Option<Sourced<T>>) -> Self {
        other.unwrap_or(self)
    }
}

/// All settings, in the order in which they were determined.
#[derive(Debug, Default)]
pub(crate) struct Origins(pub Vec<Origin>);

impl Origins {
    /// Records the source of a value, and returns the value.
    pub fn settle<T>(&mut self, name: &'static str, known: Sourced<T>, text: impl FnOnce(&T) -> String) -> T {
        self.0.push(Origin { name, value: text(&known.value), from: known.from });
        known.value
    }
}
