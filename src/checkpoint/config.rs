//! The JSON files next to a checkpoint.

use std::{io, path::PathBuf};

use serde_json::{Map, Value};

use super::Source;
use crate::{Error, Result, files};

/// The size limit of such a file. The names and indices of 21,841 classes take two million bytes.
const MOST: u64 = 32 << 20;

/// A JSON object in a file. A null field counts as absent.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl Config {
    /// Reads the object in a file; `None` if the file does not exist.
    pub fn open(path: impl Into<PathBuf>) -> Result<Option<Self>> {
        let path = path.into();
        match files::read(&path, MOST) {
            Ok(bytes) => match std::str::from_utf8(&bytes) {
                Ok(text) => Self::parse(path, text).map(Some),
                Err(_) => Err(Error::file(path, "is not UTF-8 text")),
            },
            Err(Error::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Parses the object in a text.
    pub fn parse(path: impl Into<PathBuf>, text: &str) -> Result<Self> {
        let path = path.into();
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Self { path, fields }),
            Ok(_) => Err(Error::file(path, "expected a JSON object")),
            Err(error) => Err(Error::file(path, error)),
        }
    }

    /// An [`Error::File`] about a field.
    pub fn error(&self, field: &str, reason: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format!("{field}: {reason}"))
    }

    /// A field of this file as a source.
    pub fn source(&self, field: &str) -> Source {
        let file = self.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        Source::Config(format!("{file}: {field}"))
    }

    /// The value of a field, unless it is absent.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn typed<'a, T>(
        &'a self,
        field: &str,
        wanted: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| self.error(field, format!("expected {wanted}, found {value}")))
    }

    /// A string.
    pub fn text(&self, field: &str) -> Result<Option<&str>> {
        self.typed(field, "a string", Value::as_str)
    }

    /// True or false.
    pub fn flag(&self, field: &str) -> Result<Option<bool>> {
        self.typed(field, "true or false", Value::as_bool)
    }

    /// A finite number.
    pub fn number(&self, field: &str) -> Result<Option<f64>> {
        self.typed(field, "a number", Value::as_f64)
    }

    /// A positive integer.
    pub fn count(&self, field: &str) -> Result<Option<usize>> {
        self.typed(field, "an integer above 0", |v| {
            v.as_u64().and_then(|n| n.try_into().ok()).filter(|n| *n > 0)
        })
    }

    /// `N` positive integers.
    pub fn counts<const N: usize>(&self, field: &str) -> Result<Option<[usize; N]>> {
        self.typed(field, &format!("{N} integers above 0"), |v| {
            let items = v.as_array()?.iter().map(|v| v.as_u64().filter(|n| *n > 0).map(|n| n as usize));
            items.collect::<Option<Vec<_>>>()?.try_into().ok()
        })
    }

    /// A list of numbers, or a single number.
    pub fn numbers(&self, field: &str) -> Result<Option<Vec<f32>>> {
        self.typed(field, "numbers", |v| {
            let one = std::slice::from_ref(v);
            let items = v.as_array().map_or(one, Vec::as_slice).iter();
            items
                .map(|v| v.as_f64().map(|v| v as f32))
                .collect::<Option<Vec<f32>>>()
                .filter(|v| !v.is_empty())
        })
    }

    /// An object.
    pub fn section(&self, field: &str) -> Result<Option<Self>> {
        let fields = self.typed(field, "an object", Value::as_object)?;
        Ok(fields.map(|fields| Self { path: self.path.clone(), fields: fields.clone() }))
    }

    /// Every field's name and value.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }
}
