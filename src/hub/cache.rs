//! A model's part of the hub's cache, in the layout of the hub's Python client:
//!
//! ```text
//! models--OWNER--NAME/blobs/ETAG                   a file
//! models--OWNER--NAME/blobs/ETAG.incomplete        its partial download
//! models--OWNER--NAME/snapshots/COMMIT/FILE        a link to the file, or the file if links are not possible
//! models--OWNER--NAME/refs/REVISION                the commit
//! models--OWNER--NAME/.no_exist/COMMIT/FILE        empty: the hub has no such file at the commit
//! .locks/models--OWNER--NAME/ETAG.lock             held by the process that downloads the file
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
    CONFIGURATIONS, WEIGHTS,
    names::{Etag, is_commit},
};
use crate::files::write_whole;

/// The interval between attempts to get a lock that another process holds.
const RETRY: Duration = Duration::from_millis(50);

/// The files of one model.
pub struct Cache {
    root: PathBuf,
    /// The name of the model's folder in the cache and in `.locks`.
    name: String,
}

impl Cache {
    pub fn new(root: PathBuf, model: &str) -> Self {
        Self { root, name: format!("models--{}", model.replace('/', "--")) }
    }

    /// The folder of all models.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// The folder with the files of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    pub fn blob(&self, etag: &Etag) -> PathBuf {
        self.folder().join("blobs").join(etag.to_string())
    }

    pub fn partial(&self, etag: &Etag) -> PathBuf {
        self.folder().join("blobs").join(format!("{etag}.incomplete"))
    }

    /// The commit of a revision, if its snapshot has the weights, which are downloaded last.
    pub fn cached(&self, revision: &str) -> Option<String> {
        let commit = if is_commit(revision) {
            revision.to_owned()
        } else {
            fs::read_to_string(self.reference(revision)).ok()?.trim().to_owned()
        };
        (is_commit(&commit) && self.snapshot(&commit).join(WEIGHTS).is_file()).then_some(commit)
    }

    /// The configurations that a snapshot lacks although the hub may have them: timm downloads the weights
    /// alone.
    pub fn lacking(&self, commit: &str) -> Vec<&'static str> {
        let snapshot = self.snapshot(commit);
        let lacks = |name: &&str| !snapshot.join(name).exists() && !self.absence(commit, name).exists();
        CONFIGURATIONS.into_iter().filter(lacks).collect()
    }

    fn absence(&self, commit: &str, name: &str) -> PathBuf {
        self.folder().join(".no_exist").join(commit).join(name)
    }

    /// Records that the hub has no such file at a commit.
    pub fn record_absence(&self, commit: &str, name: &str) {
        let path = self.absence(commit, name);
        // Without the record, the next run asks the hub again.
        if let Err(error) = make_folder_of(&path).and_then(|()| fs::write(&path, "")) {
            log::debug!("{}: {error}", path.display());
        }
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder().join("refs").join(revision)
    }

    /// Waits until no other process is downloading a file. Calls `on_wait` once if it has to wait. The lock
    /// is held until the returned file is dropped.
    pub fn lock(&self, etag: &Etag, timeout: Duration, mut on_wait: impl FnMut()) -> Result<File, String> {
        let path = self.root.join(".locks").join(&self.name).join(format!("{etag}.lock"));
        let open = || {
            make_folder_of(&path)?;
            File::options().write(true).create(true).truncate(false).open(&path)
        };
        let file = open().map_err(self.write_error())?;
        let start = Instant::now();
        let mut reported = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if start.elapsed() > timeout => {
                    return Err(format!("another process has held {} for {timeout:?}", path.display()));
                }
                Err(TryLockError::WouldBlock) => {
                    if !reported {
                        on_wait();
                        reported = true;
                    }
                    thread::sleep(RETRY);
                }
                // On a file system without locks, two processes may corrupt each other's download, which the
                // checks detect.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    log::debug!("{}: {error}", path.display());
                    return Ok(file);
                }
                Err(TryLockError::Error(error)) => return Err(self.write_error()(error)),
            }
        }
    }

    /// Opens a partial download, truncated to `from` bytes, to append to it.
    pub fn open_partial(&self, etag: &Etag, from: u64) -> Result<File, String> {
        let path = self.partial(etag);
        let open = || {
            make_folder_of(&path)?;
            let mut file = File::options().write(true).create(true).truncate(false).open(&path)?;
            file.set_len(from)?;
            io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
            Ok(file)
        };
        open().map_err(self.write_error())
    }

    /// Moves a finished download to its final name, replacing a damaged file.
    pub fn keep(&self, etag: &Etag) -> Result<(), String> {
        let blob = self.blob(etag);
        fs::rename(self.partial(etag), &blob).and_then(|()| sync_folder_of(&blob)).map_err(self.write_error())
    }

    /// Adds a file to a snapshot.
    pub fn link(&self, etag: &Etag, commit: &str, name: &str) -> Result<(), String> {
        let pointer = self.snapshot(commit).join(name);
        let target: PathBuf = ["..", "..", "blobs", &etag.to_string()].iter().collect();
        make_folder_of(&pointer)
            .and_then(|()| link(&target, &self.blob(etag), &pointer, symlink))
            .and_then(|()| sync_folder_of(&pointer))
            .map_err(self.write_error())
    }

    /// Records the commit of a revision.
    pub fn refer(&self, revision: &str, commit: &str) -> Result<(), String> {
        if revision == commit {
            return Ok(());
        }
        let path = self.reference(revision);
        let write = || {
            make_folder_of(&path)?;
            write_whole(&path, commit.as_bytes())
        };
        write().map_err(self.write_error())
    }

    /// Makes the error message for a cache that cannot be written.
    pub fn write_error(&self) -> impl Fn(io::Error) -> String {
        let root = self.root.display().to_string();
        move |error| format!("cannot be stored in {root}: {error}")
    }
}

/// Makes `pointer` a link to `target`. If links are not possible, moves `blob` to `pointer`.
fn link(
    target: &Path,
    blob: &Path,
    pointer: &Path,
    symlink: fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    if fs::read_link(pointer).is_ok_and(|found| found == target) {
        return Ok(());
    }
    // Created under another name and renamed, so that `pointer` exists at all times.
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

/// Syncs a file's folder, so that a new file name survives a power failure.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        // Windows cannot open folders.
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
    fn without_links_the_snapshot_has_the_file_itself() {
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
    fn waiting_for_a_lock_times_out() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().to_owned(), "a/b");
        let held = cache.lock(&etag(), Duration::ZERO, || panic!("nobody to wait for")).unwrap();
        let mut waits = 0;
        let error = cache.lock(&etag(), 3 * RETRY, || waits += 1).unwrap_err();
        assert!(error.contains("another process") && error.contains("0123456789.lock"), "{error}");
        assert_eq!(waits, 1);
        drop(held);
        cache.lock(&etag(), Duration::ZERO, || panic!("nobody to wait for")).unwrap();
    }

    #[test]
    fn a_reference_must_be_a_commit() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().join("cache"), "a/b");
        fs::create_dir_all(root.path().join("evil")).unwrap();
        fs::write(root.path().join("evil").join(WEIGHTS), "").unwrap();
        cache.refer("main", "../../../evil").unwrap();
        fs::create_dir_all(cache.folder().join("snapshots")).unwrap();
        assert!(cache.snapshot("../../../evil").join(WEIGHTS).is_file());
        assert_eq!(cache.cached("main"), None);
    }
}
