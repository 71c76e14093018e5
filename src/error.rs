//! The library's error type. Variants name the file, tensor or layer at fault, if there is one.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use crate::{tensor::Element, text::Visible};

/// An error of the library, and the file, tensor or layer where it occurred, if there is one.
///
/// It is displayed as one line that is safe for terminals. Most programs only display it. A program that renders
/// should also handle the loss of its device, and overflow:
///
/// ```no_run
/// use goldcrest::{Device, Error, Options, Result, Session, Tensor, zoo::Network};
///
/// fn run(session: &mut Session, network: &Network, input: &Tensor) -> Result<Option<Tensor>> {
///     match session.run(input) {
///         Ok(output) => Ok(Some(output)),
///         Err(Error::Lost(_)) => {
///             // The network outlives the device: build the session again on another.
///             *session = Session::new(Device::best()?, network, Options::default())?;
///             Ok(None)
///         }
///         // A value overflowed in this layer. The next picture may be fine; if not, use f32.
///         Err(Error::Overflow { layer, .. }) => {
///             eprintln!("dropped a frame: {layer} overflowed");
///             Ok(None)
///         }
///         Err(error) => Err(error),
///     }
/// }
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error. It is not named `source`, so that a chain of causes shows it only once.
        cause: std::io::Error,
    },
    /// A file or folder whose kind, size or contents are not valid.
    File {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A tensor of a checkpoint is missing, misshapen, of the wrong type, or not finite.
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's name in it.
        key: String,
        /// The reason.
        reason: String,
    },
    /// The network was not recognised, or the given name is unknown.
    UnknownNetwork(String),
    /// A model cannot be loaded from the Hugging Face hub.
    Hub {
        /// Its name on the hub.
        model: String,
        /// The reason.
        reason: String,
    },
    /// A layer cannot be built or run as requested.
    Layer {
        /// The layer's name in its checkpoint.
        layer: String,
        /// The reason.
        reason: String,
    },
    /// A value inside the network exceeds the range of the element type, so the results are meaningless.
    Overflow {
        /// The first layer with such a value.
        layer: String,
        /// The element type of feature maps.
        element: Element,
    },
    /// An argument is not valid, or the session does not support the call.
    Input(String),
    /// A network's output cannot be interpreted, or a picture cannot be encoded.
    Output(String),
    /// The network, or its input, needs more memory than the device allows.
    Limit {
        /// The layer or buffer.
        what: String,
        /// The bytes needed.
        needed: u64,
        /// The bytes available.
        limit: u64,
    },
    /// The device has no memory left.
    Memory(String),
    /// A device that the caller opened has a lower limit than a kernel needs.
    DeviceLimit {
        /// The kernel.
        kernel: &'static str,
        /// The limit, as wgpu names it.
        name: &'static str,
        /// The kernel's requirement.
        needed: u32,
        /// The device's limit.
        limit: u32,
    },
    /// No adapter was found, or none that fits the request.
    Adapter(String),
    /// f16 was requested on a device that does not support it.
    NoF16 {
        /// The adapter's name.
        adapter: String,
    },
    /// A kernel's source cannot be parsed or translated.
    Translation {
        /// The kernel.
        kernel: &'static str,
        /// The target language.
        language: &'static str,
        /// The reason.
        reason: String,
    },
    /// A figure of a report could not be drawn.
    Figure {
        /// Its title.
        figure: String,
        /// The reason.
        reason: String,
    },
    /// The device was lost: open a new one and rebuild the session on it.
    Lost(String),
    /// wgpu or the driver reported another error.
    Device(String),
}

/// The message, as for `Display`: it is what a `main` that returns this error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    /// Writes one line that is safe for terminals, whatever names contain.
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
            Self::Input(reason) => write!(out, "{reason}"),
            Self::Output(reason) => write!(out, "output: {reason}"),
            Self::Limit { what, needed, limit } => {
                write!(out, "{what} needs {needed} bytes but the device's limit is {limit}")
            }
            Self::Memory(what) => write!(
                out,
                "the device is out of memory for {what}: use smaller pictures, smaller batches or f16"
            ),
            Self::DeviceLimit { kernel, name, needed, limit } => write!(
                out,
                "kernel {kernel} needs a {name} of {needed} but the device was opened with {limit}: \
                 request Gpu::wanted_limits when opening it"
            ),
            Self::Adapter(reason) => write!(out, "{reason}"),
            Self::NoF16 { adapter } => write!(out, "{adapter} has no f16: use f32"),
            Self::Translation { kernel, language, reason } => {
                write!(out, "kernel {kernel} in {language}: {reason}")
            }
            Self::Figure { figure, reason } => write!(out, "figure {figure:?}: {reason}"),
            Self::Lost(how) => {
                write!(out, "the device was lost ({how}): open a new one and rebuild the session on it")
            }
            Self::Device(reason) => write!(out, "device: {reason}"),
        }
    }
}

/// The library's result type.
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
