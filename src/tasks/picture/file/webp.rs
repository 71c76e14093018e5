//! WebP. A frame of an animation is a picture in a box: each is put into a file of its own for the library,
//! whose own canvas mistakes frames without alpha.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::{
    Picture,
    canvas::{Area, Canvas},
    exif,
    limits::Budget,
    pixels::{Colour, Pixel, Pixels, turning, upright},
    read::{Bytes, Decode},
};

/// Bytes a pixel that the library holds beside those it is asked for: the planes of lossy pictures and
/// their alpha, which is read as RGBA, or the RGBA of lossless ones.
const HELD: u64 = 6;

pub(super) struct WebP<'a> {
    bytes: Bytes<'a>,
    orientation: Option<u8>,
    animation: Option<Animation>,
    done: bool,
}

struct Animation {
    canvas: Canvas<4>,
    /// Where the last frame makes room before the next is drawn.
    cleared: Option<Area>,
    /// Where the file goes on.
    at: usize,
}

pub(super) fn decoder(bytes: Bytes<'_>, budget: Budget) -> Result<WebP<'_>, String> {
    let file = bytes.get_ref();
    // EXIF lies behind the picture, and a cut file would be lying, not refused.
    let length = file.get(4..8).and_then(|length| length.first_chunk()).copied().unwrap_or_default();
    if (file.len() as u64) < 8 + u64::from(u32::from_le_bytes(length)) {
        return Err("the WebP is cut short".into());
    }
    let mut decoder = WebPDecoder::new(Cursor::new(&file[..])).map_err(said)?;
    decoder.set_memory_limit(usize::try_from(budget.memory()).unwrap_or(usize::MAX));
    let (width, height) = decoder.dimensions();
    // Damaged metadata is no reason to refuse a picture.
    let orientation = decoder.exif_metadata().ok().flatten().and_then(|data| exif::orientation(&data));
    let animated = decoder.is_animated();
    let frame = (HELD + 4).max(turning(orientation));
    // Besides a frame, or a picture: the canvas, and the picture of it.
    let peak = if animated { 4 + frame + turning(orientation) } else { frame };
    budget.admits(width.into(), height.into(), peak)?;
    let animation = animated.then(|| Animation {
        canvas: Canvas::new(width as usize, height as usize),
        cleared: None,
        // Behind "RIFF", its length and "WEBP".
        at: 12,
    });
    Ok(WebP { bytes, orientation, animation, done: false })
}

fn said(error: DecodingError) -> String {
    error.to_string()
}

impl Decode for WebP<'_> {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        let picture = match &mut self.animation {
            Some(animation) => animation.next(self.bytes.get_ref())?,
            None if self.done => None,
            None => {
                self.done = true;
                Some(decode(self.bytes.get_ref())?.into_picture())
            }
        };
        Ok(picture.map(|picture| upright(picture, self.orientation)))
    }
}

/// A file's one picture.
fn decode(file: &[u8]) -> Result<Pixels, String> {
    let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(said)?;
    let (width, height) = decoder.dimensions();
    let pixel = Pixel { colour: Colour::Rgb, alpha: decoder.has_alpha(), deep: false };
    let mut pixels = Pixels::new(width as usize, height as usize, pixel);
    decoder.read_image(pixels.samples()).map_err(said)?;
    Ok(pixels)
}

impl Animation {
    /// The next frame drawn on those before it, as libwebp draws it.
    fn next(&mut self, file: &[u8]) -> Result<Option<Picture>, String> {
        let Some(frame) = self.frame(file)? else { return Ok(None) };
        let number =
            |at: usize| frame[at..at + 3].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte));
        let area =
            Area { left: 2 * number(0), top: 2 * number(3), width: number(6) + 1, height: number(9) + 1 };
        let (blended, disposed) = (frame[15] & 2 == 0, frame[15] & 1 != 0);
        if !self.canvas.holds(area) {
            return Err("a frame lies outside of the picture".into());
        }
        let alone = alone(&frame[6..12], &frame[16..]);
        let mut pixels = decode(&alone)?;
        if pixels.size() != (area.width, area.height) {
            return Err("a frame is not of the size that it should be".into());
        }
        if let Some(area) = self.cleared.take() {
            self.canvas.fill(area, [0; 4]);
        }
        self.cleared = disposed.then_some(area);
        match pixels.samples().len() / (area.width * area.height) {
            4 => self.canvas.draw(area, pixels.samples().as_chunks::<4>().0, |under, over| {
                *under = if blended { mixed(*under, *over) } else { *over };
            }),
            _ => self.canvas.draw(area, pixels.samples().as_chunks::<3>().0, |under, [r, g, b]| {
                *under = [*r, *g, *b, 255];
            }),
        }
        Ok(Some(self.canvas.picture()))
    }

    /// What the next chunk of a frame holds.
    fn frame<'a>(&mut self, file: &'a [u8]) -> Result<Option<&'a [u8]>, String> {
        while let Some((name, rest)) = file.get(self.at..).and_then(|rest| rest.split_first_chunk::<4>()) {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or("the file is cut short")?;
            let length = u32::from_le_bytes(*length) as usize;
            self.at = self.at.saturating_add(8).saturating_add(length).saturating_add(length % 2);
            if name == b"ANMF" {
                let frame = rest.get(..length).ok_or("the file is cut short")?;
                // Its place and flags, and a chunk's header.
                return if length < 24 { Err("a frame is cut short".into()) } else { Ok(Some(frame)) };
            }
        }
        Ok(None)
    }
}

/// A frame's chunks as a file of their own; `size` is its sides as a frame has them.
fn alone(size: &[u8], chunks: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    if chunks.starts_with(b"ALPH") {
        // Alpha takes the longer kind of header, with a flag for it.
        file.extend(b"VP8X\x0a\0\0\0\x10\0\0\0");
        file.extend(size);
    }
    file.extend(chunks);
    let length = u32::try_from(file.len() - 8).unwrap_or(u32::MAX);
    file[4..8].copy_from_slice(&length.to_le_bytes());
    file
}

/// One colour over another, in libwebp's integers.
fn mixed(under: [u8; 4], over: [u8; 4]) -> [u8; 4] {
    match (under[3], over[3]) {
        (0, _) | (_, 255) => over,
        (_, 0) => under,
        (behind, alpha) => {
            let alpha = u32::from(alpha);
            let behind = (u32::from(behind) * (256 - alpha)) >> 8;
            let scale = (1 << 24) / (alpha + behind);
            let channel = |k: usize| {
                let sum = u32::from(over[k]) * alpha + u32::from(under[k]) * behind;
                ((u64::from(sum) * u64::from(scale)) >> 24) as u8
            };
            [channel(0), channel(1), channel(2), (alpha + behind) as u8]
        }
    }
}
