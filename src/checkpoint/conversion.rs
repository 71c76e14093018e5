//! Checkpoints as safetensors files.

use std::{borrow::Cow, collections::HashMap};

use safetensors::{Dtype, View};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, Entry};
use crate::{Error, Result};

/// The metadata entry of a file that was converted from PyTorch's format. Its value is JSON.
const KEY: &str = "goldcrest.torch";

/// What a PyTorch file had besides its tensors.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FromTorch {
    pub arch: Option<String>,
    pub warnings: Vec<String>,
}

impl FromTorch {
    /// Parses a file's metadata, if it was converted.
    ///
    /// # Errors
    /// A message if the entry is invalid.
    pub fn of(metadata: &HashMap<String, String>) -> Result<Option<Self>, String> {
        let text = metadata.get(KEY).map(|text| serde_json::from_str(text)).transpose();
        text.map_err(|error| format!("its metadata {KEY} is invalid: {error}"))
    }
}

/// A tensor to write.
struct Written<'a> {
    entry: &'a Entry,
    bytes: Cow<'a, [u8]>,
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl Checkpoint {
    /// Converts the checkpoint to one safetensors file with the same tensors. Goldcrest reads the same network
    /// from it, also in builds without the feature `torch`; configuration files remain separate.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let checkpoint = goldcrest::checkpoint::Checkpoint::open("mobilenet_v2-b0353104.pth")?;
    /// std::fs::write("mobilenet_v2-b0353104.safetensors", checkpoint.to_safetensors()?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::File`] or [`Error::Checkpoint`] if a tensor cannot be read.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let mut metadata = self.record.as_ref().map(|record| record.metadata()).unwrap_or_default();
        if self.tensors.values().any(|entry| entry.torch) {
            let torch = FromTorch { arch: self.arch.clone(), warnings: self.warnings.clone() };
            // Never fails: strings are valid JSON.
            metadata.insert(KEY.into(), serde_json::to_string(&torch).unwrap_or_default());
        }
        let mut tensors = Vec::new();
        for (key, entry) in &self.tensors {
            tensors.push((key, Written { entry, bytes: self.bytes(key, entry)? }));
        }
        let metadata = Some(metadata).filter(|metadata| !metadata.is_empty());
        safetensors::serialize(tensors, metadata).map_err(|error| Error::file(&self.path, error))
    }
}
