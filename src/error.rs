//! One error type for the library. Each variant names the file, tensor or layer at fault.

use std::path::PathBuf;

use crate::tensor::Element;

/// What went wrong, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said; not called source, so that a chain of causes says it once.
        cause: std::io::Error,
    },
    /// A file was read, but what it holds is not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor of a checkpoint is missing, misshapen, of the wrong type, or not finite.
    #[error("{}: tensor {key}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's name in it.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No network of the family was recognised, or the name given is unknown.
    #[error("unknown network: {0}")]
    UnknownNetwork(String),
    /// A model cannot be had from the Hugging Face hub.
    #[error("{model}: {reason}")]
    Hub {
        /// Its name there.
        model: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer cannot be built or run as asked.
    #[error("layer {layer}: {reason}")]
    Layer {
        /// The layer's name in its checkpoint.
        layer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value inside the network is beyond what is computed or stored, and what comes of it means nothing.
    #[error("layer {layer} overflows: {}", element.overflows())]
    Overflow {
        /// The first layer with such a value.
        layer: String,
        /// What maps are stored as.
        element: Element,
    },
    /// An input does not fit the network.
    #[error("input: {0}")]
    Input(String),
    /// What a network put out cannot be read as an answer.
    #[error("output: {0}")]
    Output(String),
    /// The network, or its input, needs more than the device has.
    #[error("{what} needs {needed} bytes but the device's limit is {limit}")]
    Limit {
        /// The layer or buffer.
        what: String,
        /// The bytes that it needs.
        needed: u64,
        /// The bytes that there are.
        limit: u64,
    },
    /// The device has no memory left.
    #[error("the device has no memory left for {0}: smaller pictures and batches take less, and so does f16")]
    Memory(String),
    /// A program's own device was opened with less than a kernel takes.
    #[error(
        "kernel {kernel} needs a {name} of {needed} and the device was opened with {limit}: \
         ask for Gpu::wanted_limits, as far as the adapter has them"
    )]
    HostLimit {
        /// The kernel.
        kernel: &'static str,
        /// The limit, as wgpu names it.
        name: &'static str,
        /// How much the kernel needs.
        needed: u32,
        /// How much there is.
        limit: u32,
    },
    /// No adapter, or none that fits the request.
    #[error("{0}")]
    Adapter(String),
    /// f16 was asked of a device that does not compute with it.
    #[error("{adapter} has no f16: use f32")]
    NoF16 {
        /// What it runs on.
        adapter: String,
    },
    /// A kernel's text cannot be parsed, or not be translated.
    #[error("kernel {kernel} in {language}: {reason}")]
    Translation {
        /// The kernel.
        kernel: &'static str,
        /// What it should have become.
        language: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A figure of a report could not be drawn.
    #[error("figure {figure:?}: {reason}")]
    Figure {
        /// Its title.
        figure: String,
        /// What went wrong.
        reason: String,
    },
    /// The device is gone: another one has to be opened, and the session built again on it.
    #[error("the device was lost ({0}): open another, and build the session again on it")]
    Lost(String),
    /// The device refused or lost the work.
    #[error("device: {0}")]
    Device(String),
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { path, cause }
    }

    /// An [`Error::File`] for `path`.
    pub fn file(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }

    /// An [`Error::Layer`].
    pub fn layer(layer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Layer { layer: layer.into(), reason: reason.into() }
    }
}
