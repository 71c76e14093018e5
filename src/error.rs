//! One error type for the library. Each variant names the file, tensor or layer at fault.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use crate::{tensor::Element, text::Visible};

/// What went wrong, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said; not called source, so that a chain of causes says it once.
        cause: std::io::Error,
    },
    /// A file was read, but what it holds is not what it should be.
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor of a checkpoint is missing, misshapen, of the wrong type, or not finite.
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's name in it.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No network of the family was recognised, or the name given is unknown.
    UnknownNetwork(String),
    /// A model cannot be had from the Hugging Face hub.
    Hub {
        /// Its name there.
        model: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer cannot be built or run as asked.
    Layer {
        /// The layer's name in its checkpoint.
        layer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value inside the network is beyond what is computed or stored, and what comes of it means nothing.
    Overflow {
        /// The first layer with such a value.
        layer: String,
        /// What maps are stored as.
        element: Element,
    },
    /// An input does not fit the network.
    Input(String),
    /// What a network put out cannot be read as an answer.
    Output(String),
    /// The network, or its input, needs more than the device has.
    Limit {
        /// The layer or buffer.
        what: String,
        /// The bytes that it needs.
        needed: u64,
        /// The bytes that there are.
        limit: u64,
    },
    /// The device has no memory left.
    Memory(String),
    /// A program's own device was opened with less than a kernel takes.
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
    Adapter(String),
    /// f16 was asked of a device that does not compute with it.
    NoF16 {
        /// What it runs on.
        adapter: String,
    },
    /// A kernel's text cannot be parsed, or not be translated.
    Translation {
        /// The kernel.
        kernel: &'static str,
        /// What it should have become.
        language: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A figure of a report could not be drawn.
    Figure {
        /// Its title.
        figure: String,
        /// What went wrong.
        reason: String,
    },
    /// The device is gone: another one has to be opened, and the session built again on it.
    Lost(String),
    /// The device refused or lost the work.
    Device(String),
}

impl fmt::Display for Error {
    /// One line that a terminal shows as it is, whatever the names in it hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Visible(f);
        match self {
            Self::Io { path, cause } => write!(out, "{}: {cause}", path.display()),
            Self::File { path, reason } => write!(out, "{}: {reason}", path.display()),
            Self::Checkpoint { path, key, reason } => {
                write!(out, "{}: tensor {key}: {reason}", path.display())
            }
            Self::UnknownNetwork(what) => write!(out, "unknown network: {what}"),
            Self::Hub { model, reason } => write!(out, "{model}: {reason}"),
            Self::Layer { layer, reason } => write!(out, "layer {layer}: {reason}"),
            Self::Overflow { layer, element } => {
                write!(out, "layer {layer} overflows: {}", element.overflows())
            }
            Self::Input(reason) => write!(out, "input: {reason}"),
            Self::Output(reason) => write!(out, "output: {reason}"),
            Self::Limit { what, needed, limit } => {
                write!(out, "{what} needs {needed} bytes but the device's limit is {limit}")
            }
            Self::Memory(what) => write!(
                out,
                "the device has no memory left for {what}: smaller pictures and batches take less, and so does f16"
            ),
            Self::HostLimit { kernel, name, needed, limit } => write!(
                out,
                "kernel {kernel} needs a {name} of {needed} and the device was opened with {limit}: \
                 ask for Gpu::wanted_limits, as far as the adapter has them"
            ),
            Self::Adapter(reason) => write!(out, "{reason}"),
            Self::NoF16 { adapter } => write!(out, "{adapter} has no f16: use f32"),
            Self::Translation { kernel, language, reason } => {
                write!(out, "kernel {kernel} in {language}: {reason}")
            }
            Self::Figure { figure, reason } => write!(out, "figure {figure:?}: {reason}"),
            Self::Lost(how) => {
                write!(out, "the device was lost ({how}): open another, and build the session again on it")
            }
            Self::Device(reason) => write!(out, "device: {reason}"),
        }
    }
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
