//! Files that are written whole or not at all.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

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
                // Tried and dropped: a run that is interrupted must leave nothing behind.
                beside(&path)?;
                // However it is spelt, so that it is known for the same.
                Ok(Self::File(match path.file_name() {
                    Some(name) => fs::canonicalize(folder(&path))?.join(name),
                    None => path,
                }))
            }
        }
    }

    /// Whether both are one file, of which only the later would be left.
    pub fn is(&self, other: &Self) -> bool {
        matches!((self, other), (Self::File(a), Self::File(b)) if a == b)
    }

    pub fn write(self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stream(mut stream) => stream.write_all(bytes)?,
            Self::File(path) => {
                let mut file = beside(&path)?;
                file.write_all(bytes)?;
                if let Ok(old) = fs::metadata(&path) {
                    file.as_file().set_permissions(old.permissions())?;
                }
                file.persist(&path).map_err(|e| e.error)?;
            }
        }
        Ok(())
    }
}

/// A temporary file in the folder of `path`, with the permissions that a new file gets.
fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".goldcrest-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // The kind alone: the temporary name would only confuse.
    builder.tempfile_in(folder(path)).map_err(|e| e.kind().into())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
