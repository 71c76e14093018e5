//! Inputs from files, folders, patterns, lists and streams, one after another and each opened once.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    found::{self, Files, Found, STDIN},
    lookahead::Lookahead,
    split,
    y4m::{self, Header},
};
use crate::{
    Error, Result, files,
    session::YuvMatrix,
    tasks::{Picture, PictureLimits},
};

/// The default file extensions of pictures in folders. They include formats that are not supported, so that
/// such files are reported, not skipped.
pub const EXTENSIONS: [&str; 22] = [
    "apng", "avif", "bmp", "dib", "gif", "heic", "heif", "jfif", "jpe", "jpeg", "jpg", "jxl", "pam", "pbm",
    "pgm", "png", "pnm", "ppm", "qoi", "tif", "tiff", "webp",
];

/// The name of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The file, or `-` for standard input.
    pub file: PathBuf,
    /// The index of the picture, from 0, in a file or stream that may hold several.
    pub frame: Option<usize>,
    /// The folder that the user named, if the file was found in one.
    pub folder: Option<Arc<Path>>,
}

impl Name {
    /// Returns the path from the folder that the user named to the file's folder; empty if the user named the
    /// file.
    pub fn subfolder(&self) -> &Path {
        let parent = self.folder.as_deref().and_then(|folder| self.file.parent()?.strip_prefix(folder).ok());
        parent.unwrap_or(Path::new(""))
    }

    /// Returns true if the picture came through standard input.
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

/// A picture that is not decoded yet.
pub struct Input {
    /// Its name.
    pub name: Name,
    /// Its bytes, or the error.
    pub content: Content,
}

/// The bytes of a picture that is not decoded yet.
pub enum Content {
    /// An open file, and its first bytes, which are already read.
    File(File, Vec<u8>),
    /// A whole file's bytes.
    Encoded(Vec<u8>),
    /// A frame of a video stream.
    Frame(Arc<Header>, Vec<u8>),
    /// RGB pixels of this many columns and rows.
    Raw([usize; 2], Vec<u8>),
    /// A function that makes the picture. One of the pipeline's threads calls it.
    Lazy(Box<dyn FnOnce() -> Result<Picture> + Send>),
    /// The picture could not be read.
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

/// Options for reading inputs.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The file extensions of pictures in folders, in lower case and without the dot.
    pub extensions: Vec<String>,
    /// Columns and rows of the pictures in streams of raw RGB pixels; `None` if streams hold encoded
    /// pictures. y4m video is recognised in both cases.
    pub raw: Option<[usize; 2]>,
    /// The colour matrix of y4m streams, which do not record it.
    pub matrix: YuvMatrix,
    /// The limits of a picture's size.
    pub limits: PictureLimits,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
            raw: None,
            // The default of video tools.
            matrix: YuvMatrix::Bt601,
            limits: PictureLimits::default(),
        }
    }
}

type Boxed = Box<dyn Iterator<Item = Input> + Send>;

/// The pictures that a user names, in order. Each name is a file, a folder (all pictures in it, at any
/// depth), a pattern such as `photos/*.jpg`, `-` for standard input, or `@` and the path of a list with one
/// name per line. Standard input, pipes and devices are streams of concatenated pictures, of y4m video, or of
/// raw pixels.
pub struct Inputs {
    left: VecDeque<Left>,
    /// The remaining files of the current name.
    files: Option<Files>,
    /// The remaining pictures of the current file.
    inputs: Option<Boxed>,
    reading: Arc<Reading>,
    /// Lists that were read completely.
    lists: Vec<PathBuf>,
}

/// A name or file that is not read yet.
enum Left {
    Name(OsString),
    Found(Found),
}

impl Inputs {
    /// Creates inputs from names as on a command line.
    pub fn new(names: impl IntoIterator<Item = OsString>, reading: Reading) -> Self {
        let left = names.into_iter().map(Left::Name).collect();
        Self { left, files: None, inputs: None, reading: Arc::new(reading), lists: Vec::new() }
    }

