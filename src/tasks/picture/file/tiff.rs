//! Reads TIFF page by page.

use tiff::{
    ColorType, TiffError,
    decoder::{Decoder, Limits, ifd::Value},
    tags::{ExtraSamples, IfdPointer, SampleFormat, Tag},
};

use super::{
    Picture,
    limits::Budget,
    pixels::{Colour, Pixel, Pixels, upright, upright_peak},
    read::{Bytes, Decode},
};

/// The tag that marks a camera's raw file, whose first page is at most a preview.
const DNG_VERSION: Tag = Tag::Unknown(50706);
const PHOTOMETRIC: Tag = Tag::PhotometricInterpretation;
const PALETTE: u16 = 3;
const COEFFICIENTS: Tag = Tag::Unknown(529);
const REFERENCE_BLACK_WHITE: Tag = Tag::Unknown(532);

pub(super) struct Tiff<'a> {
    decoder: Decoder<Bytes<'a>>,
    budget: Budget,
    page: usize,
}

pub(super) fn decoder(bytes: Bytes<'_>, budget: Budget) -> Result<Tiff<'_>, String> {
    let mut limits = Limits::default();
    let memory = usize::try_from(budget.memory()).unwrap_or(usize::MAX);
    (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (memory, memory);
    let mut decoder = Decoder::new(bytes).map_err(message)?.with_limits(limits);
    if decoder.find_tag(DNG_VERSION).map_err(message)?.is_some() || is_preview(&mut decoder) {
        return Err(
            "a camera's raw file, which is not supported: convert it with darktable-cli or dcraw".into()
        );
    }
    Ok(Tiff { decoder, budget, page: 0 })
}

fn message(error: TiffError) -> String {
    error.to_string()
}

/// Returns whether the first page is a reduced version of another page.
fn is_preview(decoder: &mut Decoder<Bytes>) -> bool {
    let reduced = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten().unwrap_or(0) & 1 == 1;
    reduced && decoder.find_tag(Tag::SubIfd).is_ok_and(|tag| tag.is_some())
}

/// Returns whether a YCbCr page is encoded as in JPEG: full range, and the coefficients of ITU-R BT.601.
fn is_full_range(decoder: &mut Decoder<Bytes>) -> Result<bool, String> {
    let mut is = |tag: Tag, expected: &[f64]| {
        let near = |(found, expected): (&Value, &f64)| match *found {
            Value::Rational(n, d) => (f64::from(n) / f64::from(d) - expected).abs() < 1e-3,
            _ => false,
        };
        Ok::<_, String>(match decoder.find_tag(tag).map_err(message)? {
            None => true,
            Some(Value::List(found)) => found.len() == expected.len() && found.iter().zip(expected).all(near),
            Some(_) => false,
        })
    };
    Ok(is(COEFFICIENTS, &[0.299, 0.587, 0.114])?
        && is(REFERENCE_BLACK_WHITE, &[0.0, 255.0, 128.0, 255.0, 128.0, 255.0])?)
}

/// Converts a YCbCr pixel to RGB with libjpeg's arithmetic, which has 16 fractional bits.
fn rgb_of(pixel: &mut [u8; 3]) {
    let [luma, blue, red] = pixel.map(i32::from);
    let (blue, red, half) = (blue - 128, red - 128, 1 << 15);
    let parts = [
        (91_881 * red + half) >> 16,
        (half - 22_554 * blue - 46_802 * red) >> 16,
        (116_130 * blue + half) >> 16,
    ];
    *pixel = parts.map(|part| (luma + part).clamp(0, 255) as u8);
}

impl Decode for Tiff<'_> {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        if self.page > 0 {
            if !self.decoder.more_images() {
                return Ok(None);
            }
            self.decoder.next_image().map_err(message)?;
        }
        self.page += 1;
        self.decode().map(Some)
    }
}

