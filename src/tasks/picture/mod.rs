//! A picture in memory, and how one is read from a file and made into one.

use std::fmt;

use crate::{Error, Result};

#[cfg(feature = "image")]
pub(crate) mod file;

/// The most pixels that a file may hold: where Pillow suspects a decompression bomb.
pub const PIXEL_LIMIT: u64 = 178_956_970;

/// An RGB picture, eight bits a channel, rows from the top, no padding between them.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// A picture of `width` x `height` pixels over `pixels`: red, green, blue, row by row.
    ///
    /// # Errors
    /// [`Error::Input`] if a side is zero or `pixels` does not hold three bytes a pixel.
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

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Red, green, blue, row by row from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Red, green, blue, row by row from the top, to draw on.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// The bytes alone.
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
    fn new_refuses_what_does_not_fit() {
        assert!(Picture::new(2, 1, vec![0; 6]).is_ok());
        for (width, height, len) in [(2, 1, 5), (0, 1, 0), (1, 0, 0), (usize::MAX, 2, 6)] {
            assert!(Picture::new(width, height, vec![0; len]).is_err(), "{width} x {height}, {len} bytes");
        }
    }
}
