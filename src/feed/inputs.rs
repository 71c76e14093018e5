//! From what a user names to pictures: files, folders, patterns, lists and streams, one after another and opened once.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    lookahead::Lookahead,
    split,
    y4m::{self, Header},
};
use crate::{Error, session::Matrix, tasks::PictureLimits};

/// The ends of pictures' names in folders, where nobody says others. Those that cannot be read are among them, so
/// that they are told and not passed over.
pub const EXTENSIONS: [&str; 22] = [
    "apng", "avif", "bmp", "dib", "gif", "heic", "heif", "jfif", "jpe", "jpeg", "jpg", "jxl", "pam", "pbm",
    "pgm", "png", "pnm", "ppm", "qoi", "tif", "tiff", "webp",
];

/// What standard input is called.
const STDIN: &str = "-";

/// The most bytes of a line in a list.
const LINE_LIMIT: u64 = 1 << 16;

/// What a picture is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The file, or `-` for standard input.
    pub file: PathBuf,
    /// Which of its pictures, from 0, where a file or a stream may hold several.
    pub frame: Option<usize>,
    /// The folder that the user named, if it was found in one.
    pub folder: Option<Arc<Path>>,
}

impl Name {
    /// The way from the folder that the user named to the file's own; nothing if it was named itself.
    pub fn within(&self) -> &Path {
        let parent = self.folder.as_deref().and_then(|folder| self.file.parent()?.strip_prefix(folder).ok());
        parent.unwrap_or(Path::new(""))
    }

    /// Whether it came through standard input.
    pub fn is_stdin(&self) -> bool {
        self.file == Path::new(STDIN)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.frame {
            None => write!(f, "{}", self.file.display()),
            Some(frame) => write!(f, "{}#{frame}", self.file.display()),
        }
    }
}

/// A picture that is yet to be decoded.
pub struct Input {
    /// What it is called.
    pub name: Name,
    /// Where it is.
    pub content: Content,
}

/// Where a picture's bytes are.
pub enum Content {
    /// An open file, and its first bytes, which are read already.
    File(File, Vec<u8>),
    /// A whole file's bytes.
    Encoded(Vec<u8>),
    /// A frame of a video stream.
    Frame(Arc<Header>, Vec<u8>),
    /// Red, green and blue, of so many columns and rows.
    Raw([usize; 2], Vec<u8>),
    /// It cannot be had.
    Failed(Error),
}

impl Input {
    fn new(file: &Path, content: Content) -> Self {
        Self { name: Name { file: file.to_owned(), frame: None, folder: None }, content }
    }

    fn failed(file: &Path, error: Error) -> Self {
        Self::new(file, Content::Failed(error))
    }
}

/// How what a user names is read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The ends of pictures' names in folders, without their dots and in lower case.
    pub extensions: Vec<String>,
    /// Streams hold red, green and blue of so many columns and rows, and nothing else, unless they are y4m video.
    pub raw: Option<[usize; 2]>,
    /// The colours of y4m streams, which do not say.
    pub matrix: Matrix,
    /// The largest picture.
    pub limits: PictureLimits,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
            raw: None,
            // What video tools take where nothing is said.
            matrix: Matrix::Bt601,
            limits: PictureLimits::default(),
        }
    }
}

type Boxed = Box<dyn Iterator<Item = Input> + Send>;

/// The pictures that a user names, in order. Each of the names is a file, a folder (all pictures in it, at any depth),
/// a pattern such as `photos/*.jpg`, `-` for standard input, or `@` and a file with a name a line. What is no regular
/// file is a stream: of pictures one behind another, of a y4m video, or of raw pixels.
pub struct Inputs {
    names: VecDeque<OsString>,
    reading: Arc<Reading>,
    current: Option<Boxed>,
}

impl Inputs {
    /// Of what is named on a command line.
    pub fn new(names: impl IntoIterator<Item = OsString>, reading: Reading) -> Self {
        Self { names: names.into_iter().collect(), reading: Arc::new(reading), current: None }
    }

    /// How many names there are, if each is a file's.
    pub fn known(&self) -> Option<usize> {
        let is_file = |name: &OsString| name != STDIN && Path::new(name).is_file();
        self.names.iter().all(is_file).then_some(self.names.len())
    }
}