    /// Creates inputs from the program's own pictures. The iterator is read as the pipeline needs them.
    ///
    /// ```
    /// use goldcrest::{feed::{Content, Input, Inputs, Name}, tasks::Picture};
    ///
    /// let grey = |at: usize| {
    ///     let picture = move || Picture::new(4, 3, vec![40 * at as u8; 3 * 12]);
    ///     let name = Name { file: format!("grey {at}").into(), frame: None, folder: None };
    ///     Input { name, content: Content::Lazy(Box::new(picture)) }
    /// };
    /// assert_eq!(Inputs::of((0..5).map(grey)).known(), Some(5));
    /// ```
    pub fn of(inputs: impl IntoIterator<Item = Input, IntoIter: Send + 'static>) -> Self {
        Self { inputs: Some(Box::new(inputs.into_iter())), ..Self::new([], Reading::default()) }
    }

    /// Finds all files now instead of when they are reached, so that files written later are not inputs. Lists
    /// that come through a pipe are still read later.
    pub fn settle(&mut self) {
        for left in std::mem::take(&mut self.left) {
            match left {
                Left::Name(name) if !found::is_piped(&name) => {
                    self.lists.extend(found::list(&name));
                    self.left.extend(found::named(&name, &self.reading).map(Left::Found));
                }
                left => self.left.push_back(left),
            }
        }
    }

    /// Returns true if all files were found.
    pub fn is_settled(&self) -> bool {
        self.left.iter().all(|left| matches!(left, Left::Found(_)))
    }

    /// Returns the files that were found and not read yet, and the lists that named them.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let found = self.left.iter().filter_map(|left| match left {
            Left::Found(Found::Named(path) | Found::File { path, .. }) => Some(path.as_path()),
            // The shell may have redirected standard input from a file.
            Left::Found(Found::Stdin) => Some(Path::new("/dev/stdin")),
            _ => None,
        });
        found.chain(self.lists.iter().map(PathBuf::as_path))
    }

    /// Returns the files that are not read yet, without opening them, and what could not be found. Lists that
    /// come through a pipe are read.
    pub fn into_files(self) -> impl Iterator<Item = Result<PathBuf>> {
        let reading = self.reading;
        let found = self.left.into_iter().flat_map(move |left| -> Files {
            match left {
                Left::Name(name) => found::named(&name, &reading),
                Left::Found(found) => Box::new(std::iter::once(found)),
            }
        });
        found.map(|found| match found {
            Found::Named(path) | Found::File { path, .. } => Ok(path),
            Found::Stdin => Err(Error::Input("standard input is no file".into())),
            Found::Failed(_, error) => Err(error),
        })
    }

    /// Returns the number of inputs, if all of them are files that were found, or if the program's iterator
    /// knows it. An animation, or a file of several pages, is one input. Each frame of a video is one, so the
    /// number is unknown if a file's extension is `y4m`.
    pub fn known(&self) -> Option<usize> {
        let own = self.inputs.as_ref().map_or((0, Some(0)), Iterator::size_hint);
        let is_video = |path: &Path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("y4m"));
        let is_one = |left: &Left| match left {
            Left::Name(name) => name != STDIN && Path::new(name).is_file() && !is_video(Path::new(name)),
            Left::Found(Found::Named(path)) => path.is_file() && !is_video(path),
            Left::Found(Found::File { path, .. }) => !is_video(path),
            Left::Found(Found::Stdin | Found::Failed(..)) => false,
        };
        let exact = own.1 == Some(own.0) && self.left.iter().all(is_one);
        exact.then_some(own.0 + self.left.len())
    }
}

impl Iterator for Inputs {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        loop {
            if let Some(input) = self.inputs.as_mut().and_then(Iterator::next) {
                return Some(input);
            }
            if let Some(found) = self.files.as_mut().and_then(Iterator::next) {
                self.inputs = Some(open(found, &self.reading));
                continue;
            }
            match self.left.pop_front()? {
                Left::Name(name) => self.files = Some(found::named(&name, &self.reading)),
                Left::Found(found) => self.inputs = Some(open(found, &self.reading)),
            }
        }
    }
}

