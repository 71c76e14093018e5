//! Files that people name: opened so that none can hang or exhaust a program, and written whole or not at all.

use std::{
    collections::HashMap,
    fs::{self, File, FileType, TryLockError},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use file_id::{FileId, get_file_id};

use crate::{Error, Result};

/// What temporary files and folders are called before sixteen digits: hidden, and beside what they become.
const PREFIX: &str = ".goldcrest-";

/// Opens a file to be read. A pipe will do if the shell made it (`<(...)`, or standard input): any other may
/// have nobody at its end, and devices have none.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened, [`Error::File`] if it is a directory, a pipe with a name, a device or
/// a socket.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    // Before it is opened, which waits at a pipe.
    let kind = fs::metadata(path).map_err(Error::io(path))?.file_type();
    if kind.is_file() || (is_pipe(kind) && is_inherited(path)) {
        return File::open(path).map_err(Error::io(path));
    }
    Err(Error::file(path, format!("is {}, and a file is wanted", name(kind))))
}

/// All of a file, as [`open`] takes it, of at most so many bytes.
///
/// # Errors
/// As [`open`]; [`Error::File`] if it has more.
pub fn read(path: impl AsRef<Path>, most: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    all(open(path)?, path, most)
}

/// What is left of an opened file, of at most so many bytes.
pub(crate) fn all(file: File, path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A file that says to be longer is not read first.
    let longer = file.metadata().is_ok_and(|found| found.len() > most);
    if longer || file.take(most + 1).read_to_end(&mut bytes).map_err(Error::io(path))? as u64 > most {
        return Err(Error::file(
            path,
            format!("has more than {most} bytes, the most that is read of such a file"),
        ));
    }
    Ok(bytes)
}

/// Whether a path is one that a shell gives to what it has opened for this process.
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

/// What is no file.
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

/// Files by what they are and not by their names: however those are spelt, through links, and as hard links.
#[derive(Debug, Default)]
pub struct FileSet {
    files: HashMap<FileId, PathBuf>,
    /// Without links on the way to them.
    folders: HashMap<PathBuf, PathBuf>,
}

impl FileSet {
    /// Takes a file in, or a folder: all that is in it or that links in it lead to, and what will be there. What is not
    /// there, a pipe or a device is left out.
    pub fn insert(&mut self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let Ok(kind) = fs::metadata(path).map(|found| found.file_type()) else { return };
        if kind.is_file()
            && let Ok(id) = get_file_id(path)
        {
            self.files.entry(id).or_insert_with(|| path.to_owned());
        } else if kind.is_dir()
            && let Ok(folder) = fs::canonicalize(path)
            // Links may lead round in a circle.
            && self.folders.insert(folder, path.to_owned()).is_none()
        {
            self.extend(fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }

    /// The name under which a file, or the folder that it is or would be in, was taken in.
    pub fn find(&self, path: impl AsRef<Path>) -> Option<&Path> {
        let path = path.as_ref();
        // Only a regular file's identity is asked for: elsewhere than on Unix that opens it, which waits at a pipe.
        let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
        let known = is_file.then(|| get_file_id(path).ok()).flatten().and_then(|id| self.files.get(&id));
        let place = fs::canonicalize(folder_of(path)).ok().filter(|_| !self.folders.is_empty());
        let folder = || place?.ancestors().find_map(|folder| self.folders.get(folder));
        known.or_else(folder).map(PathBuf::as_path)
    }
}

impl<P: AsRef<Path>> Extend<P> for FileSet {
    fn extend<I: IntoIterator<Item = P>>(&mut self, paths: I) {
        paths.into_iter().for_each(|path| self.insert(path));
    }
}

impl<P: AsRef<Path>> FromIterator<P> for FileSet {
    fn from_iter<I: IntoIterator<Item = P>>(paths: I) -> Self {
        let mut set = Self::default();
        set.extend(paths);
        set
    }
}

/// A path as files have it: on Unix any bytes, elsewhere text.
#[cfg(unix)]
pub fn path_of(bytes: &[u8]) -> PathBuf {
    <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).into()
}

/// A path as files have it: on Unix any bytes, elsewhere text.
#[cfg(not(unix))]
pub fn path_of(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file, which is there whole or as it was before: beside its place, then moved there. It keeps the
/// permissions of what it replaces.
///
/// # Errors
/// What the system says.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = Unfinished::file_in(folder_of(path))?;
    unfinished.lock.write_all(bytes)?;
    if let Ok(former) = fs::metadata(path) {
        unfinished.lock.set_permissions(former.permissions())?;
    }
    // On the disk before it replaces another: a power cut leaves one of them.
    unfinished.lock.sync_all()?;
    fs::rename(unfinished.path(), path)
}

/// A file or a folder that is not finished, in the folder where it is to be. It is locked as long as its writer
/// lives, and dropped it is removed. What a killed writer leaves is removed by the next in that folder.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    lock: File,
}

impl Unfinished {
    /// What such a folder's lock is called in it.
    pub const LOCK: &str = ".lock";

    /// An empty file in `folder`.
    ///
    /// # Errors
    /// What the system says.
    pub fn file_in(folder: &Path) -> io::Result<Self> {
        Self::make(folder, |path| File::create_new(path))
    }

    /// A folder in `folder`, empty but for its lock.
    ///
    /// # Errors
    /// What the system says.
    pub fn folder_in(folder: &Path) -> io::Result<Self> {
        Self::make(folder, |path| {
            fs::create_dir(path)?;
            File::create_new(path.join(Self::LOCK))
        })
    }

    fn make(folder: &Path, make: impl Fn(&Path) -> io::Result<File>) -> io::Result<Self> {
        sweep(folder);
        // Others' sweeps may come between, though not often.
        let mut left = 100;
        loop {
            left -= 1;
            let path = folder.join(format!("{PREFIX}{:016x}", RandomState::new().hash_one(0)));
            let lock = match make(&path) {
                Ok(lock) => lock,
                // Another's sweep came between the folder and its lock.
                Err(e) if e.kind() == io::ErrorKind::NotFound && folder.is_dir() && left > 0 => continue,
                Err(e) => return Err(e),
            };
            // Or before it was locked. Where a file system has no locks nothing is swept.
            let swept = matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) || !path.exists();
            if !swept {
                return Ok(Self { path, lock });
            } else if left == 0 {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
        }
    }

    /// Where it is until it is finished.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Not there if it was finished.
        let _ = remove(&self.path);
    }
}

/// Removes what killed writers left in a folder: it has such a name, and nobody holds its lock.
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
            // Killed before it had one: removed if it is empty.
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
    fn what_is_left_by_the_killed_is_removed_and_nothing_else() {
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
        // Somebody's.
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
    fn what_is_longer_than_it_may_be_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        assert!(read(&path, 3).unwrap_err().to_string().contains("file: has more than 3 bytes"));
        assert!(read(folder.path(), 3).unwrap_err().to_string().contains("a directory"));
    }
}