impl Iterator for Inputs {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        loop {
            if let Some(input) = self.current.as_mut().and_then(Iterator::next) {
                return Some(input);
            }
            self.current = Some(named(&self.names.pop_front()?, &self.reading));
        }
    }
}

/// The pictures of a name as a user gives it.
fn named(name: &OsStr, reading: &Arc<Reading>) -> Boxed {
    let path = Path::new(name);
    if name == STDIN {
        return stream(path, io::stdin(), reading);
    }
    if fs::metadata(path).is_ok() {
        return at(path, reading);
    }
    let bytes = name.as_encoded_bytes();
    if let Some(list) = bytes.strip_prefix(b"@") {
        return listed(path_of(list), reading.clone());
    }
    match name.to_str().filter(|_| bytes.iter().any(|byte| b"*?[".contains(byte))) {
        Some(pattern) => matching(pattern, reading),
        None => at(path, reading),
    }
}

/// The pictures at a path.
fn at(path: &Path, reading: &Arc<Reading>) -> Boxed {
    let opened = || {
        let found = fs::metadata(path)?;
        if found.is_dir() {
            return Ok(walk(path, reading));
        }
        let mut file = File::open(path)?;
        if !found.is_file() {
            return Ok(stream(path, file, reading));
        }
        let mut head = Vec::new();
        (&mut file).take(y4m::MAGIC.len() as u64).read_to_end(&mut head)?;
        Ok(match head == y4m::MAGIC {
            true => stream(path, io::Cursor::new(head).chain(file), reading),
            false => one(Input::new(path, Content::File(file, head))),
        })
    };
    opened().unwrap_or_else(|error: io::Error| one(Input::failed(path, Error::io(path)(error))))
}

fn one(input: Input) -> Boxed {
    Box::new(std::iter::once(input))
}

/// The pictures in a folder and those in it, by name.
fn walk(folder: &Path, reading: &Arc<Reading>) -> Boxed {
    let (reading, own): (_, Arc<Path>) = (reading.clone(), folder.into());
    let named = own.clone();
    let hidden = |entry: &walkdir::DirEntry| {
        entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    let entries = walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    let mut found = false;
    let mut entries = entries.filter_entry(move |entry| !hidden(entry));
    Box::new(
        std::iter::from_fn(move || {
            for entry in entries.by_ref() {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        found = true;
                        let path = error.path().unwrap_or(&own).to_owned();
                        return Some(one(Input::failed(&path, Error::file(&path, error.to_string()))));
                    }
                };
                let extension = entry.path().extension().and_then(OsStr::to_str).map(str::to_lowercase);
                if !entry.file_type().is_dir() && extension.is_some_and(|e| reading.extensions.contains(&e)) {
                    found = true;
                    return Some(at(entry.path(), &reading));
                }
            }
            if std::mem::replace(&mut found, true) {
                return None;
            }
            let reason = format!("the folder has no file that ends in .{}", reading.extensions.join(", ."));
            Some(one(Input::failed(&own, Error::file(&*own, reason))))
        })
        .flatten()
        .map(move |input| Input { name: Name { folder: Some(named.clone()), ..input.name }, ..input }),
    )
}

/// What a pattern matches, by name.
fn matching(pattern: &str, reading: &Arc<Reading>) -> Boxed {
    let failed = |reason: String| one(Input::failed(Path::new(pattern), Error::file(pattern, reason)));
    // As shells have it: what is hidden is named.
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let found: Vec<_> = match glob::glob_with(pattern, options) {
        Ok(found) => found.collect(),
        Err(error) => return failed(format!("is no pattern: {error}")),
    };
    if found.is_empty() {
        return failed("no file has such a name".into());
    }
    let reading = reading.clone();
    Box::new(found.into_iter().flat_map(move |found| match found {
        Ok(path) => at(&path, &reading),
        Err(error) => {
            let path = error.path().to_owned();
            one(Input::failed(&path, Error::io(&path)(error.into())))
        }
    }))
}