impl Tiff<'_> {
    fn decode(&mut self) -> Result<Picture, String> {
        let decoder = &mut self.decoder;
        let (width, height) = decoder.dimensions().map_err(message)?;
        self.budget.admits(width.into(), height.into(), 1)?;
        let formats = decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).map_err(message)?;
        if formats.unwrap_or_default().iter().any(|format| *format != SampleFormat::Uint.to_u16()) {
            return Err("a TIFF with samples that are not unsigned integers, which is not supported".into());
        }
        if decoder.find_tag_unsigned::<u16>(Tag::FillOrder).map_err(message)?.is_some_and(|order| order != 1)
        {
            return Err(
                "a TIFF whose bytes start with the lowest bit (FillOrder 2), which is not supported".into()
            );
        }
        let orientation = decoder.find_tag_unsigned::<u8>(Tag::Orientation).ok().flatten();
        let orientation = orientation.filter(|orientation| (1..=8).contains(orientation));
        let palette = self.palette()?;

        let decoder = &mut self.decoder;
        let luma = decoder.colortype().map_err(message)? == ColorType::YCbCr(8);
        if luma && !is_full_range(decoder)? {
            return Err("a TIFF with limited-range YCbCr, as in video, which is not supported".into());
        }
        let (colour, alpha, bits) = match decoder.colortype().map_err(message)? {
            ColorType::Gray(bits) => (Colour::Grey, false, bits),
            ColorType::Multiband { bit_depth, num_samples: 2 } => (Colour::Grey, true, bit_depth),
            ColorType::RGB(bits) => (Colour::Rgb, false, bits),
            ColorType::YCbCr(8) => (Colour::Rgb, false, 8),
            ColorType::RGBA(bits) => (Colour::Rgb, true, bits),
            ColorType::CMYK(bits) => (Colour::Cmyk, false, bits),
            ColorType::CMYKA(bits) => (Colour::Cmyk, true, bits),
            other => return Err(format!("a TIFF of {other:?}, which is not supported")),
        };
        let packed = matches!((colour, alpha, bits), (Colour::Grey, false, 1 | 2 | 4));
        if !packed && !matches!(bits, 8 | 16) {
            return Err(format!("a TIFF with {bits} bits per sample, which is not supported"));
        }
        if palette.is_some() && ((colour, alpha) != (Colour::Grey, false) || bits > 8) {
            return Err(
                "a TIFF with a palette and more than one 8-bit sample per pixel, which is not supported"
                    .into(),
            );
        }
        let pixel = Pixel { colour, alpha, is_16_bit: bits == 16 };
        let layout = decoder.image_buffer_layout().map_err(message)?;
        let (w, h) = (width as usize, height as usize);
        let count = w * h;
        // Planes, packed bits and indices are read into a separate buffer.
        let separate = if layout.planes > 1 || packed || palette.is_some() { layout.complete_len } else { 0 };
        let peak =
            (pixel.peak() * count as u64 + separate as u64).max(upright_peak(orientation) * count as u64);
        self.budget.admits_bytes(width.into(), height.into(), peak)?;

        let expected = if packed { w.div_ceil(8 / usize::from(bits)) * h } else { count * pixel.bytes() };
        if layout.complete_len != expected {
            return Err(
                "a TIFF with more samples per pixel than its colour type has, which is not supported".into(),
            );
        }
        // The decoder does not tell the two kinds of alpha apart.
        let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(message)?;
        let associated = Some(ExtraSamples::AssociatedAlpha.to_u16());
        let multiplied = (colour, alpha) == (Colour::Rgb, true)
            && extra.unwrap_or_default().first().copied() == associated;
        let to_rgb = |samples: &mut [u8]| {
            if luma {
                samples.as_chunks_mut::<3>().0.iter_mut().for_each(rgb_of);
            }
            if multiplied {
                divide_by_alpha(samples, bits == 16);
            }
        };
        let mut pixels = Pixels::new(w, h, if palette.is_some() { Pixel::RGB } else { pixel });
        if separate == 0 {
            decoder.read_image_bytes(pixels.samples()).map_err(message)?;
            to_rgb(pixels.samples());
            return Ok(upright(pixels.into_picture(), orientation));
        }
        let mut read = vec![0; layout.complete_len];
        decoder.read_image_bytes(&mut read).map_err(message)?;
        if layout.planes > 1 {
            interleave(&read, layout.planes, pixel.bytes() / layout.planes, pixels.samples());
            to_rgb(pixels.samples());
        } else {
            let values = (0..h).flat_map(|y| {
                let row = &read[y * read.len() / h..(y + 1) * read.len() / h];
                (0..w).map(move |x| value(row, x, bits))
            });
            match palette {
                Some(palette) => {
                    for (rgb, value) in pixels.samples().as_chunks_mut::<3>().0.iter_mut().zip(values) {
                        *rgb = palette.get(usize::from(value)).copied().unwrap_or_default();
                    }
                }
                None => {
                    let most = (1 << bits) - 1;
                    pixels.samples().iter_mut().zip(values).for_each(|(grey, v)| *grey = v * (255 / most));
                }
            }
        }
        Ok(upright(pixels.into_picture(), orientation))
    }

    /// Reads the colours of a palette page. The library does not support palettes, so the tag in memory is
    /// changed to grey.
    fn palette(&mut self) -> Result<Option<Vec<[u8; 3]>>, String> {
        let decoder = &mut self.decoder;
        if decoder.find_tag_unsigned::<u16>(PHOTOMETRIC).map_err(message)? != Some(PALETTE) {
            return Ok(None);
        }
        let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(message)?;
        let colours = map.len() / 3;
        let palette = (0..colours).map(|i| [0, 1, 2].map(|k| (map[k * colours + i] >> 8) as u8)).collect();
        let pointer = decoder.ifd_pointer().ok_or("a page without a directory")?;
        let little = matches!(decoder.byte_order(), tiff::tags::ByteOrder::LittleEndian);
        let file = decoder.inner().get_mut().to_mut();
        let at = photometric(file, pointer, little).ok_or("a palette without its tag")?;
        file[at] = 1;
        decoder.seek_to_image(self.page - 1).map_err(message)?;
        Ok(Some(palette))
    }
}

