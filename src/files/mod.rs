//! Files that users name. Opening cannot block or exhaust memory, and writing is atomic.

#[cfg(not(target_arch = "wasm32"))]
mod set;

use std::{
    fs::{self, File, FileType, TryLockError},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

#[cfg(not(target_arch = "wasm32"))]
pub use set::FileSet;

use crate::{Error, Result};

/// The prefix of temporary names, followed by sixteen digits. They are hidden, and in the folder of the final
/// file.
const PREFIX: &str = ".goldcrest-";

/// Opens a file for reading. A pipe is accepted if the shell made it (`<(...)`, or standard input): other
/// pipes may have no writer, and devices may have no end.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened, [`Error::File`] if it is a directory, a named pipe, a device or a
/// socket.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    // Checked before opening, which blocks on a pipe without a writer.
    let kind = fs::metadata(path).map_err(Error::io(path))?.file_type();
    if kind.is_file() || (is_pipe(kind) && is_inherited(path)) {
        return File::open(path).map_err(Error::io(path));
    }
    Err(Error::file(path, format!("is {}, expected a file", name(kind))))
}

/// Reads all of a file that [`open`] accepts, of at most `most` bytes.
///
/// # Errors
/// As [`open`]; [`Error::File`] if it has more.
pub fn read(path: impl AsRef<Path>, most: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    all(open(path)?, path, most)
}

/// Reads the rest of an opened file, of at most `most` bytes.
pub(crate) fn all(file: File, path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A file that is too long by its metadata is not read at all.
    let too_long = file.metadata().is_ok_and(|found| found.len() > most);
    if too_long || file.take(most + 1).read_to_end(&mut bytes).map_err(Error::io(path))? as u64 > most {
        return Err(Error::file(path, format!("has more than {most} bytes, the limit for such a file")));
    }
    Ok(bytes)
}

/// True if a path is one under which a shell passes opened files to this process.
fn is_inherited(path: &Path) -> bool {
    ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|known| path.starts_with(known))
}

#[cfg(unix)]
fn is_pipe(kind: FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&kind)
}

#[cfg(not(unix))]
fn is_pipe(_: FileType) -> bool {
    false
}

/// Names a kind of file that is not regular.
fn name(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        } else if kind.is_socket() {
            return "a socket";
        }
    }
    if kind.is_dir() { "a directory" } else { "a device" }
}

/// Converts a path that was read from a file. On Unix all bytes are kept; elsewhere those that are not UTF-8
/// are replaced.
#[cfg(unix)]
pub fn path_of(bytes: &[u8]) -> PathBuf {
    <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).into()
}

/// Converts a path that was read from a file. On Unix all bytes are kept; elsewhere those that are not UTF-8
/// are replaced.
#[cfg(not(unix))]
pub fn path_of(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// The folder that contains a file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file atomically: to a temporary file in the same folder, which then replaces the file. The
/// permissions of a replaced file are kept.
///
/// # Errors
/// Those of the file system.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = Unfinished::file_in(folder_of(path))?;
    unfinished.lock.write_all(bytes)?;
    if let Ok(former) = fs::metadata(path) {
        unfinished.lock.set_permissions(former.permissions())?;
    }
    // Synced before it replaces another file: after a power cut, one of them is complete.
    unfinished.lock.sync_all()?;
    fs::rename(unfinished.path(), path)
}

/// An unfinished file or folder, in the folder of the final one. It is locked while its writer lives, and
/// removed on drop. The next writer in that folder removes the leftovers of killed writers.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    lock: File,
}

impl Unfinished {
    /// The name of the lock file in an unfinished folder.
    pub const LOCK: &str = ".lock";

