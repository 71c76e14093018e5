//! Saves drawings: to a file, into a folder, by a pattern, or as frames on standard output.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write},
    path::{MAIN_SEPARATOR, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use goldcrest::{
    feed::{Header, Name, Prediction, Subject},
    files::{FileSet, folder_of},
    tasks::Picture,
};
use serde_json::{Map, Value};

use super::{Drawn, Saving};
use crate::cli::{common, drawing, target::Target};

/// The destination of a command's drawings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Standard output, as frames.
    Stdout,
    /// One file, for one picture.
    File(PathBuf),
    /// A folder; its files are named after the pictures.
    Folder(PathBuf),
    /// A pattern that gives a file name for each picture.
    Pattern(String),
}

/// The placeholders of a pattern.
const PLACEHOLDERS: [&str; 4] = ["{stem}", "{name}", "{folder}", "{frame}"];

impl Place {
    /// Parses `-`, a folder, a pattern or the name of a file with one of these extensions.
    fn parse(name: OsString, extensions: &[&str]) -> Result<Self, String> {
        let path = PathBuf::from(name);
        let text = path.to_str().unwrap_or_default();
        if text == "-" {
            return Ok(Self::Stdout);
        }
        if path.is_dir()
            || path.as_os_str().as_encoded_bytes().ends_with(b"/")
            || text.ends_with(MAIN_SEPARATOR)
        {
            if !path.is_dir() && path.as_os_str().as_encoded_bytes().contains(&b'{') {
                return Err("a pattern has to end in a file name, such as {stem}.png".into());
            }
            return Ok(Self::Folder(path));
        }
        if !common::has_extension(&path, extensions) {
            let file = extensions.join(" or .");
            return Err(format!(
                "expected the name of a .{file} file, a folder (with a trailing / if it does not exist), or -"
            ));
        }
        if !path.as_os_str().as_encoded_bytes().contains(&b'{') {
            return Ok(Self::File(path));
        }
        if text.is_empty() {
            return Err("a pattern must be UTF-8".into());
        }
        let rest = PLACEHOLDERS.iter().fold(text.to_owned(), |rest, part| rest.replace(part, ""));
        match rest.contains(['{', '}']) {
            true => Err(format!("a pattern may only contain the placeholders {}", PLACEHOLDERS.join(", "))),
            false => Ok(Self::Pattern(text.into())),
        }
    }

    /// Returns whether it is files, and not standard output.
    pub fn is_files(&self) -> bool {
        *self != Self::Stdout
    }

    /// Parses the destination of drawings, for clap.
    pub fn drawings() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(|name| Self::parse(name, &drawing::EXTENSIONS))
    }

    /// Parses the destination of label maps, for clap. JPEG would change the classes.
    pub fn masks() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(|name| Self::parse(name, &["png"]))
    }

    /// The file for a picture.
    fn file(&self, name: &Name) -> Result<PathBuf> {
        let (stem, within) = (stem(name), name.subfolder());
        Ok(match self {
            Self::Stdout => bail!("is not a file"),
            Self::File(path) => path.clone(),
            Self::Folder(folder) => folder.join(within).join(png_name(name)),
            Self::Pattern(pattern) => {
                let frame = format!("{:06}", name.frame.unwrap_or(0));
                let own = name.file.file_name().unwrap_or(stem);
                // An OsString, as file names need not be UTF-8.
                let mut path = OsString::new();
                let mut rest = pattern.as_str();
                while let Some(at) = rest.find('{') {
                    let end = rest[at..].find('}').map_or(rest.len(), |end| at + end + 1);
                    path.push(&rest[..at]);
                    match &rest[at..end] {
                        "{stem}" => path.push(stem),
                        "{name}" => path.push(own),
                        // A picture named directly has no folder: skip the separator too, as it means the root.
                        "{folder}" if within.as_os_str().is_empty() && path.is_empty() => {
                            rest = rest[end..].trim_start_matches(std::path::is_separator);
                            continue;
                        }
                        "{folder}" => path.push(within),
                        _ => path.push(&frame),
                    }
                    rest = &rest[end..];
                }
                path.push(rest);
                path.into()
            }
        })
    }
}

/// A picture's file name without its extension.
fn stem(name: &Name) -> &OsStr {
    let stem = name.file.file_stem().filter(|_| !name.is_stdin());
    stem.unwrap_or(OsStr::new("frame"))
}

/// The name of a picture's PNG file: named after the picture, with the frame's number if there is one.
pub fn png_name(name: &Name) -> OsString {
    let mut file = stem(name).to_owned();
    if let Some(frame) = name.frame {
        file.push(format!("-{frame:06}"));
    }
    file.push(".png");
    file
}

/// The coding of frames on standard output.
#[derive(Clone, PartialEq)]
pub enum Coding {
    /// As PPM pictures.
    Pictures,
    /// As y4m video.
    Video(Arc<Header>),
}

/// A frame for standard output.
pub struct Frame {
    coding: Coding,
    bytes: Vec<u8>,
}

