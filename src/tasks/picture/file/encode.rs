//! Encodes pictures as PNG and JPEG files, and label maps as PNG files.

use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};
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

    /// Encodes the picture as a JPEG file of a quality from 1 to 100, with chroma in full resolution, which thin
    /// coloured lines need.
    ///
    /// ```
    /// let picture = goldcrest::tasks::Picture::new(16, 9, vec![200; 16 * 9 * 3])?;
    /// assert!(picture.jpeg(90)?.starts_with(b"\xff\xd8"));
    /// # Ok::<(), goldcrest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Output`] if the width or height exceeds 65535, JPEG's limit, or for another quality.
    pub fn jpeg(&self, quality: u8) -> Result<Vec<u8>> {
        let (width, height) = (self.width, self.height);
        let failed = |reason: &dyn std::fmt::Display| {
            Err(Error::Output(format!(
                "a picture of {width} x {height} pixels cannot be written as a JPEG: {reason}"
            )))
        };
        if !(1..=100).contains(&quality) {
            return failed(&format_args!("the quality is {quality}, expected 1 to 100"));
        }
        if width.max(height) > 65_535 {
            return failed(&"the limit is 65535 on each side");
        }
        compress(&self.pixels, width, height, PixelFormat::Rgb, quality, Subsampling::S444)
            .or_else(|error| failed(&error))
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
        Error::Output(format!("a picture of {width} x {height} pixels cannot be written as a PNG: {e}"))
    })?;
    Ok(bytes)
}
