//! Finds the end of a picture in a stream from the structure of its format.

use std::{collections::BTreeSet, io::Read};

use super::lookahead::Lookahead;
use crate::tasks::{Format, jpeg_end};

/// The maximum number of directories, strips and tiles in a TIFF: a hostile file with more could exhaust
/// memory and time.
const MOST_PARTS: usize = 1 << 20;

/// Length and kind of a picture, known before it is decoded.
pub struct End {
    /// Its length in bytes.
    pub length: usize,
    /// True if it has several frames or pages.
    pub animated: bool,
}

/// Finds the end of the picture at the start of `stream`.
///
/// # Errors
/// The reason, if the picture is cut short, damaged, or larger than `limit` bytes, or if the stream cannot be
/// read.
pub fn end<R: Read>(stream: &mut Lookahead<R>, format: Format, limit: usize) -> Result<End, String> {
    let mut window = Window { stream, limit, frames: 0 };
    let length = match format {
        Format::Bmp => window.u32(2)?.max(14),
        Format::Gif => window.gif()?,
        Format::Jpeg => window.jpeg()?,
        Format::Png => window.png()?,
        Format::Pnm => window.pnm()?,
        Format::Qoi => window.qoi()?,
        Format::Tiff => window.tiff()?,
        Format::WebP => window.webp()?,
    };
    window.reach(length)?;
    Ok(End { length, animated: window.frames > 1 })
}

/// A stream from the start of a picture of at most `limit` bytes.
struct Window<'a, R> {
    stream: &'a mut Lookahead<R>,
    limit: usize,
    /// Frames or pages found so far, in formats that may have several.
    frames: usize,
}

