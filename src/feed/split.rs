//! Where a picture ends in a stream of several, as `ffmpeg -f image2pipe` writes them: the formats that say so
//! themselves.

use std::io::{self, BufRead, Read};

use memchr::memmem;

use crate::tasks::{Format, MAGIC_BYTES, jpeg_end, tiff_end};

/// Bytes that tell every format that is read: a BMP's second header says its length there.
const START: usize = 18;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// A stream of which any number of bytes can be looked at before they are taken.
pub struct Lookahead<R> {
    reader: R,
    bytes: Vec<u8>,
    ended: bool,
}

impl<R: Read> Lookahead<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, bytes: Vec::new(), ended: false }
    }

    /// What was looked at so far, at least `count` bytes of it unless the stream ends before.
    pub fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.bytes.len() < count && !self.ended {
            let from = self.bytes.len();
            self.bytes.resize(from + CHUNK.max((count - from).min(16 * CHUNK)), 0);
            let read = match self.reader.read(&mut self.bytes[from..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    self.bytes.truncate(from);
                    continue;
                }
                read => read,
            };
            self.bytes.truncate(from + *read.as_ref().unwrap_or(&0));
            self.ended = read? == 0;
        }
        Ok(&self.bytes)
    }

    /// Takes the next `count` bytes, which were looked at.
    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.bytes.split_off(count.min(self.bytes.len()));
        std::mem::replace(&mut self.bytes, rest)
    }
}

impl<R: Read> BufRead for Lookahead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.drain(..count);
    }
}

impl<R: Read> Read for Lookahead<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return if self.ended { Ok(0) } else { self.reader.read(into) };
        }
        let count = into.len().min(self.bytes.len());
        into[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes.drain(..count);
        Ok(count)
    }
}

/// The bytes of the next picture; none at the end of the stream. A format that does not say where it ends is taken to
/// be the last. `limit` is the most bytes of a picture.
///
/// # Errors
/// What is wrong, if the picture is cut short or larger than the limit, if its end is not known and another follows, or
/// if the stream cannot be read.
pub fn next<R: Read>(stream: &mut Lookahead<R>, limit: usize) -> Result<Option<Vec<u8>>, String> {
    // As many as tell a format, and no more: the next picture may be yet to come.
    let found = stream.peek(START).map_err(|e| e.to_string())?;
    if found.is_empty() {
        return Ok(None);
    }
    // The start decides, so that what is no picture is not read to its end.
    Format::of(&found[..found.len().min(MAGIC_BYTES)])?;
    let mut start = [0; 4];
    start.iter_mut().zip(found).for_each(|(to, from)| *to = *from);
    let mut window = Window { stream, limit };
    let length = match start {
        [0xff, 0xd8, 0xff, _] => window.jpeg()?,
        [0x89, b'P', b'N', b'G'] => window.png()?,
        [b'P', b'4'..=b'6', space, _] if space.is_ascii_whitespace() => window.pnm()?,
        [b'P', b'7', b'\n', _] => window.pam()?,
        [b'B', b'M', ..] => window.u32(2)?.max(14),
        [b'R', b'I', b'F', b'F'] => {
            let length = window.u32(4)?;
            length + length % 2 + 8
        }
        _ => window.last(start)?,
    };
    window.reach(length)?;
    Ok(Some(stream.take(length)))
}

/// The stream from the start of a picture.
struct Window<'a, R> {
    stream: &'a mut Lookahead<R>,
    limit: usize,
}

