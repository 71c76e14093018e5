//! Reads BMP, PNM and QOI with the `image` crate: one picture per file, except that a file may hold several
//! PNMs.

use image::{ColorType, ImageDecoder, ImageError, codecs};

use super::{
    Picture,
    format::Format,
    limits::Budget,
    pixels::{Colour, Pixel, Pixels},
    read::{Bytes, Decode},
};

pub(super) struct Plain<'a> {
    bytes: Bytes<'a>,
    format: Format,
    budget: Budget,
    /// True once the first picture has been decoded.
    begun: bool,
}

pub(super) fn decoder(bytes: Bytes<'_>, format: Format, budget: Budget) -> Plain<'_> {
    Plain { bytes, format, budget, begun: false }
}

impl Decode for Plain<'_> {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        if std::mem::replace(&mut self.begun, true) && !self.another() {
            return Ok(None);
        }
        let message = |e: ImageError| e.to_string();
        let bytes = &mut self.bytes;
        match self.format {
            Format::Bmp => decode(codecs::bmp::BmpDecoder::new(bytes).map_err(message)?, self.budget),
            Format::Qoi => decode(codecs::qoi::QoiDecoder::new(bytes).map_err(message)?, self.budget),
            _ => {
                let first = bytes.position() as usize;
                let picture =
                    decode(codecs::pnm::PnmDecoder::new(&mut *bytes).map_err(message)?, self.budget)?;
                let read = &bytes.get_ref()[first..];
                // White space follows every number, so a digit at the end of the file is a truncated number.
                if matches!(read, [b'P', b'2' | b'3', .., b'0'..=b'9'])
                    && bytes.position() as usize == bytes.get_ref().len()
                {
                    return Err(
                        "the file is cut short: a PNM with decimal numbers ends with a space or a line end"
                            .into(),
                    );
                }
                Ok(picture)
            }
        }
        .map(Some)
    }
}

impl Plain<'_> {
    /// Returns whether another picture follows, as is possible in PNM files.
    fn another(&mut self) -> bool {
        let at = self.bytes.position() as usize;
        let after = self.bytes.get_ref().get(at..).unwrap_or_default();
        let next = after.trim_ascii_start();
        let (skipped, is_pnm) = (after.len() - next.len(), Format::of(next) == Ok(Format::Pnm));
        self.bytes.set_position((at + skipped) as u64);
        self.format == Format::Pnm && is_pnm
    }
}

fn decode(decoder: impl ImageDecoder, budget: Budget) -> Result<Picture, String> {
    let (width, height) = decoder.dimensions();
    let (colour, alpha, is_16_bit) = match decoder.color_type() {
        ColorType::L8 => (Colour::Grey, false, false),
        ColorType::La8 => (Colour::Grey, true, false),
        ColorType::Rgb8 => (Colour::Rgb, false, false),
        ColorType::Rgba8 => (Colour::Rgb, true, false),
        ColorType::L16 => (Colour::Grey, false, true),
        ColorType::La16 => (Colour::Grey, true, true),
        ColorType::Rgb16 => (Colour::Rgb, false, true),
        ColorType::Rgba16 => (Colour::Rgb, true, true),
        other => return Err(format!("pixels of type {other:?}, which is not supported")),
    };
    let pixel = Pixel { colour, alpha, is_16_bit };
    budget.admits(width.into(), height.into(), pixel.peak())?;
    let mut pixels = Pixels::new(width as usize, height as usize, pixel);
    decoder.read_image(pixels.samples()).map_err(|e| e.to_string())?;
    Ok(pixels.into_picture())
}
