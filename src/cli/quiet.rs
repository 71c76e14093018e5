//! Captures what drivers print to this program's stderr, such as Mesa's warning about a missing
//! XDG_RUNTIME_DIR, and logs it at debug level: `RUST_LOG=debug` shows it.

/// Runs `open`, which calls a driver. Capturing stderr is supported on Unix only.
#[cfg(not(unix))]
pub fn quietly<T>(open: impl FnOnce() -> T) -> T {
    open()
}

/// The destination of this program's own log.
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

    /// Runs `open`, which calls a driver, and captures stderr meanwhile.
    pub fn quietly<T>(open: impl FnOnce() -> T) -> T {
        // Without stderr there is nothing to capture.
        let _caught = Caught::begin().ok();
        open()
    }

    /// The destination of this program's own log: a duplicate of stderr, which is not captured.
    pub fn log_target() -> env_logger::Target {
        match io::stderr().as_fd().try_clone_to_owned() {
            Ok(stderr) => env_logger::Target::Pipe(Box::new(File::from(stderr))),
            Err(_) => env_logger::Target::Stderr,
        }
    }

    /// Captures stderr until dropped, then logs what was written.
    struct Caught {
        stderr: OwnedFd,
        /// Reads continuously, as the pipe's buffer is small.
        reader: Option<JoinHandle<Vec<u8>>>,
    }

    impl Caught {
        fn begin() -> io::Result<Self> {
            let stderr = io::stderr().as_fd().try_clone_to_owned()?;
            let (mut caught, written) = pipe()?;
            dup2_stderr(written)?;
            let read = move || {
                let mut bytes = Vec::new();
                // After an error, keep the bytes read so far.
                let _ = caught.read_to_end(&mut bytes);
                bytes
            };
            Ok(Self { stderr, reader: Some(thread::spawn(read)) })
        }
    }

    impl Drop for Caught {
        fn drop(&mut self) {
            // Restoring stderr closes the pipe, which ends the reader.
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
