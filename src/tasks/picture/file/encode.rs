//! Encodes pictures and label maps as PNG files.

use png::{BitDepth, ColorType, Encoder, EncodingError, Filter};

use super::Picture;
use crate::{Error, Result};

impl Picture {
    /// Encodes the picture as a PNG file.
    ///
    /// # Errors
    /// [`Error::Output`] if the width or height exceeds PNG's limit.
    pub fn png(&self) -> Result<Vec<u8>> {
        png_of(self.width, self.height, &self.pixels, None)
    }
}

/// Encodes pixels as a PNG file: one-byte indices into `palette`, or RGB without one.
///
/// # Errors
/// As [`Picture::png`].
pub(in crate::tasks) fn png_of(
    width: usize,
    height: usize,
    pixels: &[u8],
    palette: Option<&[[u8; 3]]>,
) -> Result<Vec<u8>> {
    let side = |n| u32::try_from(n).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    let mut write = || {
        let mut encoder = Encoder::new(&mut bytes, side(width), side(height));
        encoder.set_depth(BitDepth::Eight);
        encoder.set_color(ColorType::Rgb);
        if let Some(palette) = palette {
            encoder.set_color(ColorType::Indexed);
            encoder.set_palette(palette.as_flattened());
            // Differences between class numbers have no meaning, so filters do not help.
            encoder.set_filter(Filter::NoFilter);
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(pixels)?;
        writer.finish()
    };
    write().map_err(|e: EncodingError| {
        Error::Output(format!("{width} x {height} pixels do not make a PNG: {e}"))
    })?;
    Ok(bytes)
}
