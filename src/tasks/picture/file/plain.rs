//! BMP, PNM and QOI: formats of one picture, which the `image` crate reads.

use image::{ColorType, ImageDecoder, ImageError, codecs};

use super::{
    Picture,
    format::Format,
    limits::Budget,
    pixels::{Colour, Pixel, Pixels},
    read::{Bytes, Decode},
};

pub(super) struct Plain<'a> {
    /// Until it is read.
    bytes: Option<Bytes<'a>>,
    format: Format,
    budget: Budget,
}

pub(super) fn decoder(bytes: Bytes<'_>, format: Format, budget: Budget) -> Plain<'_> {
    Plain { bytes: Some(bytes), format, budget }
}

impl Decode for Plain<'_> {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        let Some(bytes) = self.bytes.take() else { return Ok(None) };
        let said = |e: ImageError| e.to_string();
        // White space follows every number, so one that ends the file is the start of a number.
        if matches!(bytes.get_ref()[..], [b'P', b'2' | b'3', .., b'0'..=b'9']) {
            return Err("the file is cut short: a PNM of numbers ends with a space or a line end".into());
        }
        match self.format {
            Format::Bmp => decode(codecs::bmp::BmpDecoder::new(bytes).map_err(said)?, self.budget),
            Format::Qoi => decode(codecs::qoi::QoiDecoder::new(bytes).map_err(said)?, self.budget),
            _ => decode(codecs::pnm::PnmDecoder::new(bytes).map_err(said)?, self.budget),
        }
        .map(Some)
    }
}

fn decode(decoder: impl ImageDecoder, budget: Budget) -> Result<Picture, String> {
    let (width, height) = decoder.dimensions();
    let (colour, alpha, deep) = match decoder.color_type() {
        ColorType::L8 => (Colour::Grey, false, false),
        ColorType::La8 => (Colour::Grey, true, false),
        ColorType::Rgb8 => (Colour::Rgb, false, false),
        ColorType::Rgba8 => (Colour::Rgb, true, false),
        ColorType::L16 => (Colour::Grey, false, true),
        ColorType::La16 => (Colour::Grey, true, true),
        ColorType::Rgb16 => (Colour::Rgb, false, true),
        ColorType::Rgba16 => (Colour::Rgb, true, true),
        other => return Err(format!("pixels of {other:?}, which are not read")),
    };
    let pixel = Pixel { colour, alpha, deep };
    budget.admits(width.into(), height.into(), pixel.peak())?;
    let mut pixels = Pixels::new(width as usize, height as usize, pixel);
    decoder.read_image(pixels.samples()).map_err(|e| e.to_string())?;
    Ok(pixels.into_picture())
}