    /// Creates an empty file in `folder`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn file_in(folder: &Path) -> io::Result<Self> {
        Self::make(folder, |path| File::create_new(path))
    }

    /// Creates a folder in `folder`, empty except for its lock.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn folder_in(folder: &Path) -> io::Result<Self> {
        Self::make(folder, |path| {
            fs::create_dir(path)?;
            File::create_new(path.join(Self::LOCK))
        })
    }

    fn make(folder: &Path, make: impl Fn(&Path) -> io::Result<File>) -> io::Result<Self> {
        sweep(folder);
        // The sweep of another process may interfere, though rarely.
        let mut left = 100;
        loop {
            left -= 1;
            let path = folder.join(format!("{PREFIX}{:016x}", RandomState::new().hash_one(0)));
            let lock = match make(&path) {
                Ok(lock) => lock,
                // A sweep removed the folder before its lock was created.
                Err(e) if e.kind() == io::ErrorKind::NotFound && folder.is_dir() && left > 0 => continue,
                Err(e) => return Err(e),
            };
            // Or before the lock was taken. On a file system without locks, nothing is swept.
            let swept = matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) || !path.exists();
            if !swept {
                return Ok(Self { path, lock });
            } else if left == 0 {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
        }
    }

    /// The path until it is finished.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Already moved if it was finished.
        let _ = remove(&self.path);
    }
}

/// Removes the leftovers of killed writers from a folder: entries with a temporary name whose lock is free.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).unwrap_or_default();
        let kind = entry.file_type().ok().filter(|kind| kind.is_file() || kind.is_dir());
        let (16, true, Some(kind)) = (digits.len(), digits.bytes().all(|b| b.is_ascii_hexdigit()), kind)
        else {
            continue;
        };
        let path = entry.path();
        let lock = if kind.is_dir() { path.join(Unfinished::LOCK) } else { path.clone() };
        match File::open(lock) {
            Ok(lock) if lock.try_lock().is_ok() => drop(remove(&path)),
            // Killed before it created the lock: removed if it is empty.
            Err(e) if e.kind() == io::ErrorKind::NotFound => drop(fs::remove_dir(&path)),
            _ => {}
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn leftovers_of_killed_writers_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let living = [Unfinished::file_in(folder.path()), Unfinished::folder_in(folder.path())];
        let living = living.map(|made| made.unwrap());
        // As a killed writer leaves them: unlocked.
        fs::write(at(".goldcrest-00000000deadbeef"), "half").unwrap();
        fs::create_dir(at(".goldcrest-0123456789abcdef")).unwrap();
        fs::write(at(".goldcrest-0123456789abcdef").join(Unfinished::LOCK), "").unwrap();
        fs::write(at(".goldcrest-0123456789abcdef").join("half.wgsl"), "half").unwrap();
        fs::create_dir(at(".goldcrest-fedcba9876543210")).unwrap();
        // Files of others.
        let theirs = [".goldcrest-notes", ".goldcrest-00000000deadbeef.txt", ".other-00000000deadbeef"];
        theirs.iter().for_each(|name| fs::write(at(name), "mine").unwrap());

        write_whole(&at("file"), b"whole").unwrap();
        let mut expected: Vec<String> = theirs.iter().map(|name| name.to_string()).collect();
        expected.extend(living.iter().map(|made| made.path().file_name().unwrap().to_str().unwrap().into()));
        expected.push("file".into());
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        assert_eq!(fs::read(at("file")).unwrap(), b"whole");
        drop(living);
        assert_eq!(names(folder.path()).len(), theirs.len() + 1);
    }

    #[test]
    fn one_file_has_many_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "").unwrap();
        fs::write(at("b"), "").unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        let set = FileSet::from_iter([at("a"), at("absent")]);
        for name in ["a", "hard", "./a"] {
            assert_eq!(set.find(at(name)), Some(&*at("a")), "{name}");
        }
        assert!(["b", "absent", "."].iter().all(|name| set.find(at(name)).is_none()));

        fs::create_dir(at("folder")).unwrap();
        let set = FileSet::from_iter([at("folder")]);
        for name in ["folder/new", "folder/../folder/new"] {
            assert_eq!(set.find(at(name)), Some(&*at("folder")), "{name}");
        }
        assert!(["a", "new", "folder/../new"].iter().all(|name| set.find(at(name)).is_none()));
    }

    #[test]
    fn files_over_the_limit_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        assert!(read(&path, 3).unwrap_err().to_string().contains("file: has more than 3 bytes"));
        assert!(read(folder.path(), 3).unwrap_err().to_string().contains("a directory"));
    }
}
