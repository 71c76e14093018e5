//! Random access to a file's bytes.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::{Error, Result, files};

/// The size limit of a file that is read whole, such as a PyTorch file.
const MOST: u64 = 4 << 30;

/// A file's bytes. They are read, not memory-mapped: access to a mapping of a truncated file kills the
/// program with a signal.
#[derive(Debug)]
pub(super) enum Bytes {
    /// An open file and its length.
    File(Mutex<File>, u64),
    Memory(Vec<u8>),
}

impl Bytes {
    /// Opens a file. A pipe is read to its end.
    pub fn open(path: &Path) -> Result<Self> {
        let file = files::open(path)?;
        let found = file.metadata().map_err(Error::io(path))?;
        Ok(match found.is_file() {
            true => Self::File(Mutex::new(file), found.len()),
            false => Self::Memory(files::all(file, path, MOST)?),
        })
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::File(_, len) => *len,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Reads `len` bytes from offset `from`, or fewer at the end of the file.
    pub fn read(&self, from: u64, len: u64) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::File(file, _) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(from))?;
                let mut bytes = Vec::new();
                // Never allocates more than the file has, since `len` may come from a hostile header.
                let wanted = len.min(self.len().saturating_sub(from));
                bytes.try_reserve_exact(usize::try_from(wanted).unwrap_or(usize::MAX))?;
                (&mut *file).take(wanted).read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
            Self::Memory(bytes) => {
                let at = |at: u64| usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
                Ok(bytes[at(from)..at(from.saturating_add(len))].into())
            }
        }
    }

    /// Reads all bytes.
    #[cfg(feature = "torch")]
    pub fn whole(self, path: &Path) -> Result<Vec<u8>> {
        match self {
            Self::File(file, _) => {
                let mut file = file.into_inner().unwrap_or_else(PoisonError::into_inner);
                file.rewind().map_err(Error::io(path))?;
                files::all(file, path, MOST)
            }
            Self::Memory(bytes) => Ok(bytes),
        }
    }

    /// Calls `read` with the bytes as a stream.
    #[cfg(feature = "torch")]
    pub fn streamed<T>(&self, read: impl FnOnce(&mut dyn Stream) -> T) -> T {
        match self {
            Self::File(file, _) => {
                read(&mut io::BufReader::new(&*file.lock().unwrap_or_else(PoisonError::into_inner)))
            }
            Self::Memory(bytes) => read(&mut io::Cursor::new(bytes)),
        }
    }
}

/// A seekable stream of bytes.
#[cfg(feature = "torch")]
pub(super) trait Stream: Read + Seek {}

#[cfg(feature = "torch")]
impl<T: Read + Seek> Stream for T {}
