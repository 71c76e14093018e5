//! Matches pictures with the entries of a ground-truth file, by name.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf, absolute},
};

use anyhow::{Result, bail};
use goldcrest::{
    feed::Name,
    files::{FileSet, folder_of},
};

/// The entries of a ground-truth file.
pub struct Entries<T> {
    /// The entries, by file name.
    named: HashMap<OsString, Vec<Entry<T>>>,
    /// The canonical path of each folder that an entry names; none if it does not exist.
    folders: HashMap<PathBuf, Option<PathBuf>>,
    /// The first picture without an entry.
    missed: Option<PathBuf>,
    /// The number of pictures in other folders than their entries name.
    elsewhere: usize,
}

struct Entry<T> {
    /// The absolute path if the file exists, otherwise the path as given.
    path: PathBuf,
    truth: T,
    /// The picture that the entry was matched with.
    taken: Option<PathBuf>,
}

impl<T: Copy + PartialEq> Entries<T> {
    pub fn new() -> Self {
        Self { named: HashMap::new(), folders: HashMap::new(), missed: None, elsewhere: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Adds the ground truth of the picture `name`. `beside` is the folder of the ground-truth file.
    ///
    /// # Errors
    /// If the picture has a different entry already, or if two files match the name.
    pub fn insert(&mut self, name: &Path, beside: &Path, truth: T) -> Result<()> {
        // Names are relative to the current folder or to that of the ground-truth file.
        let mut there = |file: &Path| {
            let folder = folder_of(file);
            if !self.folders.contains_key(folder) {
                self.folders.insert(folder.to_owned(), fs::canonicalize(folder).ok());
            }
            let file = self.folders[folder].as_ref()?.join(file.file_name()?);
            file.is_file().then_some(file)
        };
        let path = match (there(name), there(&beside.join(name))) {
            (Some(here), Some(there)) if here != there => {
                bail!(
                    "{} exists in the current folder and next to the ground truth: write its whole path",
                    name.display()
                )
            }
            (here, there) => here
                .or(there)
                .unwrap_or_else(|| name.components().filter(|part| *part != Component::CurDir).collect()),
        };
        let file = path.file_name().unwrap_or_default().to_owned();
        let entries = self.named.entry(file).or_default();
        match entries.iter().find(|entry| entry.path == path) {
            Some(before) if before.truth != truth => {
                bail!("{} has a different entry already", name.display())
            }
            Some(_) => {}
            None => entries.push(Entry { path, truth, taken: None }),
        }
        Ok(())
    }

    /// Returns the ground truth of a picture: that of the longest entry that the picture's path ends with, or
    /// else of the only entry with its file name, if that entry names no existing file.
    ///
    /// # Errors
    /// If the entry was matched with another picture already.
    pub fn find(&mut self, name: &Name) -> Result<Option<T>> {
        let file = name.file.file_name().unwrap_or_default();
        let paths = paths_of(&name.file);
        let entries = self.named.get_mut(file).map(Vec::as_mut_slice).unwrap_or_default();
        let only = matches!(entries, [one] if one.path.is_relative());
        let fits = |entry: &&mut Entry<T>| paths.iter().any(|path| path.ends_with(&entry.path));
        let length = |entry: &&mut Entry<T>| entry.path.components().count();
        let is_near = entries.iter_mut().any(|entry| fits(&entry));
        let entry = match is_near {
            true => entries.iter_mut().filter(fits).max_by_key(length),
            false => entries.first_mut().filter(|_| only),
        };
        let Some(entry) = entry else {
            self.missed.get_or_insert_with(|| name.file.clone());
            return Ok(None);
        };
        let taken = entry.taken.get_or_insert_with(|| name.file.clone());
        if *taken != name.file && FileSet::from_iter([&*taken]).find(&name.file).is_none() {
            bail!(
                "the ground truth has only one entry {}, which is already matched with {}",
                entry.path.display(),
                taken.display()
            );
        }
        self.elsewhere += usize::from(!is_near);
        Ok(Some(entry.truth))
    }

    /// Warns about pictures that were matched by file name alone.
    pub fn warn(&self, of: &str) {
        if self.elsewhere > 0 {
            log::warn!(
                "{of} names other folders for {} of the pictures: they were matched by file name",
                self.elsewhere
            );
        }
    }

    /// An entry and a picture without one, as an example of how the names differ.
    pub fn example(&self) -> String {
        let entry = self.named.values().flatten().next().map(|entry| entry.path.display().to_string());
        let missed = self.missed.as_ref().map(|path| path.display().to_string());
        format!(
            "an entry is {}, a picture is named {}",
            entry.unwrap_or_default(),
            missed.unwrap_or_default()
        )
    }
}

/// The absolute paths of a file: as given, and with the links in its folder resolved.
pub fn paths_of(file: &Path) -> Vec<PathBuf> {
    // A path with `..` does not tell where the file is.
    let spelt =
        absolute(file).ok().filter(|path| !path.components().any(|part| part == Component::ParentDir));
    spelt.into_iter().chain(resolved(file)).collect()
}

/// The absolute path of a file with the links in its folder resolved. A link at its end is kept.
fn resolved(file: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(folder_of(file)).ok()?.join(file.file_name()?))
}
