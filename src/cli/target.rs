//! Files that are written whole or not at all, and none that is read.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use goldcrest::files::{self, FileSet, Unfinished, folder_of};

/// A file that appears whole or not at all.
pub enum Target {
    /// Written beside this place and then moved there.
    File(PathBuf),
    /// A pipe or a device, which must not be replaced.
    Stream(fs::File),
}

impl Target {
    /// Fails now if the file could not be written later.
    pub fn new(path: &Path) -> Result<Self> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => bail!("is a folder"),
            Ok(found) if !found.is_file() => Ok(Self::Stream(fs::File::options().write(true).open(path)?)),
            Ok(found) if found.permissions().readonly() => bail!("is read-only"),
            found => {
                // What a link points to is written, not the link.
                let path = if found.is_ok() { fs::canonicalize(path)? } else { path.to_owned() };
                if !folder_of(&path).is_dir() {
                    bail!("its folder was not found: make that first");
                }
                // Tried and dropped: a run that is interrupted must leave nothing behind.
                Unfinished::file_in(folder_of(&path)).map_err(|e| io::Error::from(e.kind()))?;
                // However it is spelt, so that it is known for the same.
                Ok(Self::File(match path.file_name() {
                    Some(name) => fs::canonicalize(folder_of(&path))?.join(name),
                    None => path,
                }))
            }
        }
    }

    /// [`Target::new`] that also refuses what the command reads, under any name: pictures, lists, labels, truth, inputs,
    /// and [`Network::files`](goldcrest::zoo::Network). Every command that reads and writes files calls this one.
    pub fn sparing(path: &Path, read: &FileSet) -> Result<Self> {
        if let Some(read) = read.find(path) {
            bail!("is read too ({}): name another file to write", read.display());
        }
        Self::new(path)
    }

    /// Whether both are one file, of which only the later would be left.
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
