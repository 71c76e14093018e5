//! Resolves the user's names of files, folders, patterns and lists to files.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    io::{self, BufRead, BufReader, Read},
    path::{self, MAIN_SEPARATOR_STR, Path, PathBuf},
    sync::Arc,
};

use globset::GlobBuilder;

use super::inputs::Reading;
use crate::{
    Error, Result,
    files::{self, path_of},
};

/// The name of standard input.
pub const STDIN: &str = "-";

/// The maximum number of bytes per line of a list.
const LINE_LIMIT: u64 = 1 << 16;

/// A file that a name resolves to, or the error.
pub enum Found {
    /// A path that the user gave: a file, which may not exist, a pipe or a device.
    Named(PathBuf),
    /// A file that was found, with the folder that the user named, if it was found in one.
    File {
        path: PathBuf,
        folder: Option<Arc<Path>>,
    },
    Stdin,
    /// A name that did not resolve to a file.
    Failed(PathBuf, Error),
}

impl Found {
    fn failed(path: &Path, reason: impl ToString) -> Self {
        Self::Failed(path.to_owned(), Error::file(path, reason))
    }
}

pub type Files = Box<dyn Iterator<Item = Found> + Send>;

/// Resolves a name that the user gave.
pub fn named(name: &OsStr, reading: &Arc<Reading>) -> Files {
    let path = Path::new(name);
    if name == STDIN {
        return one(Found::Stdin);
    }
    if path.is_dir() {
        return walk(path, reading);
    }
    if fs::metadata(path).is_ok() {
        return one(Found::Named(path.to_owned()));
    }
    if let Some(list) = after_at(name) {
        return listed(path_of(list), reading.clone());
    }
    let is_pattern = name.as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte));
    match name.to_str().filter(|_| is_pattern) {
        Some(pattern) => matching(pattern, reading),
        None => one(Found::Named(path.to_owned())),
    }
}

/// Returns the path of the list in a name such as `@path`, if it is a regular file.
pub fn list(name: &OsStr) -> Option<PathBuf> {
    let path = path_of(after_at(name).filter(|_| fs::metadata(name).is_err())?);
    path.is_file().then_some(path)
}

/// Returns true if the name is a list that is not a regular file, such as a pipe.
pub fn is_piped(name: &OsStr) -> bool {
    fs::metadata(name).is_err() && after_at(name).is_some() && list(name).is_none()
}

fn after_at(name: &OsStr) -> Option<&[u8]> {
    name.as_encoded_bytes().strip_prefix(b"@")
}

fn one(found: Found) -> Files {
    Box::new(std::iter::once(found))
}

/// Returns a file, or the pictures in a folder.
fn at(path: &Path, reading: &Arc<Reading>) -> Files {
    match path.is_dir() {
        true => walk(path, reading),
        false => one(Found::File { path: path.to_owned(), folder: None }),
    }
}

/// Returns the pictures in a folder and its subfolders, sorted by name.
fn walk(folder: &Path, reading: &Arc<Reading>) -> Files {
    let (reading, folder): (_, Arc<Path>) = (reading.clone(), folder.into());
    let hidden = |entry: &walkdir::DirEntry| {
        entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    let entries = walkdir::WalkDir::new(&folder).follow_links(true).sort_by_file_name().into_iter();
    let mut found = false;
    let mut entries = entries.filter_entry(move |entry| !hidden(entry));
    Box::new(std::iter::from_fn(move || {
        for entry in entries.by_ref() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    found = true;
                    return Some(Found::failed(error.path().unwrap_or(&folder), reason(&error)));
                }
            };
            let extension = entry.path().extension().and_then(OsStr::to_str).map(str::to_lowercase);
            if !entry.file_type().is_dir() && extension.is_some_and(|e| reading.extensions.contains(&e)) {
                found = true;
                return Some(Found::File { path: entry.into_path(), folder: Some(folder.clone()) });
            }
        }
        if std::mem::replace(&mut found, true) {
            return None;
        }
        let reason = format!("the folder has no file that ends in .{}", reading.extensions.join(", ."));
        Some(Found::failed(&folder, reason))
    }))
}

