//! Sets of files by identity. Browsers have no files.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use file_id::{FileId, get_file_id};

use super::folder_of;

/// A set of files by identity, not by name: different spellings, links and hard links of a file are equal.
#[derive(Debug, Default)]
pub struct FileSet {
    files: HashMap<FileId, PathBuf>,
    /// By path without links; the values are the paths as given.
    folders: HashMap<PathBuf, PathBuf>,
}

impl FileSet {
    /// Adds a file, or a folder with all files in it, including those created later. Links in a folder are
    /// followed. Missing files, pipes and devices are ignored.
    pub fn insert(&mut self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let Ok(kind) = fs::metadata(path).map(|found| found.file_type()) else { return };
        if kind.is_file()
            && let Ok(id) = get_file_id(path)
        {
            self.files.entry(id).or_insert_with(|| path.to_owned());
        } else if kind.is_dir()
            && let Ok(folder) = fs::canonicalize(path)
            // Links may form cycles.
            && self.folders.insert(folder, path.to_owned()).is_none()
        {
            self.extend(fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }

    /// Returns the path with which a file was added, or else the nearest added folder above it. The file need
    /// not exist yet.
    pub fn find(&self, path: impl AsRef<Path>) -> Option<&Path> {
        let path = path.as_ref();
        // Only for regular files: except on Unix, reading the identity opens the file, which blocks on a
        // pipe.
        let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
        let known = is_file.then(|| get_file_id(path).ok()).flatten().and_then(|id| self.files.get(&id));
        let parent = fs::canonicalize(folder_of(path)).ok().filter(|_| !self.folders.is_empty());
        let folder = || parent?.ancestors().find_map(|folder| self.folders.get(folder));
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
