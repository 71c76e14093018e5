//! Converts decoded pixels to upright RGB, in place except where the orientation swaps width and height.

use super::Picture;

/// The format of a decoded pixel, in native byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pixel {
    pub colour: Colour,
    /// True if alpha follows the colour.
    pub alpha: bool,
    /// True if samples have 16 bits.
    pub is_16_bit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Grey,
    Rgb,
    Cmyk,
}

impl Pixel {
    pub const RGB: Self = Self { colour: Colour::Rgb, alpha: false, is_16_bit: false };

    /// The bytes of a pixel.
    pub fn bytes(self) -> usize {
        let samples = match self.colour {
            Colour::Grey => 1,
            Colour::Rgb => 3,
            Colour::Cmyk => 4,
        };
        (samples + usize::from(self.alpha)) * if self.is_16_bit { 2 } else { 1 }
    }

    /// The peak bytes per pixel during the conversion to RGB.
    pub fn peak(self) -> u64 {
        self.bytes().max(3) as u64
    }
}

/// A picture's pixels before and during their conversion to RGB. Pixels of fewer than three bytes are decoded
/// into the end of the buffer, so that writing RGB from the start never overwrites unread pixels.
pub(super) struct Pixels {
    width: usize,
    height: usize,
    pixel: Pixel,
    buffer: Vec<u8>,
}

impl Pixels {
    /// Zeroed pixels. The caller checks the size.
    pub fn new(width: usize, height: usize, pixel: Pixel) -> Self {
        Self { width, height, pixel, buffer: vec![0; width * height * pixel.bytes().max(3)] }
    }

    /// The width and height.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The part of the buffer that a decoder writes to.
    pub fn samples(&mut self) -> &mut [u8] {
        let start = self.buffer.len() - self.width * self.height * self.pixel.bytes();
        &mut self.buffer[start..]
    }

    /// Converts the decoded pixels to RGB. Alpha is dropped, and only the high 8 of 16 bits are kept.
    pub fn into_picture(mut self) -> Picture {
        let Self { width, height, pixel, .. } = self;
        let (count, bytes) = (width * height, pixel.bytes());
        let start = self.buffer.len() - count * bytes;
        let depth = if pixel.is_16_bit { 2 } else { 1 };
        // The position of the high byte in a sample.
        let high = if pixel.is_16_bit && cfg!(target_endian = "little") { 1 } else { 0 };
        let buffer = &mut self.buffer[..];
        let sample = |buffer: &[u8], i: usize, k: usize| buffer[start + i * bytes + k * depth + high];
        match pixel.colour {
            _ if pixel == Pixel::RGB => {}
            Colour::Grey => {
                for i in 0..count {
                    let grey = sample(buffer, i, 0);
                    buffer[3 * i..3 * i + 3].fill(grey);
                }
            }
            Colour::Rgb => {
                for i in 0..count {
                    let rgb = [0, 1, 2].map(|k| sample(buffer, i, k));
                    buffer[3 * i..3 * i + 3].copy_from_slice(&rgb);
                }
            }
            Colour::Cmyk => {
                for i in 0..count {
                    let [c, m, y, k] = [0, 1, 2, 3].map(|k| sample(buffer, i, k));
                    let rgb = [c, m, y].map(|ink| cmyk_channel(ink, k));
                    buffer[3 * i..3 * i + 3].copy_from_slice(&rgb);
                }
            }
        }
        self.buffer.truncate(3 * count);
        self.buffer.shrink_to_fit();
        Picture { width, height, pixels: self.buffer }
    }
}

/// Converts one ink and the black ink to an RGB channel, rounded as in Pillow.
fn cmyk_channel(ink: u8, black: u8) -> u8 {
    let light = 255 - black;
    let product = u32::from(ink) * u32::from(light) + 128;
    light.saturating_sub((((product >> 8) + product) >> 8) as u8)
}

/// The peak bytes per pixel of [`upright`].
pub(super) fn upright_peak(orientation: Option<u8>) -> u64 {
    if orientation.is_some_and(|orientation| orientation >= 5) { 6 } else { 3 }
}

/// Turns a picture upright by its EXIF orientation, 1 to 8.
pub(super) fn upright(mut picture: Picture, orientation: Option<u8>) -> Picture {
    /// The side of a square tile for transposition, which fits the cache.
    const TILE: usize = 32;
    let (w, h) = (picture.width, picture.height);
    let pixels = picture.pixels.as_chunks_mut::<3>().0;
    match orientation {
        Some(2) => pixels.chunks_exact_mut(w).for_each(<[_]>::reverse),
        Some(3) => pixels.reverse(),
        Some(4) => {
            let (top, bottom) = pixels.split_at_mut(h.div_ceil(2) * w);
            for (above, below) in top.chunks_exact_mut(w).zip(bottom.chunks_exact_mut(w).rev()) {
                above.swap_with_slice(below);
            }
        }
        Some(turn @ 5..=8) => {
            let mut turned = vec![[0; 3]; w * h];
            let (right, down) = (matches!(turn, 7 | 8), matches!(turn, 6 | 7));
            for top in (0..h).step_by(TILE) {
                for left in (0..w).step_by(TILE) {
                    for y in top..h.min(top + TILE) {
                        let column = if down { h - 1 - y } else { y };
                        for x in left..w.min(left + TILE) {
                            let row = if right { w - 1 - x } else { x };
                            turned[row * h + column] = pixels[y * w + x];
                        }
                    }
                }
            }
            return Picture { width: h, height: w, pixels: turned.into_flattened() };
        }
        _ => {}
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decoded samples, converted to RGB.
    fn rgb(pixel: Pixel, samples: &[u8]) -> Vec<u8> {
        let mut pixels = Pixels::new(samples.len() / pixel.bytes(), 1, pixel);
        pixels.samples().copy_from_slice(samples);
        pixels.into_picture().into_pixels()
    }

    #[test]
    fn all_pixel_formats_become_rgb_in_place() {
        let kind = |colour, alpha, is_16_bit| Pixel { colour, alpha, is_16_bit };
        // Values by pixel and sample. The low byte of 16 bits is dropped.
        for n in [1, 2, 3, 50] {
            let value = |i: usize, k: usize| (i * 5 + k * 40) as u8;
            for (colour, samples) in [(Colour::Grey, 1), (Colour::Rgb, 3)] {
                for (alpha, is_16_bit) in [(false, false), (true, false), (false, true), (true, true)] {
                    let mut bytes = Vec::new();
                    for i in 0..n {
                        for k in 0..samples + usize::from(alpha) {
                            match is_16_bit {
                                true => bytes.extend((u16::from(value(i, k)) << 8 | 0x77).to_ne_bytes()),
                                false => bytes.push(value(i, k)),
                            }
                        }
                    }
                    let expected: Vec<u8> =
                        (0..n).flat_map(|i| [0, 1, 2].map(|k| value(i, k.min(samples - 1)))).collect();
                    assert_eq!(
                        rgb(kind(colour, alpha, is_16_bit), &bytes),
                        expected,
                        "{colour:?} {alpha} {is_16_bit}"
                    );
                }
            }
        }
        let cmyk = kind(Colour::Cmyk, false, false);
        assert_eq!(
            rgb(cmyk, &[0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 128, 0, 100, 50, 0, 55]),
            [255, 255, 255, 0, 0, 0, 0, 255, 127, 122, 161, 200]
        );
    }
}