/// Returns the files that match a pattern, sorted by name. As in shells, `*` does not cross folders and `**`
/// does, and only a pattern that starts with a dot matches a hidden name.
fn matching(pattern: &str, reading: &Arc<Reading>) -> Files {
    let failed = |reason: String| one(Found::failed(Path::new(pattern), reason));
    let is_plain = |part: &&str| !part.contains(['*', '?', '[']);
    let parts: Vec<&str> = pattern.split(path::is_separator).collect();
    let plain = parts.iter().take_while(|part| is_plain(part)).count();
    // The folder to search.
    let base = match &parts[..plain] {
        [""] => MAIN_SEPARATOR_STR.into(),
        // Without a separator it would be the drive's current folder.
        [drive] if cfg!(windows) && drive.ends_with(':') => format!("{drive}{MAIN_SEPARATOR_STR}"),
        folders => folders.join(MAIN_SEPARATOR_STR),
    };
    let parts: Vec<String> = parts[plain..].iter().map(|part| (*part).to_owned()).collect();
    let text = parts.join("/");
    // Windows ignores case.
    let glob = GlobBuilder::new(&text).literal_separator(true).case_insensitive(cfg!(windows)).build();
    let matcher = match glob {
        Ok(glob) => glob.compile_matcher(),
        Err(error) => return failed(format!("is not a valid pattern: {}", error.kind())),
    };
    let deep = parts.iter().any(|part| part == "**");
    let folder = if base.is_empty() { Path::new(".") } else { Path::new(&base) };
    let most = if deep { usize::MAX } else { parts.len() };
    let entries = walkdir::WalkDir::new(folder).min_depth(1).max_depth(most).follow_links(true);
    let is_wanted = move |entry: &walkdir::DirEntry| {
        let hides = entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
        // The root has depth 0.
        let names = || parts.get(entry.depth() - 1).is_some_and(|part| part.starts_with('.'));
        !hides || (!deep && names())
    };
    let root = folder.to_owned();
    let (base, reading) = (PathBuf::from(&base), reading.clone());
    let entries = entries.sort_by_file_name().into_iter().filter_entry(is_wanted);
    let mut seen = HashSet::new();
    let found = entries.flat_map(move |entry| match entry {
        Ok(entry) => {
            let within = entry.path().strip_prefix(&root).unwrap_or(entry.path());
            let found = matcher.is_match(within).then(|| at(&base.join(within), &reading));
            let is_folder = entry.file_type().is_dir();
            let mut is_new = |found: &Found| match found {
                // `**` may match a file both directly and through its folder.
                Found::File { path, .. } => !deep || seen.insert(path.clone()),
                _ => !(deep && is_folder),
            };
            found.into_iter().flatten().filter(|found| is_new(found)).collect::<Vec<_>>()
        }
        Err(error) => {
            let path = error.path().unwrap_or(&root);
            let is_wanted = path.strip_prefix(&root).is_ok_and(|within| matcher.is_match(within));
            let hides = error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            let failure = (is_wanted || hides).then(|| Found::failed(path, reason(&error)));
            failure.into_iter().collect()
        }
    });
    let mut found = found.peekable();
    if found.peek().is_none() {
        return failed("no file matches this pattern".into());
    }
    Box::new(found)
}

/// Returns why an entry of a folder cannot be read, without its path.
fn reason(error: &walkdir::Error) -> String {
    match (error.loop_ancestor(), error.io_error()) {
        (Some(above), _) => format!("is a link to {}, which contains it", above.display()),
        (None, Some(error)) => error.to_string(),
        (None, None) => error.to_string(),
    }
}

/// Returns the files in a list, which has one name per line.
fn listed(list: PathBuf, reading: Arc<Reading>) -> Files {
    let opened: Result<Box<dyn BufRead + Send>> = if list == Path::new(STDIN) {
        Ok(Box::new(BufReader::new(io::stdin())))
    } else {
        files::open(&list).map(|file| Box::new(BufReader::new(file)) as Box<dyn BufRead + Send>)
    };
    let mut lines = match opened {
        Ok(lines) => Some(lines),
        Err(error) => return one(Found::Failed(list, error)),
    };
    let (mut first, mut empty) = (true, true);
    let files = std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            let last = |found| Some(one(found));
            match lines.as_mut()?.take(LINE_LIMIT).read_until(b'\n', &mut line) {
                Ok(0) => {
                    lines = None;
                    return last(Found::failed(&list, "the list contains no picture names"))
                        .filter(|_| empty);
                }
                Ok(count) if count as u64 == LINE_LIMIT => {
                    lines = None;
                    let reason = "a line is too long: expected one name of a picture per line";
                    return last(Found::failed(&list, reason));
                }
                Ok(_) => {}
                Err(error) => {
                    lines = None;
                    return last(Found::Failed(list.clone(), Error::io(&list)(error)));
                }
            }
            let line = if first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line[..] };
            first = false;
            // Strip only the end of the line: a name may end with a space.
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.trim_ascii().is_empty() {
                empty = false;
                // List the folder before reading any file, so that files written meanwhile are not inputs.
                let found: Vec<_> = at(&path_of(line), &reading).collect();
                return Some(Box::new(found.into_iter()) as Files);
            }
        }
    });
    Box::new(files.flatten())
}