impl<R: Read> Window<'_, R> {
    /// Returns the picture's first bytes, at least `count` of them.
    fn reach(&mut self, count: usize) -> Result<&[u8], String> {
        if count > self.limit {
            return Err(self.too_large());
        }
        let bytes = self.stream.peek(count).map_err(|e| e.to_string())?;
        if bytes.len() < count {
            return Err("the picture is cut short: the stream ends within it".into());
        }
        Ok(bytes)
    }

    fn too_large(&self) -> String {
        format!(
            "the picture is larger than the limit of {} MiB (--max-memory, PictureLimits::memory)",
            self.limit >> 20
        )
    }

    /// Returns the byte at `at`.
    fn byte(&mut self, at: usize) -> Result<u8, String> {
        Ok(self.reach(at + 1)?[at])
    }

    /// Reads a little-endian integer of four bytes.
    fn u32(&mut self, at: usize) -> Result<usize, String> {
        let bytes = &self.reach(at + 4)?[at..];
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    }

    /// Walks the blocks to the trailer.
    fn gif(&mut self) -> Result<usize, String> {
        // Bytes of a colour table, from the flags of the preceding descriptor.
        let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 6 << (flags & 7) };
        let mut at = 13 + table(self.byte(10)?);
        loop {
            let data = match self.byte(at)? {
                0x3b => return Ok(at + 1),
                // An extension's label precedes its data.
                0x21 => at + 2,
                // An image's descriptor, colour table and code size precede its data.
                0x2c => {
                    self.frames += 1;
                    at + 11 + table(self.byte(at + 9)?)
                }
                _ => return Err("the picture is damaged: expected another GIF block or the trailer".into()),
            };
            at = data;
            loop {
                let length = usize::from(self.byte(at)?);
                at += 1 + length;
                if length == 0 {
                    break;
                }
            }
        }
    }

    /// Walks the segments to the end marker.
    fn jpeg(&mut self) -> Result<usize, String> {
        let (mut at, mut needed) = (2, 2);
        loop {
            let bytes = self.reach(needed)?;
            needed = bytes.len() + 1;
            if let Some(end) = jpeg_end(bytes, &mut at) {
                return Ok(end);
            }
        }
    }

    /// Walks the chunks to the last one.
    fn png(&mut self) -> Result<usize, String> {
        let (mut at, mut animated) = (8, false);
        loop {
            let chunk = &self.reach(at + 8)?[at..];
            let length = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) as usize;
            let name = [chunk[4], chunk[5], chunk[6], chunk[7]];
            at += length + 12;
            match &name {
                b"acTL" => animated = true,
                b"fcTL" => self.frames += 1,
                // The default image is not a frame of the animation, but a picture too.
                b"IDAT" if animated && self.frames == 0 => self.frames = 1,
                b"IEND" => return Ok(at),
                _ => {}
            }
            // Rejects a damaged length that exceeds the limit or the stream.
            self.reach(at)?;
        }
    }

    /// Skips as many samples as the header says. They are stored as text, bits or bytes.
    fn pnm(&mut self) -> Result<usize, String> {
        let kind = self.byte(1)?;
        if kind == b'7' {
            return self.pam();
        }
        let mut at = 2;
        let width = self.number(&mut at)?;
        let height = self.number(&mut at)?;
        let most = if matches!(kind, b'1' | b'4') { 1 } else { self.number(&mut at)? };
        let row = match kind {
            b'4' => Some(width.div_ceil(8)),
            b'3' | b'6' => width.checked_mul(3),
            _ => Some(width),
        };
        let samples = row.and_then(|row| row.checked_mul(height)).ok_or_else(|| self.too_large())?;
        match kind {
            b'1' => (0..samples).try_for_each(|_| self.bit(&mut at))?,
            b'2' | b'3' => (0..samples).try_for_each(|_| self.number(&mut at).map(drop))?,
            _ => {
                // One whitespace byte precedes the samples.
                let bytes = samples.checked_mul(if most > 255 { 2 } else { 1 });
                return bytes.and_then(|bytes| bytes.checked_add(at + 1)).ok_or_else(|| self.too_large());
            }
        }
        // Includes the whitespace that ends the last number.
        Ok(at + usize::from(kind != b'1'))
    }

    /// Reads the next number, after whitespace and comments. A byte must follow it, because otherwise the
    /// number may be cut short.
    fn number(&mut self, at: &mut usize) -> Result<usize, String> {
        self.skip(at)?;
        let mut number = None;
        loop {
            let byte = self.byte(*at)?;
            if !byte.is_ascii_digit() {
                return number.ok_or_else(|| "the picture is damaged: a number is missing".into());
            }
            let tens = number.unwrap_or(0_usize).checked_mul(10);
            let next = tens.and_then(|tens| tens.checked_add(usize::from(byte - b'0')));
            number = Some(next.ok_or_else(|| self.too_large())?);
            *at += 1;
        }
    }

    /// Reads the next bit of text. Whitespace between bits is optional.
    fn bit(&mut self, at: &mut usize) -> Result<(), String> {
        self.skip(at)?;
        match self.byte(*at)? {
            b'0' | b'1' => *at += 1,
            _ => return Err("the picture is damaged: a bit is neither 0 nor 1".into()),
        }
        Ok(())
    }

    /// Skips whitespace, and comments up to the end of their line.
    fn skip(&mut self, at: &mut usize) -> Result<(), String> {
        let mut comment = false;
        loop {
            match self.byte(*at)? {
                b'\n' | b'\r' => comment = false,
                b'#' => comment = true,
                byte if comment || byte.is_ascii_whitespace() => {}
                _ => return Ok(()),
            }
            *at += 1;
        }
    }

    /// Reads the header's lines up to `ENDHDR`, and skips the number of bytes that they specify.
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

    /// Walks the ops, of one pixel or a run each, for the number of pixels in the header, then the eight end
    /// bytes.
    fn qoi(&mut self) -> Result<usize, String> {
        let header = self.reach(14)?;
        let side = |at: usize| u64::from(u32::from_be_bytes([0, 1, 2, 3].map(|i| header[at + i])));
        let mut left = side(4) * side(8);
        let mut at = 14;
        while left > 0 {
            let (bytes, pixels) = match self.byte(at)? {
                0xfe => (4, 1),
                0xff => (5, 1),
                0x80..0xc0 => (2, 1),
                run @ 0xc0.. => (1, u64::from(run & 0x3f) + 1),
                _ => (1, 1),
            };
            at += bytes;
            left = left.saturating_sub(pixels);
        }
        Ok(at + 8)
    }

    /// Walks the chunks within the outer chunk, which has the total length.
    fn webp(&mut self) -> Result<usize, String> {
        let length = self.u32(4)?;
        let end = length + length % 2 + 8;
        let mut at = 12;
        while at + 8 <= end {
            self.frames += usize::from(&self.reach(at + 4)?[at..at + 4] == b"ANMF");
            let length = self.u32(at + 4)?;
            at += 8 + length + length % 2;
        }
        Ok(end)
    }

    /// Walks the directories and the data that they point to, which may be in any order in the file.
    fn tiff(&mut self) -> Result<usize, String> {
        let head = self.reach(8)?;
        let (little, big) = (head[0] == b'I', head[2] == 43 || head[3] == 43);
        // Bytes of an offset, of the number of entries, and of an entry.
        let (offset, count, entry) = if big { (8, 8, 20) } else { (4, 2, 12) };
        let mut end = if big { 16 } else { 8 };
        // The pages' directories form a list, and their entries can point to further directories.
        let mut left = vec![(self.integer(end - offset, offset, little)?, true)];
        let (mut seen, mut parts) = (BTreeSet::new(), 0usize);
        while let Some((directory, is_page)) = left.pop() {
            if directory == 0 || !seen.insert(directory) {
                continue;
            }
            self.frames += usize::from(is_page);
            let entries = self.integer(directory, count, little)?;
            parts += 1;
            let first = directory.saturating_add(count);
            let next = first.saturating_add(entries.saturating_mul(entry));
            left.push((self.integer(next, offset, little)?, is_page));
            end = end.max(next + offset);
            let (mut starts, mut lengths) = (Vec::new(), Vec::new());
            for at in (first..next).step_by(entry) {
                let (tag, kind) = (self.integer(at, 2, little)?, self.integer(at + 2, 2, little)?);
                let values = self.integer(at + 4, offset, little)?;
                let bytes = match kind {
                    3 | 8 => 2,
                    4 | 9 | 11 | 13 => 4,
                    5 | 10 | 12 | 16..=18 => 8,
                    _ => 1,
                };
                let size = values.saturating_mul(bytes);
                let mut data = at + 4 + offset;
                if size > offset {
                    data = self.integer(data, offset, little)?;
                    end = end.max(data.saturating_add(size));
                }
                let mut numbers = || {
                    parts = parts.saturating_add(values);
                    if parts > MOST_PARTS {
                        return Err("the picture is damaged: it has too many parts".to_owned());
                    }
                    let last = data.saturating_add(size);
                    (data..last)
                        .step_by(bytes)
                        .map(|at| self.integer(at, bytes, little))
                        .collect::<Result<Vec<_>, _>>()
                };
                match tag {
                    // Offsets and lengths of strips and tiles.
                    273 | 324 => starts = numbers()?,
                    279 | 325 => lengths = numbers()?,
                    // Directories of smaller versions and of Exif.
                    330 | 34665 | 34853 | 40965 => {
                        left.extend(numbers()?.into_iter().map(|directory| (directory, false)));
                    }
                    _ => {}
                }
            }
            let ends =
                starts.iter().zip(lengths).map(|(start, length): (&usize, _)| start.saturating_add(length));
            end = ends.fold(end, usize::max);
        }
        Ok(end)
    }

    /// Reads an integer of `bytes` bytes.
    fn integer(&mut self, at: usize, bytes: usize, little: bool) -> Result<usize, String> {
        let end = at.saturating_add(bytes);
        let bytes = &self.reach(end)?[at..end];
        let digit = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        let number = if little { bytes.iter().rev().fold(0, digit) } else { bytes.iter().fold(0, digit) };
        Ok(usize::try_from(number).unwrap_or(usize::MAX))
    }
}
