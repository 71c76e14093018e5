//! A picture in memory, and how one is read from a file and made into one.

use std::fmt;

use crate::{Error, Result};

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

#[cfg(feature = "image")]
mod decode {
    use std::fs::File;
    use std::io::{Cursor, Read};
    use std::path::Path;

    use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, metadata::Orientation};

    use super::{PIXEL_LIMIT, Picture};
    use crate::{Error, Result, tasks::exif};

    /// Enough of a file to know its format.
    const MAGIC_BYTES: u64 = 64;

    impl Picture {
        /// Reads a JPEG or PNG file, told apart by what it holds and not by its name.
        ///
        /// The picture is turned upright as its EXIF orientation says, of whatever integer type; a
        /// missing or damaged one is ignored. Grey, palette and CMYK become RGB, alpha is dropped,
        /// and of sixteen bits the high eight are kept. Colour profiles are ignored, as the
        /// libraries that trained the networks ignore them.
        ///
        /// # Errors
        /// [`Error::Io`] if the file cannot be read; [`Error::File`] if it is neither JPEG nor
        /// PNG, is damaged or cut short, or holds more than [`PIXEL_LIMIT`] pixels.
        pub fn open(path: impl AsRef<Path>) -> Result<Self> {
            let path = path.as_ref();
            let mut file = File::open(path).map_err(Error::io(path))?;
            let mut bytes = Vec::new();
            // The start decides, so that a large file of another kind is not read whole.
            file.by_ref().take(MAGIC_BYTES).read_to_end(&mut bytes).map_err(Error::io(path))?;
            format_of(&bytes).map_err(|reason| Error::file(path, reason))?;
            file.read_to_end(&mut bytes).map_err(Error::io(path))?;
            Self::decode(&bytes, path)
        }

        /// Reads a JPEG or PNG file's bytes, as [`Picture::open`] does; `name` is for errors.
        ///
        /// # Errors
        /// As [`Picture::open`], without [`Error::Io`].
        pub fn decode(bytes: &[u8], name: impl AsRef<Path>) -> Result<Self> {
            decode(bytes).map_err(|reason| {
                // Decoders quote what they found; a report stays on one line all the same.
                let words: Vec<_> = reason.split(|c: char| c.is_whitespace() || c.is_control()).collect();
                Error::file(name.as_ref(), words.join(" "))
            })
        }
    }

    fn format_of(bytes: &[u8]) -> Result<ImageFormat, String> {
        match image::guess_format(bytes) {
            _ if bytes.is_empty() => Err("the file is empty".into()),
            Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => Ok(format),
            Ok(other) => Err(format!("a {other:?} picture; only JPEG and PNG are read")),
            Err(_) => Err("not a JPEG or PNG picture".into()),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Picture, String> {
        let format = format_of(bytes)?;
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::no_limits();
        // The size is checked below; this bounds what else a file can unpack, a profile say.
        limits.max_alloc = Some(PIXEL_LIMIT * 8);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;

        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(format!("a picture of {width} x {height} pixels is empty"));
        }
        if u64::from(width) * u64::from(height) > PIXEL_LIMIT {
            return Err(format!("{width} x {height} pixels are more than the limit of {PIXEL_LIMIT}"));
        }
        if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
            return Err("the JPEG is cut short: it has no end marker".into());
        }
        let orientation = match format {
            ImageFormat::Png => exif::of_png(bytes).and_then(exif::orientation),
            _ => decoder.exif_metadata().ok().flatten().and_then(|data| exif::orientation(&data)),
        };
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
        if let Some(orientation) = orientation.and_then(Orientation::from_exif) {
            image.apply_orientation(orientation);
        }
        to_picture(image).map_err(|e| e.to_string())
    }

    /// Whether an end marker follows the last scan. The decoder paints what is missing of a cut
    /// JPEG grey and reports success.
    fn jpeg_is_whole(bytes: &[u8]) -> bool {
        let mut rest = bytes;
        loop {
            // Between segments lie a scan's coded bits, in which 0xFF is followed by zero.
            let Some(at) = rest.windows(2).position(|w| w[0] == 0xff && w[1] != 0xff) else {
                return false;
            };
            let code = rest[at + 1];
            rest = &rest[at + 2..];
            match code {
                0xd9 => return true,
                0x00 | 0x01 | 0xd0..=0xd8 => {}
                _ => {
                    // Skipped by its length: a thumbnail within has an end marker of its own.
                    let [high, low, ..] = *rest else { return false };
                    let Some(next) = rest.get(usize::from(u16::from_be_bytes([high, low]))..) else {
                        return false;
                    };
                    rest = next;
                }
            }
        }
    }

    fn to_picture(image: DynamicImage) -> Result<Picture> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let color = image.color();
        let deep = color.bytes_per_pixel() > color.channel_count();
        let pixels = if deep {
            // The crate would round to eight bits where Pillow drops the low ones.
            image.into_rgb16().into_raw().into_iter().map(|v| (v >> 8) as u8).collect()
        } else {
            image.into_rgb8().into_raw()
        };
        Picture::new(width, height, pixels)
    }
}

