//! Which picture a truth means, by the names that it has for them.

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

/// What a truth says of pictures.
pub struct Entries<T> {
    /// By the files' own names.
    named: HashMap<OsString, Vec<Entry<T>>>,
    /// Folders as they were named, and without links on the way to them; none if they are not there.
    folders: HashMap<PathBuf, Option<PathBuf>>,
    /// The first picture that has none.
    missed: Option<PathBuf>,
    /// Pictures that lie elsewhere than the truth has them.
    elsewhere: usize,
}

struct Entry<T> {
    /// The whole path if the file is there, or what may be the end of one.
    path: PathBuf,
    truth: T,
    /// The picture that it was taken for.
    taken: Option<PathBuf>,
}

impl<T: Copy + PartialEq> Entries<T> {
    pub fn new() -> Self {
        Self { named: HashMap::new(), folders: HashMap::new(), missed: None, elsewhere: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Notes what a truth that lies in `beside` says of the picture of this name.
    ///
    /// # Errors
    /// If it said something else of that picture before, or it could be two.
    pub fn insert(&mut self, name: &Path, beside: &Path, truth: T) -> Result<()> {
        // As people name them: from here, or from where the truth is.
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
                bail!("{} is here and beside it: write its whole path", name.display())
            }
            (here, there) => here
                .or(there)
                .unwrap_or_else(|| name.components().filter(|part| *part != Component::CurDir).collect()),
        };
        let file = path.file_name().unwrap_or_default().to_owned();
        let entries = self.named.entry(file).or_default();
        match entries.iter().find(|entry| entry.path == path) {
            Some(before) if before.truth != truth => bail!("{} has another entry before", name.display()),
            Some(_) => {}
            None => entries.push(Entry { path, truth, taken: None }),
        }
        Ok(())
    }

    /// What is said of a picture: by the entry that its path ends with, of several the longest; or by the only one of
    /// that name, where nothing is known of the entry's own file.
    ///
    /// # Errors
    /// If another picture had that entry.
    pub fn find(&mut self, name: &Name) -> Result<Option<T>> {
        let file = name.file.file_name().unwrap_or_default();
        let places = places(&name.file);
        let entries = self.named.get_mut(file).map(Vec::as_mut_slice).unwrap_or_default();
        let only = matches!(entries, [one] if one.path.is_relative());
        let fits = |entry: &&mut Entry<T>| places.iter().any(|place| place.ends_with(&entry.path));
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
            bail!("the truth has {} once, which was {}", entry.path.display(), taken.display());
        }
        self.elsewhere += usize::from(!is_near);
        Ok(Some(entry.truth))
    }

    /// Tells of pictures that the truth has elsewhere.
    pub fn warn(&self, of: &str) {
        if self.elsewhere > 0 {
            log::warn!(
                "{of} has {} of the pictures in other folders: their files' names are the same",
                self.elsewhere
            );
        }
    }

    /// An entry and a picture that has none, which show how names differ.
    pub fn example(&self) -> String {
        let entry = self.named.values().flatten().next().map(|entry| entry.path.display().to_string());
        let missed = self.missed.as_ref().map(|path| path.display().to_string());
        format!("it names {}, and a picture is {}", entry.unwrap_or_default(), missed.unwrap_or_default())
    }
}

/// A file's whole path as it is spelt, and as it is without the links on the way to it.
pub fn places(file: &Path) -> Vec<PathBuf> {
    // What leads up again says nothing of where the file is.
    let spelt =
        absolute(file).ok().filter(|path| !path.components().any(|part| part == Component::ParentDir));
    spelt.into_iter().chain(placed(file)).collect()
}

/// A file's whole path without links on the way to it; of the file itself only the name is looked at.
fn placed(file: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(folder_of(file)).ok()?.join(file.file_name()?))
}