impl Frame {
    fn new(picture: &Picture, coding: Coding) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match &coding {
            Coding::Video(header) => header.write_frame(picture, &mut bytes)?,
            Coding::Pictures => {
                write!(bytes, "P6\n{} {}\n255\n", picture.width(), picture.height())?;
                bytes.extend_from_slice(picture.pixels());
            }
        }
        Ok(Self { coding, bytes })
    }

    /// Writes it after frames of `coding`, or as the first frame, which sets `coding`.
    pub fn write(&self, coding: &mut Option<Coding>, out: &mut impl Write) -> io::Result<()> {
        if coding.is_none() {
            if let Coding::Video(header) = &self.coding {
                header.write(out)?;
            }
            *coding = Some(self.coding.clone());
        }
        out.write_all(&self.bytes)
    }

    /// Returns whether it can follow frames of a coding: video has one header and one size.
    pub fn follows(&self, coding: &Coding) -> bool {
        *coding == self.coding
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns whether a drawing would be saved in its picture's folder, where it could replace another picture.
fn in_own_folder(path: &Path, name: &Name) -> bool {
    let folder = |path: &Path| fs::canonicalize(folder_of(path));
    !name.is_stdin() && matches!((folder(path), folder(&name.file)), (Ok(a), Ok(b)) if a == b)
}

/// Draws and saves each result.
pub struct Saver<'a> {
    savings: &'a [Saving<'a>],
    /// Input files, which must not be overwritten.
    read: FileSet,
    /// False if a list may name more pictures.
    is_complete: bool,
    /// The files written so far, so that no two pictures write the same file.
    written: Mutex<HashSet<PathBuf>>,
    /// The folders of the pictures so far, if a list may name more.
    folders: Mutex<HashSet<PathBuf>>,
}

impl<'a> Saver<'a> {
    /// Checks the destinations, and fails if one of them cannot be written.
    pub fn new(savings: &'a [Saving<'a>], read: FileSet, is_complete: bool) -> Result<Self> {
        let mut files: Vec<(&str, Target)> = Vec::new();
        for (at, saving) in savings.iter().enumerate() {
            let option = saving.option;
            match saving.place {
                Place::File(path) => {
                    let target = Target::sparing(path, &read).with_context(|| path.display().to_string())?;
                    if let Some((other, _)) = files.iter().find(|(_, other)| other.is(&target)) {
                        bail!("{other} and {option} are the same file");
                    }
                    files.push((option, target));
                }
                Place::Folder(folder) => {
                    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
                }
                Place::Stdout | Place::Pattern(_) => {}
            }
            if let Some(other) = savings[..at].iter().find(|other| other.place == saving.place) {
                bail!("{} and {option} are the same destination", other.option);
            }
        }
        Ok(Self { savings, read, is_complete, written: Mutex::default(), folders: Mutex::default() })
    }

    /// Returns whether frames go to standard output.
    pub fn streams(&self) -> bool {
        self.savings.iter().any(|saving| *saving.place == Place::Stdout)
    }

    /// Draws and saves a result. Returns the file names by key, and the frame for standard output.
    pub fn save(
        &self,
        subject: &Subject,
        prediction: &Prediction,
    ) -> Result<(Map<String, Value>, Option<Frame>)> {
        let (mut saved, mut frame) = (Map::new(), None);
        if let (false, Ok(file)) = (self.is_complete, fs::canonicalize(&subject.name.file)) {
            if lock(&self.written).contains(&file) {
                bail!("was overwritten with a result before it was read: name another folder to write to");
            }
            lock(&self.folders).insert(folder_of(&file).to_owned());
        }
        for Saving { option, key, place, draws } in self.savings {
            let picture =
                subject.picture.as_ref().ok_or_else(|| anyhow!("the decoded picture was not kept"))?;
            let drawn = draws(picture, prediction)?;
            if **place == Place::Stdout {
                let Drawn::Picture(picture) = drawn else {
                    bail!("{option}: only pictures can be written to standard output")
                };
                let coding = subject.video.clone().map_or(Coding::Pictures, Coding::Video);
                frame = Some(Frame::new(&picture, coding)?);
                continue;
            }
            let path = place.file(&subject.name)?;
            let bytes = match drawn {
                Drawn::Picture(picture) => drawing::encoded(&picture, &path)?,
                Drawn::Png(bytes) => bytes,
            };
            if matches!(place, Place::Folder(_)) && in_own_folder(&path, &subject.name) {
                bail!(
                    "{}: is in the picture's own folder: name another folder, or a pattern",
                    path.display()
                );
            }
            self.write(&path, &bytes).with_context(|| path.display().to_string())?;
            saved.insert((*key).into(), path.display().to_string().into());
        }
        Ok((saved, frame))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        fs::create_dir_all(folder_of(path))?;
        let target = Target::sparing(path, &self.read)?;
        if let Target::File(file) = &target {
            let mut written = lock(&self.written);
            if written.contains(file) {
                bail!(
                    "was written for another picture: name a folder, or a pattern with {}",
                    PLACEHOLDERS.join(", ")
                );
            }
            if file.exists() && lock(&self.folders).contains(folder_of(file)) {
                bail!(
                    "exists already and may be an input, because the list of pictures is not read to its end: \
                     name another folder"
                );
            }
            written.insert(file.clone());
        }
        target.write(bytes)
    }
}
