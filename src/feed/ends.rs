//! Where a picture ends, by what its format says of its parts.

use std::io::Read;

use memchr::memmem;

use super::lookahead::Lookahead;
use crate::tasks::{Format, jpeg_end, tiff_end};

/// How many bytes the picture that `stream` begins with has.
///
/// # Errors
/// What is wrong, if the picture is cut short, damaged, or larger than `limit` bytes, if its end is not known and
/// another follows, or if the stream cannot be read.
pub fn end<R: Read>(stream: &mut Lookahead<R>, format: Format, limit: usize) -> Result<usize, String> {
    let mut window = Window { stream, limit };
    let end = match format {
        Format::Bmp => window.u32(2)?.max(14),
        Format::Gif => window.gif()?,
        Format::Jpeg => window.jpeg()?,
        Format::Png => window.png()?,
        Format::Pnm => window.pnm()?,
        Format::Qoi => window.qoi()?,
        Format::Tiff => window.tiff()?,
        Format::WebP => {
            let length = window.u32(4)?;
            length + length % 2 + 8
        }
    };
    window.reach(end)?;
    Ok(end)
}

/// A stream from the start of a picture, which may have `limit` bytes.
struct Window<'a, R> {
    stream: &'a mut Lookahead<R>,
    limit: usize,
}

impl<R: Read> Window<'_, R> {
    /// The picture's first bytes, `count` at least.
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
        format!("the picture has more than {} bytes", self.limit)
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

    /// Block by block to the trailer.
    fn gif(&mut self) -> Result<usize, String> {
        // A colour table's bytes, by the flags that announce it.
        let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 6 << (flags & 7) };
        let mut at = 13 + table(self.byte(10)?);
        loop {
            let data = match self.byte(at)? {
                0x3b => return Ok(at + 1),
                // An extension's kind stands before its data.
                0x21 => at + 2,
                // An image's place, colours and code size do.
                0x2c => at + 11 + table(self.byte(at + 9)?),
                _ => return Err("the picture is damaged: no block of a GIF begins where one should".into()),
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

    /// As many samples as the header says: words, bits or bytes.
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
                // One white space stands before the bytes.
                let bytes = samples.checked_mul(if most > 255 { 2 } else { 1 });
                return bytes.and_then(|bytes| bytes.checked_add(at + 1)).ok_or_else(|| self.too_large());
            }
        }
        // The next picture begins behind the line's end.
        while at < self.limit {
            let bytes = self.stream.peek(at + 1).map_err(|e| e.to_string())?;
            if !bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                break;
            }
            at += 1;
        }
        Ok(at)
    }

    /// The next number, behind white space and comments. A byte follows it, or it might be cut short.
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

    /// The next bit, which white space may or may not part from others.
    fn bit(&mut self, at: &mut usize) -> Result<(), String> {
        self.skip(at)?;
        match self.byte(*at)? {
            b'0' | b'1' => *at += 1,
            _ => return Err("the picture is damaged: a bit is neither 0 nor 1".into()),
        }
        Ok(())
    }

    /// White space, and comments up to their lines' ends.
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

    /// As many pixels as the header says, each op one or a run of them, then eight bytes.
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

    /// Everything that is left: a TIFF's parts may lie anywhere. Where another began, it would go unseen.
    fn tiff(&mut self) -> Result<usize, String> {
        let mut count = 0;
        loop {
            let found = self.stream.peek(count + 1).map_err(|e| e.to_string())?.len();
            if found > self.limit {
                return Err(self.too_large());
            }
            if found <= count {
                break;
            }
            count = found;
        }
        let bytes = self.reach(count)?;
        match memmem::find(&bytes[tiff_end(bytes).unwrap_or(0).max(1)..], &bytes[..4]) {
            None => Ok(count),
            Some(_) => {
                Err("TIFFs cannot be told apart in a stream: name their files, or send PNG or JPEG".into())
            }
        }
    }
}
