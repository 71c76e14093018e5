//! Pictures in memory and in files.

use std::fmt;

use crate::{Error, Result};

#[cfg(feature = "image")]
pub(crate) mod file;

/// The maximum number of pixels in a picture file: Pillow's limit against decompression bombs.
pub const PIXEL_LIMIT: u64 = 178_956_970;

/// An RGB picture with 8 bits per channel, rows from the top, without padding between rows.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// A picture of `width` x `height` pixels from RGB bytes, row by row from the top.
    ///
    /// # Errors
    /// [`Error::Input`] if the width or height is zero or `pixels` does not hold three bytes per pixel.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(Error::Input(format!("a picture of {width} x {height} pixels is empty")));
        }
        if width.checked_mul(height).and_then(|n| n.checked_mul(3)) != Some(pixels.len()) {
            return Err(Error::Input(format!(
                "{} bytes do not fill a picture of {width} x {height} RGB pixels",
                pixels.len()
            )));
        }
        Ok(Self { width, height, pixels })
    }

    /// The width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The RGB bytes, row by row from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The RGB bytes, row by row from the top, for drawing.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Converts the picture into its RGB bytes.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_checks_the_number_of_bytes() {
        assert!(Picture::new(2, 1, vec![0; 6]).is_ok());
        for (width, height, len) in [(2, 1, 5), (0, 1, 0), (1, 0, 0), (usize::MAX, 2, 6)] {
            assert!(Picture::new(width, height, vec![0; len]).is_err(), "{width} x {height}, {len} bytes");
        }
    }
}