/// The pictures that a file names, one a line.
fn listed(list: PathBuf, reading: Arc<Reading>) -> Boxed {
    let opened: io::Result<Box<dyn BufRead + Send>> = if list == Path::new(STDIN) {
        Ok(Box::new(BufReader::new(io::stdin())))
    } else {
        File::open(&list).map(|file| Box::new(BufReader::new(file)) as Box<dyn BufRead + Send>)
    };
    let mut lines = match opened {
        Ok(lines) => Some(lines),
        Err(error) => return one(Input::failed(&list, Error::io(&list)(error))),
    };
    let paths = std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            let reader = lines.as_mut()?;
            match reader.take(LINE_LIMIT).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(count) if count as u64 == LINE_LIMIT => {
                    lines = None;
                    let reason = "a line is too long: expected the name of a picture in each";
                    return Some(one(Input::failed(&list, Error::file(&list, reason))));
                }
                Ok(_) => {}
                Err(error) => {
                    lines = None;
                    return Some(one(Input::failed(&list, Error::io(&list)(error))));
                }
            }
            let line = line.trim_ascii_end();
            if !line.is_empty() {
                return Some(at(&path_of(line), &reading));
            }
        }
    });
    Box::new(paths.flatten())
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> PathBuf {
    <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).into()
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// The pictures of a stream.
fn stream(path: &Path, reader: impl Read + Send + 'static, reading: &Arc<Reading>) -> Boxed {
    let stream = Stream { stream: Lookahead::new(reader), kind: None, reading: reading.clone() };
    let (path, mut frame) = (path.to_owned(), 0);
    let mut contents = stream.fuse();
    Box::new(std::iter::from_fn(move || {
        let content = contents.next()?;
        let content = content.unwrap_or_else(|reason| Content::Failed(Error::file(&path, reason)));
        frame += 1;
        Some(Input { name: Name { file: path.clone(), frame: Some(frame - 1), folder: None }, content })
    }))
}

struct Stream<R> {
    stream: Lookahead<R>,
    /// Unknown before the first bytes came.
    kind: Option<Kind>,
    reading: Arc<Reading>,
}

#[derive(Clone)]
enum Kind {
    Video(Arc<Header>),
    Raw([usize; 2]),
    Pictures,
    /// Nothing more can be read.
    Ended,
}

impl<R: Read> Stream<R> {
    fn begin(&mut self) -> Result<Kind, String> {
        let start = self.stream.peek(y4m::MAGIC.len()).map_err(|e| e.to_string())?;
        // Video says so itself, whatever the other streams are.
        if !start.starts_with(y4m::MAGIC) {
            if start.is_empty() {
                return Err("is empty: expected pictures".into());
            }
            return Ok(self.reading.raw.map_or(Kind::Pictures, Kind::Raw));
        }
        let header = Header::read(&mut self.stream, self.reading.matrix)?;
        self.admits(header.width, header.height)?;
        Ok(Kind::Video(Arc::new(header)))
    }

    /// Whether frames of this size may be held: their samples and the pixels made of them.
    fn admits(&self, width: usize, height: usize) -> Result<(), String> {
        self.reading.limits.admits(width as u64, height as u64, 9)
    }

    fn frame(&mut self, kind: &Kind) -> Result<Option<Content>, String> {
        match kind {
            Kind::Video(header) => {
                let samples = header.read_frame(&mut self.stream)?;
                Ok(samples.map(|samples| Content::Frame(header.clone(), samples)))
            }
            &Kind::Raw(size) => {
                let bytes = size[0].checked_mul(size[1]).and_then(|pixels| pixels.checked_mul(3));
                let bytes = bytes.ok_or("the frames are too large")?;
                self.admits(size[0], size[1])?;
                let mut pixels = Vec::new();
                (&mut self.stream).take(bytes as u64).read_to_end(&mut pixels).map_err(|e| e.to_string())?;
                match pixels.len() {
                    0 => Ok(None),
                    count if count == bytes => Ok(Some(Content::Raw(size, pixels))),
                    count => Err(format!("the frame is cut short: {count} bytes of {bytes}")),
                }
            }
            Kind::Pictures => {
                let bytes = split::next(
                    &mut self.stream,
                    usize::try_from(self.reading.limits.memory).unwrap_or(usize::MAX),
                )?;
                Ok(bytes.map(Content::Encoded))
            }
            Kind::Ended => Ok(None),
        }
    }
}

impl<R: Read> Iterator for Stream<R> {
    type Item = Result<Content, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let kind = match self.kind.clone() {
            Some(kind) => Ok(kind),
            None => self.begin(),
        };
        let frame = kind.and_then(|kind| {
            self.kind = Some(kind.clone());
            self.frame(&kind)
        });
        if frame.is_err() {
            // Where the next one would begin is not known.
            self.kind = Some(Kind::Ended);
        }
        frame.transpose()
    }
}
