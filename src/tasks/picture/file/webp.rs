//! Reads WebP. Each frame of an animation is wrapped into a separate file for the library and composed here,
//! because the library composes frames without alpha incorrectly.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::{
    Picture,
    canvas::{Area, Canvas},
    exif,
    limits::Budget,
    pixels::{Colour, Pixel, Pixels, upright, upright_peak},
    read::{Bytes, Decode},
};

/// The bytes per pixel that the library uses in addition to its output. A lossy picture needs its planes and
/// an RGBA buffer for its alpha; a lossless one needs an RGBA buffer.
const HELD: u64 = 6;

pub(super) struct WebP<'a> {
    bytes: Bytes<'a>,
    orientation: Option<u8>,
    animation: Option<Animation>,
    done: bool,
}

struct Animation {
    canvas: Canvas<4>,
    /// The area to clear before the next frame is drawn; at first the whole canvas.
    to_clear: Option<Area>,
    /// The position of the next chunk in the file.
    at: usize,
}

pub(super) fn decoder(bytes: Bytes<'_>, budget: Budget) -> Result<WebP<'_>, String> {
    let file = bytes.get_ref();
    // EXIF comes after the picture. Without this check, a file that lacks its end would decode without its
    // orientation.
    let length = file.get(4..8).and_then(|length| length.first_chunk()).copied().unwrap_or_default();
    if (file.len() as u64) < 8 + u64::from(u32::from_le_bytes(length)) {
        return Err("the WebP is cut short".into());
    }
    let mut decoder = WebPDecoder::new(Cursor::new(&file[..])).map_err(message)?;
    decoder.set_memory_limit(usize::try_from(budget.memory()).unwrap_or(usize::MAX));
    let (width, height) = decoder.dimensions();
    // Pictures with damaged metadata are still read.
    let orientation = decoder.exif_metadata().ok().flatten().and_then(|data| exif::orientation(&data));
    let animated = decoder.is_animated();
    let frame = (HELD + 4).max(upright_peak(orientation));
    // An animation also needs the canvas and the returned picture.
    let peak = if animated { 4 + frame + upright_peak(orientation) } else { frame };
    budget.admits(width.into(), height.into(), peak)?;
    let animation = animated.then(|| {
        let canvas = Canvas::new(width as usize, height as usize);
        let to_clear = Some(canvas.area());
        // After "RIFF", the length and "WEBP".
        Animation { canvas, to_clear, at: 12 }
    });
    Ok(WebP { bytes, orientation, animation, done: false })
}

fn message(error: DecodingError) -> String {
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

/// Decodes a file of one picture.
fn decode(file: &[u8]) -> Result<Pixels, String> {
    let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(message)?;
    let (width, height) = decoder.dimensions();
    let pixel = Pixel { colour: Colour::Rgb, alpha: decoder.has_alpha(), is_16_bit: false };
    let mut pixels = Pixels::new(width as usize, height as usize, pixel);
    decoder.read_image(pixels.samples()).map_err(message)?;
    Ok(pixels)
}

impl Animation {
    /// Draws the next frame over the previous ones, as libwebp does.
    fn next(&mut self, file: &[u8]) -> Result<Option<Picture>, String> {
        let Some(frame) = self.frame(file)? else { return Ok(None) };
        let number =
            |at: usize| frame[at..at + 3].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte));
        let area =
            Area { left: 2 * number(0), top: 2 * number(3), width: number(6) + 1, height: number(9) + 1 };
        let (blended, disposed) = (frame[15] & 2 == 0, frame[15] & 1 != 0);
        if !self.canvas.holds(area) {
            return Err("a frame is outside the picture".into());
        }
        let still = standalone(&frame[6..12], &frame[16..]);
        let mut pixels = decode(&still)?;
        if pixels.size() != (area.width, area.height) {
            return Err("a frame does not have its announced size".into());
        }
        let cleared = self.to_clear;
        if let Some(area) = cleared {
            self.canvas.fill(area, [0; 4]);
        }
        // Clearing the only frame on a clear canvas clears all of it.
        let whole = self.canvas.area();
        self.to_clear = disposed.then_some(if cleared == Some(whole) { whole } else { area });
        let mut places = area.places();
        // Frames are blended with older transparent pixels, but not with those just cleared.
        let mut is_cleared =
            || places.next().zip(cleared).is_some_and(|(place, cleared)| cleared.contains(place));
        match pixels.samples().len() / (area.width * area.height) {
            4 => self.canvas.draw(area, pixels.samples().as_chunks::<4>().0, |under, over| {
                *under = if is_cleared() || !blended { *over } else { blend(*under, *over) };
            }),
            _ => self.canvas.draw(area, pixels.samples().as_chunks::<3>().0, |under, [r, g, b]| {
                *under = [*r, *g, *b, 255];
            }),
        }
        Ok(Some(self.canvas.picture()))
    }

    /// The data of the next frame chunk.
    fn frame<'a>(&mut self, file: &'a [u8]) -> Result<Option<&'a [u8]>, String> {
        while let Some((name, rest)) = file.get(self.at..).and_then(|rest| rest.split_first_chunk::<4>()) {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or("the file is cut short")?;
            let length = u32::from_le_bytes(*length) as usize;
            self.at = self.at.saturating_add(8).saturating_add(length).saturating_add(length % 2);
            if name == b"ANMF" {
                let frame = rest.get(..length).ok_or("the file is cut short")?;
                // The position and flags of the frame, and a chunk header.
                return if length < 24 { Err("a frame is cut short".into()) } else { Ok(Some(frame)) };
            }
        }
        Ok(None)
    }
}

/// Wraps the chunks of a frame into a separate file; `size` has its width and height as encoded in the frame.
fn standalone(size: &[u8], chunks: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    if chunks.starts_with(b"ALPH") {
        // Alpha needs the extended header, with the alpha flag.
        file.extend(b"VP8X\x0a\0\0\0\x10\0\0\0");
        file.extend(size);
    }
    file.extend(chunks);
    let length = u32::try_from(file.len() - 8).unwrap_or(u32::MAX);
    file[4..8].copy_from_slice(&length.to_le_bytes());
    file
}

/// Blends one colour over another, with libwebp's integer arithmetic. Transparent pixels keep their colour,
/// which is visible without alpha.
fn blend(under: [u8; 4], over: [u8; 4]) -> [u8; 4] {
    match over[3] {
        255 => over,
        0 => under,
        alpha => {
            let alpha = u32::from(alpha);
            let below = (u32::from(under[3]) * (256 - alpha)) >> 8;
            let scale = (1 << 24) / (alpha + below);
            let channel = |k: usize| {
                let sum = u32::from(over[k]) * alpha + u32::from(under[k]) * below;
                ((u64::from(sum) * u64::from(scale)) >> 24) as u8
            };
            [channel(0), channel(1), channel(2), (alpha + below) as u8]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparent_pixels_are_blended_as_in_libwebp() {
        for (under, over, expected) in [
            ([200, 100, 50, 0], [0, 0, 0, 0], [200, 100, 50, 0]),
            ([0, 0, 0, 0], [10, 20, 30, 0], [0, 0, 0, 0]),
            ([0, 0, 0, 0], [255, 90, 3, 3], [254, 89, 2, 3]),
            ([1, 2, 3, 0], [9, 8, 7, 255], [9, 8, 7, 255]),
        ] {
            assert_eq!(blend(under, over), expected, "{over:?} over {under:?}");
        }
    }
}
