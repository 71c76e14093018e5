//! Takes the place of `torch` in builds without that feature: PyTorch files are recognised and rejected.

use std::{collections::BTreeMap, path::Path};

use safetensors::Dtype;

use super::{bytes::Bytes, format::Container};
use crate::{Error, Result};

/// A tensor of a PyTorch file; there is none.
#[derive(Debug)]
pub(super) enum Stored {}

impl Stored {
    pub fn dtype(&self) -> Dtype {
        match *self {}
    }

    pub fn shape(&self) -> &[usize] {
        match *self {}
    }

    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match *self {}
    }
}

pub(super) enum Content {
    #[allow(dead_code, reason = "there is no tensor to construct it from")]
    Stored(Stored),
    #[allow(dead_code, reason = "as above")]
    Scales(Vec<f32>),
}

pub(super) struct Opened {
    pub tensors: BTreeMap<String, Content>,
    pub arch: Option<String>,
    pub warning: Option<String>,
}

pub(super) fn open(_: Bytes, path: &Path, container: Container) -> Result<Opened> {
    let kind = match container {
        Container::Zip => "a zip archive, perhaps a PyTorch file",
        _ => "a PyTorch file",
    };
    Err(Error::file(
        path,
        format!(
            "is {kind}: this build has no support for it: enable the feature `torch`, or save as safetensors"
        ),
    ))
}