/// Opens a file and returns its pictures.
fn open(found: Found, reading: &Arc<Reading>) -> Boxed {
    let (opened, path, folder) = match found {
        Found::Stdin => return stream(Path::new(STDIN), io::stdin(), reading),
        Found::Failed(path, error) => return one(Input::failed(&path, error)),
        Found::Named(path) => (File::open(&path).map_err(Error::io(&path)), path, None),
        // Refuses pipes that were found in a folder: without a writer, opening them blocks.
        Found::File { path, folder } => (files::open(&path), path, folder),
    };
    let pictures = opened.and_then(|file| pictures_of_file(&path, file, reading).map_err(Error::io(&path)));
    let inputs = pictures.unwrap_or_else(|error| one(Input::failed(&path, error)));
    Box::new(inputs.map(move |input| Input { name: Name { folder: folder.clone(), ..input.name }, ..input }))
}

/// Returns the pictures of an open file. It is read as a stream if it is video or not a regular file.
fn pictures_of_file(path: &Path, mut file: File, reading: &Arc<Reading>) -> io::Result<Boxed> {
    if !file.metadata()?.is_file() {
        return Ok(stream(path, file, reading));
    }
    let mut head = Vec::new();
    (&mut file).take(y4m::MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(match head == y4m::MAGIC {
        true => stream(path, io::Cursor::new(head).chain(file), reading),
        false => one(Input::new(path, Content::File(file, head))),
    })
}

fn one(input: Input) -> Boxed {
    Box::new(std::iter::once(input))
}

/// Returns the pictures of a stream.
fn stream(path: &Path, reader: impl Read + Send + 'static, reading: &Arc<Reading>) -> Boxed {
    let (stream, reading) = (Lookahead::new(reader), reading.clone());
    let stream = Stream { stream, kind: None, reading, before: Before::Nothing };
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
    /// Unknown until the first bytes arrive.
    kind: Option<Kind>,
    reading: Arc<Reading>,
    /// The kind of pictures read so far.
    before: Before,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Pictures,
    /// An animation, whose frames use the indices that further pictures would need.
    Animation,
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
        // Video is recognised by its header, even if other streams are raw pixels.
        if !start.starts_with(y4m::MAGIC) {
            return Ok(self.reading.raw.map_or(Kind::Pictures, Kind::Raw));
        }
        let header = Header::read(&mut self.stream, self.reading.matrix)?;
        self.admits(header.width, header.height)?;
        Ok(Kind::Video(Arc::new(header)))
    }

    /// Checks that frames of this size are within the limits: their samples and the pixels converted from
    /// them.
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
                let most = usize::try_from(self.reading.limits.memory).unwrap_or(usize::MAX);
                let Some((bytes, animated)) =
                    split::next(&mut self.stream, most, self.before == Before::Nothing)?
                else {
                    return Ok(None);
                };
                if self.before == Before::Animation || (animated && self.before == Before::Pictures) {
                    return Err(
                        "the stream contains an animation and other pictures: pass them as files".into()
                    );
                }
                self.before = if animated { Before::Animation } else { Before::Pictures };
                Ok(Some(Content::Encoded(bytes)))
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
        let first = self.kind.is_none();
        let frame = kind.and_then(|kind| {
            self.kind = Some(kind.clone());
            match self.frame(&kind)? {
                None if first => Err("is empty: expected pictures".into()),
                frame => Ok(frame),
            }
        });
        if frame.is_err() {
            // The start of the next picture is unknown.
            self.kind = Some(Kind::Ended);
        }
        frame.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_videos_frames_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let [picture, video] = ["a.png", "b.Y4M"].map(|name| folder.path().join(name));
        for file in [&picture, &video] {
            std::fs::write(file, "").unwrap();
        }
        for (files, expected) in [([&picture, &picture], Some(2)), ([&picture, &video], None)] {
            let mut inputs = Inputs::new(files.map(|file| file.clone().into()), Reading::default());
            assert_eq!(inputs.known(), expected);
            inputs.settle();
            assert_eq!(inputs.known(), expected);
        }
    }
}