impl<R: Read> Window<'_, R> {
    /// The picture's first bytes, `count` at least.
    fn reach(&mut self, count: usize) -> Result<&[u8], String> {
        if count > self.limit {
            return Err(format!("the picture has more than {} bytes", self.limit));
        }
        let bytes = self.stream.peek(count).map_err(|e| e.to_string())?;
        if bytes.len() < count {
            return Err("the picture is cut short: the stream ends within it".into());
        }
        Ok(bytes)
    }

    /// The byte at `at`, looked at with many that follow.
    fn byte(&mut self, at: usize) -> Result<u8, String> {
        Ok(self.reach(at + 1)?[at])
    }

    /// A number of four bytes, the lowest first.
    fn u32(&mut self, at: usize) -> Result<usize, String> {
        let bytes = &self.reach(at + 4)?[at..];
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    }

    /// Segment by segment to the end marker.
    fn jpeg(&mut self) -> Result<usize, String> {
        let (mut at, mut there) = (2, 2);
        loop {
            let bytes = self.reach(there)?;
            there = bytes.len() + 1;
            if let Some(end) = jpeg_end(bytes, &mut at) {
                return Ok(end);
            }
        }
    }

    /// Chunk by chunk to the last.
    fn png(&mut self) -> Result<usize, String> {
        let mut at = 8;
        loop {
            let chunk = &self.reach(at + 8)?[at..];
            let length = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) as usize;
            let last = &chunk[4..8] == b"IEND";
            at += length + 12;
            if last {
                return Ok(at);
            }
            // So that a damaged length asks for no more than there may be.
            self.reach(at)?;
        }
    }

    /// Numbers in words, then as many bytes as they say.
    fn pnm(&mut self) -> Result<usize, String> {
        let kind = self.byte(1)?;
        let mut at = 2;
        let width = self.number(&mut at)?;
        let height = self.number(&mut at)?;
        let row = match kind {
            b'4' => Some(width.div_ceil(8)),
            kind => {
                let bytes = if self.number(&mut at)? > 255 { 2 } else { 1 };
                width.checked_mul(bytes * if kind == b'6' { 3 } else { 1 })
            }
        };
        // One white space stands before the pixels.
        let pixels = row.and_then(|row| row.checked_mul(height));
        pixels.and_then(|bytes| bytes.checked_add(at + 1)).ok_or_else(|| "the picture is too large".into())
    }

    /// The next number of a header, between white space and comments.
    fn number(&mut self, at: &mut usize) -> Result<usize, String> {
        let mut comment = false;
        loop {
            match self.byte(*at)? {
                b'\n' | b'\r' => comment = false,
                _ if comment => {}
                b'#' => comment = true,
                byte if byte.is_ascii_whitespace() => {}
                _ => break,
            }
            *at += 1;
        }
        let first = *at;
        while self.byte(*at)?.is_ascii_digit() {
            *at += 1;
        }
        let digits = String::from_utf8_lossy(&self.reach(*at)?[first..*at]).into_owned();
        digits.parse().map_err(|_| "the picture's header is damaged".into())
    }

    /// Lines of names and numbers up to `ENDHDR`, then as many bytes as they say.
    fn pam(&mut self) -> Result<usize, String> {
        let (mut at, mut bytes) = (3, Some(1));
        loop {
            let first = at;
            while self.byte(at)? != b'\n' {
                at += 1;
            }
            at += 1;
            let line = String::from_utf8_lossy(&self.reach(at)?[first..at]).into_owned();
            let mut words = line.split_ascii_whitespace();
            let (name, value) = (words.next(), words.next().and_then(|value| value.parse::<usize>().ok()));
            match (name, value) {
                (Some("ENDHDR"), _) => break,
                (Some("WIDTH" | "HEIGHT" | "DEPTH"), Some(value)) => {
                    bytes = bytes.and_then(|bytes: usize| bytes.checked_mul(value));
                }
                (Some("MAXVAL"), Some(256..)) => bytes = bytes.and_then(|bytes| bytes.checked_mul(2)),
                _ => {}
            }
        }
        bytes.and_then(|bytes| bytes.checked_add(at)).ok_or_else(|| "the picture is too large".into())
    }

    /// Everything that is left. Where it would hold another picture of the kind, that one would go unseen.
    fn last(&mut self, start: [u8; 4]) -> Result<usize, String> {
        let mut count = 0;
        loop {
            let found = self.stream.peek(count + 1).map_err(|e| e.to_string())?.len();
            if found > self.limit {
                return Err(format!("the picture has more than {} bytes", self.limit));
            }
            if found <= count {
                break;
            }
            count = found;
        }
        // What follows the letters of a PNM is its own; the others' four bytes are their format's.
        let magic = if start[0] == b'P' { &start[..3] } else { &start[..] };
        let bytes = self.reach(count)?;
        let from = if matches!(start[0], b'I' | b'M') { tiff_end(bytes).unwrap_or(0) } else { 0 };
        match memmem::find(&bytes[from.max(1)..], magic) {
            None => Ok(count),
            Some(_) => Err("pictures of this format cannot be told apart in a stream: \
                name their files, or send PNG or JPEG"
                .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes a few at a time, as pipes may.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(into.len()).min(self.0.len());
            let (now, later) = self.0.split_at(count);
            into[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Vec<u8>>, String> {
        let mut stream = Lookahead::new(Dribble(bytes, step));
        std::iter::from_fn(|| next(&mut stream, 1 << 20).transpose()).collect()
    }

    fn pictures() -> Vec<Vec<u8>> {
        let image = image::RgbImage::from_fn(19, 7, |x, y| image::Rgb([x as u8 * 13, y as u8 * 31, 0xff]));
        let write = |format| {
            let mut bytes = io::Cursor::new(Vec::new());
            image::DynamicImage::from(image.clone()).write_to(&mut bytes, format).unwrap();
            bytes.into_inner()
        };
        let mut jpeg = write(image::ImageFormat::Jpeg);
        // A segment with the end marker of a thumbnail, and bytes that fill up before a marker.
        jpeg.splice(2..2, *b"\xff\xe1\x00\x06\xff\xd9\xff\xd8\xff\xff");
        let png = write(image::ImageFormat::Png);
        let ppm = [b"P6 # 9 9\n19 7\n255\n", &image.as_raw()[..]].concat();
        let deep = [b"P5\n3 2 65535\n", &[7; 12][..]].concat();
        let bits = [b"P4\n9 2\n", &[0xa5; 4][..]].concat();
        let pam = [b"P7\nWIDTH 3\nHEIGHT 2\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n", &[1; 24][..]]
            .concat();
        let mut bmp = b"BM".to_vec();
        bmp.extend(70u32.to_le_bytes());
        bmp.extend([0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0]);
        bmp.resize(70, 3);
        let mut webp = b"RIFF".to_vec();
        webp.extend(13u32.to_le_bytes());
        webp.extend(b"WEBP");
        webp.resize(8 + 14, 5);
        vec![jpeg, png, ppm, deep, bits, pam, bmp, webp]
    }

    #[test]
    fn pictures_are_found_one_after_another_however_they_come() {
        let mut pictures = pictures();
        pictures.push(b"GIF89a and whatever follows".to_vec());
        for step in [1, 3, 4096, usize::MAX] {
            assert!(all(&pictures.concat(), step).unwrap() == pictures, "{step}");
        }
        assert!(all(&[], 1).unwrap().is_empty());
    }

    #[test]
    fn a_second_picture_whose_start_is_not_known_is_refused() {
        for start in [
            &b"GIF87a"[..],
            b"GIF89a",
            b"qoif",
            b"II*\0",
            b"MM\0*",
            b"II+\0",
            b"MM\0+",
            b"P1\n",
            b"P2 ",
            b"P3\n",
        ] {
            let one = [start, b" 1 1 15 7 and whatever follows\n"].concat();
            assert!(all(&one, usize::MAX).unwrap() == [one.clone()], "{start:?}");
            for step in [1, 4096] {
                let error = all(&[&one[..], &one].concat(), step).unwrap_err();
                assert!(error.contains("cannot be told apart"), "{start:?}: {error}");
            }
        }
    }

    #[test]
    fn one_picture_whose_end_is_not_known_is_a_picture() {
        let files = std::fs::read_dir("tests/fixtures/formats").unwrap().map(|file| file.unwrap().path());
        let mut count = 0;
        for file in files.filter(|file| file.extension().is_some_and(|end| end == "gif" || end == "tif")) {
            let bytes = std::fs::read(&file).unwrap();
            assert!(all(&bytes, 4096).unwrap() == [bytes], "{}", file.display());
            count += 1;
        }
        assert!(count > 10);
    }

    #[test]
    fn every_cut_is_told() {
        for picture in pictures() {
            for length in START..picture.len() {
                let error = all(&picture[..length], usize::MAX).unwrap_err();
                assert!(error.contains("cut short"), "{:?} {length}: {error}", &picture[..4]);
            }
        }
    }

    #[test]
    fn nothing_is_read_without_end() {
        for start in
            [&b"\xff\xd8\xff\xe0"[..], b"\x89PNG\r\n\x1a\n\xff\xff\xff\xff", b"P6 ", b"GIF89a", b"\0"]
        {
            let mut endless = Lookahead::new(start.chain(io::repeat(0)));
            assert!(next(&mut endless, 1 << 20).is_err(), "{start:?}");
        }
    }
}
