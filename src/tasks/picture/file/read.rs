//! Reads pictures from files. A file is opened once and read within limits, and its format is detected from
//! its bytes.

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io::{Cursor, Read},
    path::{Path, PathBuf},
};

use super::{
    Picture, PictureLimits,
    format::{Format, MAGIC_BYTES},
    gif, jpeg,
    limits::Budget,
    plain, png, tiff, webp,
};
use crate::{Error, Result};

impl Picture {
    /// Reads a picture from a JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or QOI file. The format is detected from
    /// the file's content, not its name. Only the first frame of an animation, or the first of several pages,
    /// is read; [`Frames`] reads all.
    ///
    /// The picture is turned upright by its EXIF or TIFF orientation, stored as any integer type; a missing
    /// or damaged orientation is ignored. Grey, palette and CMYK become RGB, alpha is dropped, and only the
    /// high 8 of 16 bits are kept. Colour profiles are ignored, as in the libraries that trained the
    /// networks. JPEGs decode to the same pixels as in libjpeg-turbo, which Pillow uses.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::File`] if it has another format, is damaged or cut
    /// short, or exceeds [`PictureLimits::default`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, PictureLimits::default())
    }

    /// As [`Picture::open`], with other limits.
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn open_with(path: impl AsRef<Path>, limits: PictureLimits) -> Result<Self> {
        Frames::open(path, limits)?.first()
    }

    /// Reads a picture from a file's bytes, as [`Picture::open`] does. Error messages use `name`.
    ///
    /// # Errors
    /// As [`Picture::open`], without [`Error::Io`].
    pub fn decode(bytes: &[u8], name: impl AsRef<Path>) -> Result<Self> {
        Self::decode_with(bytes, name, PictureLimits::default())
    }

    /// As [`Picture::decode`], with other limits.
    ///
    /// # Errors
    /// As [`Picture::decode`].
    pub fn decode_with(bytes: &[u8], name: impl AsRef<Path>, limits: PictureLimits) -> Result<Self> {
        Frames::decode(bytes, name, limits)?.first()
    }
}

/// A file's bytes, owned or borrowed.
pub(super) type Bytes<'a> = Cursor<Cow<'a, [u8]>>;

/// A decoder of the pictures in one file.
pub(super) trait Decode {
    /// Decodes the next picture; `None` after the last.
    ///
    /// # Errors
    /// A message if the file is damaged or not supported.
    fn next(&mut self) -> Result<Option<Picture>, String>;
}

/// An iterator over the pictures of one file: the complete frames of an animation (GIF, APNG, WebP), the
/// pages of a TIFF, or the single picture of another file.
///
/// Pictures are decoded on demand, so memory does not grow with their number. The first error ends the
/// iteration.
pub struct Frames<'a> {
    name: PathBuf,
    decoder: Option<Box<dyn Decode + Send + 'a>>,
}

impl fmt::Debug for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({})", self.name.display())
    }
}

impl Frames<'static> {
    /// Opens a file or a pipe, and reads its header.
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn open(path: impl AsRef<Path>, limits: PictureLimits) -> Result<Self> {
        let path = path.as_ref();
        Self::read(File::open(path).map_err(Error::io(path))?, path, limits)
    }

    /// Reads a file to its end, up to [`PictureLimits::memory`] bytes. Error messages use `name`.
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn read(mut file: impl Read, name: impl AsRef<Path>, limits: PictureLimits) -> Result<Self> {
        let name = name.as_ref();
        let mut bytes = Vec::new();
        let mut read = |bytes: &mut Vec<u8>, most: u64| {
            file.by_ref().take(most).read_to_end(bytes).map_err(Error::io(name))
        };
        // The format is detected first, so that a large file of another format is not read whole.
        read(&mut bytes, MAGIC_BYTES as u64)?;
        Format::of(&bytes).map_err(|reason| Error::file(name, reason))?;
        let left = limits.memory.saturating_sub(bytes.len() as u64);
        read(&mut bytes, left.saturating_add(1))?;
        if bytes.len() as u64 > limits.memory {
            return Err(Error::file(
                name,
                format!(
                    "the file is larger than the limit of {} MiB (--max-memory, PictureLimits::memory)",
                    limits.memory >> 20
                ),
            ));
        }
        Self::of(Cow::Owned(bytes), name, limits)
    }
}

impl<'a> Frames<'a> {
    /// Opens the pictures in a file's bytes. Error messages use `name`.
    ///
    /// # Errors
    /// As [`Picture::decode`].
    pub fn decode(bytes: &'a [u8], name: impl AsRef<Path>, limits: PictureLimits) -> Result<Self> {
        Self::of(Cow::Borrowed(bytes), name.as_ref(), limits)
    }

    fn of(bytes: Cow<'a, [u8]>, name: &Path, limits: PictureLimits) -> Result<Self> {
        let budget = limits.less(bytes.len());
        match decoder(Cursor::new(bytes), budget) {
            Ok(decoder) => Ok(Self { name: name.into(), decoder: Some(decoder) }),
            Err(reason) => Err(one_line(name, &reason)),
        }
    }

    fn first(mut self) -> Result<Picture> {
        self.next().unwrap_or_else(|| Err(Error::file(&self.name, "there is no picture in the file")))
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<Picture>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.decoder.as_mut()?.next();
        if !matches!(found, Ok(Some(_))) {
            self.decoder = None;
        }
        found.map_err(|reason| one_line(&self.name, &reason)).transpose()
    }
}

fn decoder<'a>(bytes: Bytes<'a>, budget: Budget) -> Result<Box<dyn Decode + Send + 'a>, String> {
    Ok(match Format::of(bytes.get_ref())? {
        Format::Gif => Box::new(gif::decoder(bytes, budget)?),
        Format::Jpeg => Box::new(jpeg::decoder(bytes, budget)),
        Format::Png => Box::new(png::decoder(bytes, budget)?),
        Format::Tiff => Box::new(tiff::decoder(bytes, budget)?),
        Format::WebP => Box::new(webp::decoder(bytes, budget)?),
        format @ (Format::Bmp | Format::Pnm | Format::Qoi) => Box::new(plain::decoder(bytes, format, budget)),
    })
}

/// Makes an error whose message has one line, as decoders may quote a file's content.
fn one_line(name: &Path, reason: &str) -> Error {
    let words: Vec<_> = reason.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    Error::file(name, words.join(" "))
}
