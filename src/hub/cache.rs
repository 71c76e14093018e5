//! A model's part of the hub's cache, laid out as its Python client has it:
//!
//! ```text
//! models--OWNER--NAME/blobs/ETAG                   a file
//! models--OWNER--NAME/blobs/ETAG.incomplete        what has come of it
//! models--OWNER--NAME/snapshots/COMMIT/FILE        a link to it, or the file where links cannot be made
//! models--OWNER--NAME/refs/REVISION                the commit
//! .locks/models--OWNER--NAME/ETAG.lock             held by whoever fetches it
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use web_time::Instant;

use super::{
    WEIGHTS,
    names::{Etag, is_commit},
};
use crate::files::write_whole;

/// How often a lock that another process holds is tried again.
const TURN: Duration = Duration::from_millis(50);

/// The files of one model.
pub struct Cache {
    root: PathBuf,
    /// The model's folder in the cache, and in that of the locks.
    name: String,
}

impl Cache {
    pub fn new(root: PathBuf, model: &str) -> Self {
        Self { root, name: format!("models--{}", model.replace('/', "--")) }
    }

    /// Where all models are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// The files of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    pub fn blob(&self, etag: &Etag) -> PathBuf {
        self.folder().join("blobs").join(etag.to_string())
    }

    pub fn partial(&self, etag: &Etag) -> PathBuf {
        self.folder().join("blobs").join(format!("{etag}.incomplete"))
    }

    /// The snapshot of a revision, if its weights are there: they are the last to come.
    pub fn complete(&self, revision: &str) -> Option<PathBuf> {
        let commit = if is_commit(revision) {
            revision.to_owned()
        } else {
            fs::read_to_string(self.reference(revision)).ok()?.trim().to_owned()
        };
        let folder = self.snapshot(&commit);
        (is_commit(&commit) && folder.join(WEIGHTS).is_file()).then_some(folder)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder().join("refs").join(revision)
    }

    /// Waits until no other process fetches a file; tells once that it waits. The lock is held as long as what
    /// comes back.
    pub fn lock(&self, etag: &Etag, patience: Duration, mut tell: impl FnMut()) -> Result<File, String> {
        let path = self.root.join(".locks").join(&self.name).join(format!("{etag}.lock"));
        let open = || {
            make_folder_of(&path)?;
            File::options().write(true).create(true).truncate(false).open(&path)
        };
        let file = open().map_err(self.unkept())?;
        let start = Instant::now();
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if start.elapsed() > patience => {
                    return Err(format!("another process has held {} for {patience:?}", path.display()));
                }
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        tell();
                        told = true;
                    }
                    thread::sleep(TURN);
                }
                // A file system without locks: two processes may spoil one another's download, and notice it.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    log::debug!("{}: {error}", path.display());
                    return Ok(file);
                }
                Err(TryLockError::Error(error)) => return Err(self.unkept()(error)),
            }
        }
    }

    /// Opens what has come of a file to write on behind its first bytes.
    pub fn continued(&self, etag: &Etag, from: u64) -> Result<File, String> {
        let path = self.partial(etag);
        let open = || {
            make_folder_of(&path)?;
            let mut file = File::options().write(true).create(true).truncate(false).open(&path)?;
            file.set_len(from)?;
            io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
            Ok(file)
        };
        open().map_err(self.unkept())
    }

    /// Makes what has come a file of the cache, in place of one that was damaged.
    pub fn keep(&self, etag: &Etag) -> Result<(), String> {
        let blob = self.blob(etag);
        fs::rename(self.partial(etag), &blob).and_then(|()| sync_folder_of(&blob)).map_err(self.unkept())
    }

    /// Puts a file into a snapshot.
    pub fn link(&self, etag: &Etag, commit: &str, name: &str) -> Result<(), String> {
        let pointer = self.snapshot(commit).join(name);
        let target: PathBuf = ["..", "..", "blobs", &etag.to_string()].iter().collect();
        make_folder_of(&pointer)
            .and_then(|()| link(&target, &self.blob(etag), &pointer, symlink))
            .and_then(|()| sync_folder_of(&pointer))
            .map_err(self.unkept())
    }

    /// Notes which commit a revision is.
    pub fn refer(&self, revision: &str, commit: &str) -> Result<(), String> {
        if revision == commit {
            return Ok(());
        }
        let path = self.reference(revision);
        let write = || {
            make_folder_of(&path)?;
            write_whole(&path, commit.as_bytes())
        };
        write().map_err(self.unkept())
    }

    /// Says of an error that the cache cannot be written.
    pub fn unkept(&self) -> impl Fn(io::Error) -> String {
        let root = self.root.display().to_string();
        move |error| format!("cannot be kept in {root}: {error}")
    }
}

/// Puts a link to `target` at `pointer`, or, where there are no links, the file itself.
fn link(
    target: &Path,
    blob: &Path,
    pointer: &Path,
    symlink: fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    if fs::read_link(pointer).is_ok_and(|found| found == target) {
        return Ok(());
    }
    // Under another name first: nobody ever sees none where there was one.
    let mut new = pointer.as_os_str().to_owned();
    new.push(format!(".{}.tmp", process::id()));
    let new = Path::new(&new);
    symlink(target, new).and_then(|()| fs::rename(new, pointer)).or_else(|_| {
        let _ = fs::remove_file(new);
        fs::rename(blob, pointer)
    })
}

fn make_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Makes a new name outlast a power cut.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        // Windows opens no folders.
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etag() -> Etag {
        Etag::parse("\"0123456789\"").unwrap()
    }

    #[test]
    fn where_links_cannot_be_made_the_file_itself_is_there() {
        let root = tempfile::tempdir().unwrap();
        let [blob, pointer] = ["blob", "pointer"].map(|name| root.path().join(name));
        fs::write(&blob, "new").unwrap();
        fs::write(&pointer, "damaged").unwrap();
        let none = |_: &Path, _: &Path| Err(io::ErrorKind::PermissionDenied.into());
        link(Path::new("blob"), &blob, &pointer, none).unwrap();
        assert_eq!(fs::read_to_string(&pointer).unwrap(), "new");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_is_not_waited_for_without_end() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().to_owned(), "a/b");
        let held = cache.lock(&etag(), Duration::ZERO, || panic!("nobody to wait for")).unwrap();
        let mut told = 0;
        let error = cache.lock(&etag(), 3 * TURN, || told += 1).unwrap_err();
        assert!(error.contains("another process") && error.contains("0123456789.lock"), "{error}");
        assert_eq!(told, 1);
        drop(held);
        cache.lock(&etag(), Duration::ZERO, || panic!("nobody to wait for")).unwrap();
    }

    #[test]
    fn a_reference_that_is_no_commit_is_no_path() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().join("cache"), "a/b");
        fs::create_dir_all(root.path().join("evil")).unwrap();
        fs::write(root.path().join("evil").join(WEIGHTS), "").unwrap();
        cache.refer("main", "../../../evil").unwrap();
        fs::create_dir_all(cache.folder().join("snapshots")).unwrap();
        assert!(cache.snapshot("../../../evil").join(WEIGHTS).is_file());
        assert_eq!(cache.complete("main"), None);
    }
}
