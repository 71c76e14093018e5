//! Output files: written atomically, and never over a file that the command reads.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use goldcrest::files::{self, FileSet, Unfinished, folder_of};

/// An output file, written atomically, or a stream.
pub enum Target {
    /// Written to a temporary file in the same folder, then renamed to this path.
    File(PathBuf),
    /// A pipe or a device, which must not be replaced.
    Stream(fs::File),
}

impl Target {
    /// Fails early if the file could not be written later.
    pub fn new(path: &Path) -> Result<Self> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => bail!("is a folder"),
            Ok(found) if !found.is_file() => Ok(Self::Stream(fs::File::options().write(true).open(path)?)),
            Ok(found) if found.permissions().readonly() => bail!("is read-only"),
            found => {
                // Write the file that a link points to; keep the link.
                let path = if found.is_ok() { fs::canonicalize(path)? } else { path.to_owned() };
                if !folder_of(&path).is_dir() {
                    bail!("its folder was not found: create it first");
                }
                // Try with a temporary file and remove it: an interrupted run must leave no file.
                Unfinished::file_in(folder_of(&path)).map_err(|e| io::Error::from(e.kind()))?;
                // Canonical, so that different spellings of one path compare equal.
                Ok(Self::File(match path.file_name() {
                    Some(name) => fs::canonicalize(folder_of(&path))?.join(name),
                    None => path,
                }))
            }
        }
    }

    /// [`Target::new`] that also refuses a file that the command reads, under any name: pictures, lists,
    /// labels, ground truth, input tensors, and [`Network::files`](goldcrest::zoo::Network). Every command
    /// that reads and writes files calls this one.
    pub fn sparing(path: &Path, read: &FileSet) -> Result<Self> {
        if let Some(read) = read.find(path) {
            bail!("is also an input ({}): name another file to write", read.display());
        }
        Self::new(path)
    }

    /// Returns whether both are the same file: the second would replace the first.
    pub fn is(&self, other: &Self) -> bool {
        matches!((self, other), (Self::File(a), Self::File(b)) if a == b)
    }

    pub fn write(self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stream(mut stream) => stream.write_all(bytes)?,
            Self::File(path) => files::write_whole(&path, bytes)?,
        }
        Ok(())
    }
}
