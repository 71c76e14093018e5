//! What drivers print by themselves, on stderr and in our name: Mesa's libraries complain so of a missing
//! XDG_RUNTIME_DIR. It is logged instead, and shown with `RUST_LOG=debug`.

/// Opens something of a driver's.
#[cfg(not(unix))]
pub fn quietly<T>(open: impl FnOnce() -> T) -> T {
    open()
}

/// Where our own log goes meanwhile.
#[cfg(not(unix))]
pub fn log_target() -> env_logger::Target {
    env_logger::Target::Stderr
}

#[cfg(unix)]
pub use unix::{log_target, quietly};

#[cfg(unix)]
mod unix {
    use std::{
        fs::File,
        io::{self, Read, pipe},
        os::fd::{AsFd, OwnedFd},
        thread::{self, JoinHandle},
    };

    use rustix::stdio::dup2_stderr;

    /// Opens something of a driver's.
    pub fn quietly<T>(open: impl FnOnce() -> T) -> T {
        // Where there is no stderr there is nothing to keep quiet.
        let _caught = Caught::begin().ok();
        open()
    }

    /// Where our own log goes meanwhile: to stderr under another number.
    pub fn log_target() -> env_logger::Target {
        match io::stderr().as_fd().try_clone_to_owned() {
            Ok(stderr) => env_logger::Target::Pipe(Box::new(File::from(stderr))),
            Err(_) => env_logger::Target::Stderr,
        }
    }

    /// What is written to stderr, until dropped.
    struct Caught {
        stderr: OwnedFd,
        /// Reads all along: a pipe holds little.
        reader: Option<JoinHandle<Vec<u8>>>,
    }

    impl Caught {
        fn begin() -> io::Result<Self> {
            let stderr = io::stderr().as_fd().try_clone_to_owned()?;
            let (mut caught, written) = pipe()?;
            dup2_stderr(written)?;
            let read = move || {
                let mut bytes = Vec::new();
                // As much as there was.
                let _ = caught.read_to_end(&mut bytes);
                bytes
            };
            Ok(Self { stderr, reader: Some(thread::spawn(read)) })
        }
    }

    impl Drop for Caught {
        fn drop(&mut self) {
            // This closes the pipe, and the reader ends.
            if dup2_stderr(&self.stderr).is_err() {
                return;
            }
            let bytes = self.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
            let level = if thread::panicking() { log::Level::Error } else { log::Level::Debug };
            for line in String::from_utf8_lossy(&bytes).lines() {
                log::log!(target: "driver", level, "{line}");
            }
        }
    }
}
