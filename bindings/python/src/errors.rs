//! Errors of the library as Python's exceptions.

use goldcrest::Error as Cause;
use pyo3::{
    PyErr, create_exception,
    exceptions::{PyOSError, PyRuntimeError, PyValueError},
};

create_exception!(goldcrest, Error, PyRuntimeError, "An error with a checkpoint, a picture or a device.");
create_exception!(goldcrest, DeviceLost, Error, "The device was lost: load the network again.");

/// Converts an error. A file that cannot be opened, read or written raises `OSError` or a subclass of it, an
/// unsuitable input `ValueError`, and everything else `Error` or `DeviceLost`. `subject` names the picture,
/// unless the message names its file.
pub fn raised(error: Cause, subject: Option<&str>) -> PyErr {
    let named = |error: &Cause| match subject {
        Some(subject) => format!("{subject}: {error}"),
        None => error.to_string(),
    };
    match &error {
        Cause::Io { path, cause } => match cause.raw_os_error() {
            Some(code) => {
                let words = cause.to_string();
                let words = words.split(" (os error").next().unwrap_or_default().to_owned();
                // Python selects the subclass by the first code, an errno. On Windows the code is none: there
                // Python derives the errno from the last one, which it ignores on other systems.
                PyOSError::new_err((code, words, path.clone().into_os_string(), code))
            }
            None => PyOSError::new_err(error.to_string()),
        },
        Cause::File { .. } | Cause::Checkpoint { .. } | Cause::Hub { .. } => {
            Error::new_err(error.to_string())
        }
        Cause::Input(_) => PyValueError::new_err(named(&error)),
        Cause::Lost(_) => DeviceLost::new_err(named(&error)),
        _ => Error::new_err(named(&error)),
    }
}