/// Divides premultiplied (associated) colours by their alpha, as Pillow does: rounded down, and with only the
/// high 8 of 16 bits. Transparent pixels become black.
fn divide_by_alpha(samples: &mut [u8], is_16_bit: bool) {
    let depth = if is_16_bit { 2 } else { 1 };
    // The position of the high byte in a sample.
    let high = if is_16_bit && cfg!(target_endian = "little") { 1 } else { 0 };
    for pixel in samples.chunks_exact_mut(4 * depth) {
        let alpha = u32::from(pixel[3 * depth + high]);
        for k in 0..3 {
            let colour = &mut pixel[k * depth + high];
            *colour = (255 * u32::from(*colour)).checked_div(alpha).unwrap_or(0).min(255) as u8;
        }
    }
}

/// The position of the low byte of a directory's photometric interpretation.
fn photometric(file: &[u8], IfdPointer(directory): IfdPointer, little: bool) -> Option<usize> {
    let number = |at: usize, bytes: usize| {
        let bytes = file.get(at..at.checked_add(bytes)?)?;
        let digit = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
        Some(if little { bytes.iter().rev().fold(0, digit) } else { bytes.iter().fold(0, digit) })
    };
    // BigTIFF has larger counts and entries.
    let (count, entry) = if number(2, 2)? == 43 { (8, 20) } else { (2, 12) };
    let directory = usize::try_from(directory).ok()?;
    let entries = usize::try_from(number(directory, count)?).ok()?;
    let at = (0..entries)
        .map_while(|i| directory.checked_add(count)?.checked_add(i.checked_mul(entry)?))
        .map_while(|at| Some((at, number(at, 2)?)))
        .find(|(_, tag)| *tag == u64::from(PHOTOMETRIC.to_u16()))?
        .0;
    let value = at + entry - if entry == 20 { 8 } else { 4 };
    let short = number(at + 2, 2)? == 3;
    let low = match (little, short) {
        (true, _) => value,
        (false, true) => value + 1,
        (false, false) => return None,
    };
    (low < file.len()).then_some(low)
}

/// Interleaves `count` consecutive planes of samples of `bytes` each into pixels.
fn interleave(planes: &[u8], count: usize, bytes: usize, pixels: &mut [u8]) {
    for (k, plane) in planes.chunks_exact(planes.len() / count).enumerate() {
        for (pixel, sample) in pixels.chunks_exact_mut(count * bytes).zip(plane.chunks_exact(bytes)) {
            pixel[k * bytes..(k + 1) * bytes].copy_from_slice(sample);
        }
    }
}

/// The value at `x` in a row of values of up to 8 bits, high bits first.
fn value(row: &[u8], x: usize, bits: u8) -> u8 {
    let bits = usize::from(bits);
    let shift = 8 - bits - x * bits % 8;
    row[x * bits / 8] >> shift & (0xff >> (8 - bits))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tiff::encoder::{TiffEncoder, colortype};

    use super::*;

    /// A pixel with this kind of alpha, decoded from 8 bits and from 16.
    fn decoded(pixel: [u8; 4], kind: ExtraSamples) -> [Vec<u8>; 2] {
        [false, true].map(|is_16_bit| {
            let mut file = Cursor::new(Vec::new());
            let mut encoder = TiffEncoder::new(&mut file).unwrap();
            let tag = &[kind.to_u16()][..];
            if is_16_bit {
                let mut image = encoder.new_image::<colortype::RGBA16>(1, 1).unwrap();
                image.encoder().write_tag(Tag::ExtraSamples, tag).unwrap();
                image.write_data(&pixel.map(|value| u16::from(value) << 8 | 0xff)).unwrap();
            } else {
                let mut image = encoder.new_image::<colortype::RGBA8>(1, 1).unwrap();
                image.encoder().write_tag(Tag::ExtraSamples, tag).unwrap();
                image.write_data(&pixel).unwrap();
            }
            Picture::decode(&file.into_inner(), "pixel.tif").unwrap().into_pixels()
        })
    }

    #[test]
    fn premultiplied_colours_are_divided_by_their_alpha() {
        for (pixel, kind, expected) in [
            ([64, 32, 16, 128], ExtraSamples::AssociatedAlpha, [127, 63, 31]),
            ([9, 200, 7, 100], ExtraSamples::AssociatedAlpha, [22, 255, 17]),
            ([9, 8, 7, 255], ExtraSamples::AssociatedAlpha, [9, 8, 7]),
            ([9, 8, 7, 0], ExtraSamples::AssociatedAlpha, [0, 0, 0]),
            ([64, 32, 16, 128], ExtraSamples::UnassociatedAlpha, [64, 32, 16]),
        ] {
            assert_eq!(decoded(pixel, kind), [expected; 2], "{pixel:?}");
        }
    }
}
