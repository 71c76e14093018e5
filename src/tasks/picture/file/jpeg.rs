//! Reads JPEG with the arithmetic of libjpeg-turbo.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};
use memchr::memchr;

use super::{
    Picture, exif,
    limits::Budget,
    pixels::{Colour, Pixel, Pixels, upright, upright_peak},
    read::{Bytes, Decode},
};

/// The maximum number of scans in a file: far more than any encoder writes, but low enough to reject a small
/// file of empty scans quickly. Chromium and libjpeg-turbo's fuzzing use similar limits.
const MOST_SCANS: usize = 500;

/// A JPEG file, with one picture.
pub(super) struct Jpeg<'a> {
    bytes: Bytes<'a>,
    budget: Budget,
    done: bool,
}

pub(super) fn decoder(bytes: Bytes<'_>, budget: Budget) -> Jpeg<'_> {
    Jpeg { bytes, budget, done: false }
}

impl Decode for Jpeg<'_> {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        // On some damaged headers the library panics by indexing out of bounds; `layout` refuses the
        // known ones.
        catch_unwind(AssertUnwindSafe(|| decode(self.bytes.get_ref(), self.budget)))
            .unwrap_or_else(|_| Err("the JPEG is damaged".into()))
            .map(Some)
    }
}

fn decode(bytes: &[u8], budget: Budget) -> Result<Picture, String> {
    // Decoders do not check for an end marker, and a file cut near its end may lack the bits of a few rows.
    if !end(bytes, &mut 2).is_some_and(|end| bytes[..end].ends_with(b"\xff\xd9")) {
        return Err("the JPEG is cut short: it has no end marker".into());
    }
    let limits = DecodeLimits { max_scans: MOST_SCANS, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(|e| e.to_string())?;
    let (width, height) = (decoder.header().width(), decoder.header().height());
    let (pixel, format) = layout(&decoder)?;
    let orientation = decoder.exif_data().and_then(exif::orientation);
    let (w, h) = (width as u64, height as u64);
    let peak = (pixel.peak() * w * h).saturating_add(planes(&decoder)).max(upright_peak(orientation) * w * h);
    budget.admits_bytes(w, h, peak)?;

    decoder.set_output_format(format);
    let mut pixels = Pixels::new(width, height, pixel);
    decoder.decode_image_into(pixels.samples()).map_err(|e| e.to_string())?;
    if pixel.colour == Colour::Cmyk {
        // Adobe's programs write inverted CMYK; like Pillow, assume it for every file.
        pixels.samples().iter_mut().for_each(|ink| *ink = 255 - *ink);
    }
    Ok(upright(pixels.into_picture(), orientation))
}

/// The pixel layout to decode into.
///
/// # Errors
/// A message if the kind of JPEG is not supported, or its header is invalid.
fn layout(decoder: &Decoder) -> Result<(Pixel, PixelFormat), String> {
    let frame = decoder.header();
    if frame.precision != 8 || frame.is_lossless {
        return Err(format!(
            "a JPEG with {} bits per sample{}: only lossy JPEGs with 8 bits are supported",
            frame.precision,
            if frame.is_lossless { ", lossless" } else { "" }
        ));
    }
    if decoder.is_arithmetic() {
        return Err("a JPEG with arithmetic coding, which is not supported".into());
    }
    let sampling: Vec<_> =
        frame.components.iter().map(|c| [c.horizontal_sampling, c.vertical_sampling]).collect();
    let grey = Pixel { colour: Colour::Grey, alpha: false, is_16_bit: false };
    let cmyk = Pixel { colour: Colour::Cmyk, ..grey };
    // With other sampling the library gives wrong results or panics.
    let whole = |of: [u8; 2], by: [u8; 2]| {
        (0..2).all(|k| (1..=4).contains(&of[k]) && by[k] > 0 && of[k].is_multiple_of(by[k]))
    };
    match sampling[..] {
        [_] => Ok((grey, PixelFormat::Grayscale)),
        [y, cb, cr] if whole(y, cb) && whole(y, cr) => Ok((Pixel::RGB, PixelFormat::Rgb)),
        [y @ [1 | 2, 1 | 2], [1, 1], [1, 1], k] if y == k => Ok((cmyk, PixelFormat::Cmyk)),
        _ => Err(format!("a JPEG with the component sampling {sampling:?}, which is not supported")),
    }
}

/// The bytes of the component planes: one per sample, and two more for coefficients if there are several
/// scans.
fn planes(decoder: &Decoder) -> u64 {
    let frame = decoder.header();
    let sampling = || frame.components.iter().map(|c| (c.horizontal_sampling, c.vertical_sampling));
    let (most_h, most_v) = sampling().fold((1, 1), |(h, v), (ch, cv)| (h.max(ch), v.max(cv)));
    let units = |side: usize, most: u8| side.div_ceil(8 * usize::from(most)) as u64;
    let units = units(frame.width(), most_h) * units(frame.height(), most_v);
    let samples: u64 = sampling().map(|(h, v)| u64::from(h) * u64::from(v) * 64 * units).sum();
    let scans = frame.is_progressive || decoder.has_multiple_scans();
    samples * if scans { 3 } else { 1 }
}

/// Finds the end of a JPEG: after its end marker, or else at the start of the next JPEG. The search starts at
/// `at`, which is 2 initially. Returns `None` if `bytes` does not contain the end; `at` is then the position
/// to continue from with more bytes.
pub(crate) fn end(bytes: &[u8], at: &mut usize) -> Option<usize> {
    loop {
        // Between segments is a scan's entropy-coded data, in which a 0xff byte is followed by 0.
        let Some(found) = bytes.get(*at..).and_then(|rest| memchr(0xff, rest)) else {
            *at = bytes.len().max(*at);
            return None;
        };
        *at += found;
        match bytes[*at + 1..] {
            [0xd9, ..] => return Some(*at + 2),
            [0xd8, ..] => return Some(*at),
            [0xff, ..] => *at += 1,
            [0x00 | 0x01 | 0xd0..=0xd7, ..] => *at += 2,
            // Segments are skipped by length: a thumbnail in one has its own end marker.
            [_, high, low, ..] => *at += 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => return None,
        }
    }
}
