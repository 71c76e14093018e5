//! JPEG, with libjpeg-turbo's arithmetic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};
use memchr::memchr;

use super::{
    Picture, exif,
    limits::Budget,
    pixels::{Colour, Pixel, Pixels, turning, upright},
    read::{Bytes, Decode},
};

/// Scans of one file: far more than any encoder writes, and few enough that a small file of empty ones is
/// refused in time. Chromium and libjpeg-turbo's own fuzzing have about as many.
const MOST_SCANS: usize = 500;

/// A file that holds one picture.
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
        // The library indexes out of bounds, which panics, on some damaged headers; `layout` refuses
        // those that were found.
        catch_unwind(AssertUnwindSafe(|| decode(self.bytes.get_ref(), self.budget)))
            .unwrap_or_else(|_| Err("the JPEG is damaged".into()))
            .map(Some)
    }
}

fn decode(bytes: &[u8], budget: Budget) -> Result<Picture, String> {
    // Decoders do not ask for an end marker, and a file cut within its last bytes may lack a few rows' worth of bits.
    if !end(bytes, &mut 2).is_some_and(|end| bytes[..end].ends_with(b"\xff\xd9")) {
        return Err("the JPEG is cut short: it has no end marker".into());
    }
    let limits = DecodeLimits { max_scans: MOST_SCANS, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(|e| e.to_string())?;
    let (width, height) = (decoder.header().width(), decoder.header().height());
    let (pixel, format) = layout(&decoder)?;
    let orientation = decoder.exif_data().and_then(exif::orientation);
    let (w, h) = (width as u64, height as u64);
    let peak = (pixel.peak() * w * h).saturating_add(planes(&decoder)).max(turning(orientation) * w * h);
    budget.admits_bytes(w, h, peak)?;

    decoder.set_output_format(format);
    let mut pixels = Pixels::new(width, height, pixel);
    decoder.decode_image_into(pixels.samples()).map_err(|e| e.to_string())?;
    if pixel.colour == Colour::Cmyk {
        // As Adobe's programs write them; Pillow takes every file for one of theirs.
        pixels.samples().iter_mut().for_each(|ink| *ink = 255 - *ink);
    }
    Ok(upright(pixels.into_picture(), orientation))
}

/// What to decode into.
///
/// # Errors
/// If the file is of a kind that is not read, or its header makes no sense.
fn layout(decoder: &Decoder) -> Result<(Pixel, PixelFormat), String> {
    let frame = decoder.header();
    if frame.precision != 8 || frame.is_lossless {
        return Err(format!(
            "a JPEG of {} bits a sample{}; eight, lossy, are read",
            frame.precision,
            if frame.is_lossless { ", lossless" } else { "" }
        ));
    }
    if decoder.is_arithmetic() {
        return Err("a JPEG with arithmetic coding, which is not read".into());
    }
    let sampling: Vec<_> =
        frame.components.iter().map(|c| [c.horizontal_sampling, c.vertical_sampling]).collect();
    let grey = Pixel { colour: Colour::Grey, alpha: false, deep: false };
    let cmyk = Pixel { colour: Colour::Cmyk, ..grey };
    // Of what the library makes of other sampling some is wrong, and some a panic.
    let whole = |of: [u8; 2], by: [u8; 2]| {
        (0..2).all(|k| (1..=4).contains(&of[k]) && by[k] > 0 && of[k].is_multiple_of(by[k]))
    };
    match sampling[..] {
        [_] => Ok((grey, PixelFormat::Grayscale)),
        [y, cb, cr] if whole(y, cb) && whole(y, cr) => Ok((Pixel::RGB, PixelFormat::Rgb)),
        [y @ [1 | 2, 1 | 2], [1, 1], [1, 1], k] if y == k => Ok((cmyk, PixelFormat::Cmyk)),
        _ => Err(format!("a JPEG of components sampled {sampling:?}, which is not read")),
    }
}

/// Bytes of the components before they are joined: a sample each, and two more where several scans add to
/// coefficients.
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

/// Where a JPEG ends: behind its end marker, or without one before another begins; looked for from `at` on, which is 2
/// at first. None if that is not among `bytes`; `at` is then where to look on once there are more.
pub(crate) fn end(bytes: &[u8], at: &mut usize) -> Option<usize> {
    loop {
        // Between segments lie a scan's coded bits, in which 0xff is followed by zero.
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
            // Skipped by its length: a thumbnail within has an end marker of its own.
            [_, high, low, ..] => *at += 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => return None,
        }
    }
}