#[cfg(feature = "image")]
pub(super) use encode::png_of;

#[cfg(feature = "image")]
mod encode {
    use png::{BitDepth, ColorType, Encoder, EncodingError, Filter};

    use super::Picture;
    use crate::{Error, Result};

    impl Picture {
        /// The picture as a PNG file's bytes.
        ///
        /// # Errors
        /// [`Error::Output`] if a side is more than a PNG can say.
        pub fn png(&self) -> Result<Vec<u8>> {
            png_of(self.width, self.height, &self.pixels, None)
        }
    }

    /// A PNG of pixels that are indices into `palette`, a byte each, or without one are RGB.
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
                // Classes are no levels: what lies between two neighbours means nothing.
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

#[cfg(all(test, feature = "image"))]
mod file_tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat};

    use super::*;
    use crate::tasks::exif::tests::{exif, integers};

    /// A file of 64 x 48 pixels with some structure.
    fn file(format: ImageFormat) -> Vec<u8> {
        let image = image::RgbImage::from_fn(64, 48, |x, y| {
            image::Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8])
        });
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(image).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn refusal(bytes: &[u8]) -> String {
        let error = Picture::decode(bytes, "p.jpg").expect_err("should be refused").to_string();
        assert!(error.starts_with("p.jpg: ") && error.lines().count() == 1, "{error:?}");
        error
    }

    #[test]
    fn every_cut_is_an_error() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png] {
            let whole = file(format);
            let picture = Picture::decode(&whole, "p").unwrap();
            assert_eq!((picture.width(), picture.height()), (64, 48));
            // A PNG's last twelve bytes are its end chunk: every pixel is there without it.
            let cuts = whole.len() - if format == ImageFormat::Png { 12 } else { 0 };
            for len in 0..cuts {
                refusal(&whole[..len]);
            }
        }
    }

    #[test]
    fn a_png_of_a_picture_is_that_picture() {
        let picture = Picture::decode(&file(ImageFormat::Jpeg), "p").unwrap();
        assert_eq!(Picture::decode(&picture.png().unwrap(), "p").unwrap(), picture);
    }

    #[test]
    fn bytes_after_the_end_do_no_harm() {
        let mut bytes = file(ImageFormat::Jpeg);
        let whole = Picture::decode(&bytes, "p").unwrap();
        bytes.extend([0xff, 0xda, 0, 9, 1]);
        assert_eq!(Picture::decode(&bytes, "p").unwrap(), whole);
    }

    #[test]
    fn a_bomb_is_refused_by_its_size() {
        // The frame header, after its marker: length, precision, rows, columns.
        let mut jpeg = file(ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|w| w[0] == 0xff && (0xc0..=0xc2).contains(&w[1])).unwrap();
        jpeg[frame + 5..frame + 9].fill(0xff);
        assert!(refusal(&jpeg).contains("65535 x 65535"));

        let mut png = file(ImageFormat::Png);
        png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0x10, 0]);
        // The checksum of that header, so that nothing but the size is wrong.
        let crc = !png[12..29].iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
        });
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        assert!(refusal(&png).contains("65536 x 4096"));
    }

    /// `exif` in a file without any: a JPEG's first segment, a PNG's chunk before or behind the picture.
    fn with_exif(format: ImageFormat, late: bool, exif: &[u8]) -> Vec<u8> {
        let file = file(format);
        let (at, part) = if format == ImageFormat::Jpeg {
            let length = (exif.len() as u16 + 8).to_be_bytes();
            (2, [b"\xff\xe1", &length[..], b"Exif\0\0", exif].concat())
        } else {
            let crc = !b"eXIf".iter().chain(exif).fold(!0u32, |crc, &byte| {
                (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
            });
            let length = exif.len() as u32;
            let chunk = [&length.to_be_bytes(), &b"eXIf"[..], exif, &crc.to_be_bytes()].concat();
            (if late { file.len() - 12 } else { 33 }, chunk)
        };
        [&file[..at], &part, &file[at..]].concat()
    }

    /// As EXIF defines it: where row 0 and column 0 of the file lie on the upright picture.
    fn upright(lying: &Picture, orientation: i32) -> Picture {
        let (w, h) = (lying.width, lying.height);
        let (width, height) = if (5..=8).contains(&orientation) { (h, w) } else { (w, h) };
        let pixels = (0..width * height).flat_map(|i| {
            let (x, y) = (i % width, i / width);
            let (x, y) = match orientation {
                2 => (w - 1 - x, y),
                3 => (w - 1 - x, h - 1 - y),
                4 => (x, h - 1 - y),
                5 => (y, x),
                6 => (y, h - 1 - x),
                7 => (w - 1 - y, h - 1 - x),
                8 => (w - 1 - y, x),
                _ => (x, y),
            };
            lying.pixels[3 * (y * w + x)..][..3].to_vec()
        });
        Picture::new(width, height, pixels.collect()).unwrap()
    }

    #[test]
    fn pictures_are_turned_upright_by_an_orientation_of_any_integer_type() {
        for (format, late) in
            [(ImageFormat::Jpeg, false), (ImageFormat::Png, false), (ImageFormat::Png, true)]
        {
            let lying = Picture::decode(&file(format), "p").unwrap();
            for little in [true, false] {
                for orientation in 0..10 {
                    for (kind, bytes) in integers(little, orientation) {
                        let turned = with_exif(format, late, &exif(little, kind, 1, &bytes));
                        let turned = Picture::decode(&turned, "p").unwrap();
                        let same = turned == upright(&lying, orientation);
                        assert!(same, "{format:?}: {orientation} as type {kind}, little: {little}");
                    }
                }
            }
            for damaged in [&b""[..], b"II", b"MM\0*\xff\xff\xff\xff", b"no TIFF header"] {
                let bytes = with_exif(format, late, damaged);
                assert_eq!(Picture::decode(&bytes, "p").unwrap(), lying, "{format:?}: {damaged:?}");
            }
        }
    }

    #[test]
    fn what_is_no_picture_says_so() {
        assert!(refusal(b"Dear diary,\ntoday I became a .jpg").contains("not a JPEG or PNG"));
        assert!(refusal(b"GIF89a\x01\x00\x01\x00").contains("Gif"));
        assert!(refusal(b"").contains("empty"));

        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("none.png")] {
            let error = Picture::open(&path).unwrap_err().to_string();
            assert!(error.starts_with(path.to_str().unwrap()) && error.lines().count() == 1, "{error}");
        }
    }
}
