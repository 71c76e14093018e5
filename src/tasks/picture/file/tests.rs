//! Tests with generated files: cut, damaged, turned, too large.

use std::io::{Cursor, Read};

use image::{DynamicImage, ImageFormat};

use super::exif::tests::{exif, integers};
use super::*;
use crate::Result;

/// A file of 64 x 48 pixels with a pattern.
fn file(format: ImageFormat) -> Vec<u8> {
    let image =
        image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8]));
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
        // A PNG's last twelve bytes are its end chunk; the pixels are complete without it.
        let cuts = whole.len() - if format == ImageFormat::Png { 12 } else { 0 };
        for len in 0..cuts {
            refusal(&whole[..len]);
        }
    }
}

#[test]
fn a_picture_is_unchanged_by_png() {
    let picture = Picture::decode(&file(ImageFormat::Jpeg), "p").unwrap();
    assert_eq!(Picture::decode(&picture.png().unwrap(), "p").unwrap(), picture);
}

#[test]
fn trailing_bytes_are_ignored() {
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
    // The checksum of that header, so that only the size is wrong.
    let crc = !png[12..29].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
    });
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(refusal(&png).contains("65536 x 4096"));
}

/// A file with `exif`: in a JPEG's first segment, or in a PNG's chunk before or after the picture.
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

/// The definition in EXIF: the position of row 0 and column 0 of the file on the upright picture.
fn upright(stored: &Picture, orientation: i32) -> Picture {
    let (w, h) = (stored.width, stored.height);
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
        stored.pixels[3 * (y * w + x)..][..3].to_vec()
    });
    Picture::new(width, height, pixels.collect()).unwrap()
}

#[test]
fn pictures_are_turned_upright_by_an_orientation_of_any_integer_type() {
    for (format, late) in [(ImageFormat::Jpeg, false), (ImageFormat::Png, false), (ImageFormat::Png, true)] {
        let stored = Picture::decode(&file(format), "p").unwrap();
        for little in [true, false] {
            for orientation in 0..10 {
                for (kind, bytes) in integers(little, orientation) {
                    let turned = with_exif(format, late, &exif(little, kind, 1, &bytes));
                    let turned = Picture::decode(&turned, "p").unwrap();
                    let same = turned == upright(&stored, orientation);
                    assert!(same, "{format:?}: {orientation} as type {kind}, little: {little}");
                }
            }
        }
        for damaged in [&b""[..], b"II", b"MM\0*\xff\xff\xff\xff", b"no TIFF header"] {
            let bytes = with_exif(format, late, damaged);
            assert_eq!(Picture::decode(&bytes, "p").unwrap(), stored, "{format:?}: {damaged:?}");
        }
    }
}

#[test]
fn other_files_are_named_in_the_error() {
    assert!(refusal(b"Dear diary,\ntoday I became a .jpg").contains("not a picture"));
    assert!(refusal(b"").contains("empty"));
    for (bytes, words) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], ["a HEIC picture", "heif-convert"]),
        (b"\0\0\0\x1cftypavif\0\0\0\0", ["an AVIF picture", "ffmpeg"]),
        (b"\0\0\0\x20ftypisom\0\0\x02\0", ["a video", "frame%05d.png"]),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01", ["a camera's raw file", "darktable-cli"]),
        (b"II*\0\x10\0\0\0CR\x02\0", ["a camera's raw file", "darktable-cli"]),
        (b"RIFF\x24\x60\0\0AVI LIST", ["a video", "frame%05d.png"]),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", ["a video", "frame%05d.png"]),
        (b"\xff\x0a\xfa\x1f", ["a JPEG XL picture", "ffmpeg"]),
        (b"\0\0\0\x0cjP  \r\n\x87\n", ["a JPEG 2000 picture", "ffmpeg"]),
        (b"8BPS\0\x01", ["a Photoshop document", "PNG"]),
        (b"\0\0\x01\0\x01\0\x10\x10", ["an icon", "icotool"]),
        (b"%PDF-1.7", ["a PDF document", "pdftoppm"]),
        (b"<?xml version=\"1.0\"?>\n<!-- drawn --><svg xmlns=\"\"/>", ["an SVG drawing", "rsvg-convert"]),
    ] {
        let error = refusal(bytes);
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }

    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("none.png")] {
        let error = Picture::open(&path).unwrap_err().to_string();
        assert!(error.starts_with(path.to_str().unwrap()) && error.lines().count() == 1, "{error}");
    }
}

/// An endless reader: some bytes, then zeros.
struct Endless(&'static [u8]);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            buffer.fill(0);
            return Ok(buffer.len());
        }
        self.0.read(buffer)
    }
}

#[test]
fn endless_input_is_refused() {
    let limits = PictureLimits { memory: 1 << 20, ..PictureLimits::default() };
    let error = |start| Frames::read(Endless(start), "pipe", limits).unwrap_err().to_string();
    // Rejected by its first bytes, without reading further.
    assert!(error(b"").contains("not a picture"));
    let endless = error(b"\x89PNG\r\n\x1a\n");
    assert!(
        endless.contains("larger than the limit of 1 MiB") && endless.contains("--max-memory"),
        "{endless}"
    );
}

#[test]
fn the_caller_sets_the_limits() {
    // 64 x 48 pixels of three bytes, and the file.
    let png = file(ImageFormat::Png);
    let read = |pixels, memory| Picture::decode_with(&png, "p", PictureLimits { pixels, memory });
    let enough = (64 * 48 * 3 + png.len()) as u64;
    assert!(read(64 * 48, enough).is_ok());
    let error = read(64 * 48 - 1, enough).unwrap_err().to_string();
    assert!(error.contains("64 x 48") && error.contains("--max-pixels"), "{error}");
    let error = read(64 * 48, enough - 1).unwrap_err().to_string();
    assert!(error.contains("64 x 48") && error.contains("--max-memory"), "{error}");
}

/// The files that `tests/pictures.rs` compares with Pillow.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = std::fs::read_dir("tests/fixtures/formats").unwrap();
    let mut files: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .filter(|(name, _)| name.matches('.').count() == 1)
        .collect();
    files.sort();
    assert!(files.len() > 90);
    files
}

fn frames(bytes: &[u8]) -> Result<Vec<Picture>> {
    let limits = PictureLimits { pixels: 1 << 20, memory: 1 << 26 };
    Frames::decode(bytes, "p", limits).and_then(Iterator::collect)
}

/// A file cut anywhere gives only pictures of the whole file.
#[test]
fn cut_files_give_only_pictures_of_the_whole_file() {
    for (name, whole) in fixtures() {
        let expected = frames(&whole).unwrap();
        // Without optimisation, all cuts near the end, which are the hardest to detect, and some of the
        // others.
        let step = if cfg!(debug_assertions) { 7 } else { 1 };
        for len in
            (0..whole.len()).rev().enumerate().filter(|(i, _)| *i < 16 || i % step == 0).map(|(_, len)| len)
        {
            if let Ok(found) = frames(&whole[..len]) {
                assert!(expected.starts_with(&found), "{name} cut at {len} of {}", whole.len());
            }
        }
    }
}

/// Unsupported TIFFs that look like supported ones.
#[test]
fn unsupported_tiffs_are_refused() {
    for (name, from, to, word) in [
        // PlanarConfiguration becomes FillOrder with the value 2: low bits first.
        ("rgb.tif", &b"\x1c\x01\x03\0\x01\0\0\0\x01"[..], &b"\x0a\x01\x03\0\x01\0\0\0\x02"[..], "lowest bit"),
        // White at level 235, as in video.
        ("luma.tif", b"\xff\0\0\0\x01\0\0\0", b"\xeb\0\0\0\x01\0\0\0", "limited-range YCbCr"),
    ] {
        let mut bytes = std::fs::read(format!("tests/fixtures/formats/{name}")).unwrap();
        assert!(frames(&bytes).is_ok());
        let at = memchr::memmem::find(&bytes, from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        let error = frames(&bytes).unwrap_err().to_string();
        assert!(error.contains(word), "{name}: {error}");
    }
}

/// Reading damaged files ends without a panic and within the limits.
#[test]
fn damage_does_not_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below
    };
    let mut read = 0;
    for (_, whole) in fixtures() {
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..1 + draw(4) {
                // Most data that decoders trust is at the start.
                let most = if draw(2) == 0 { bytes.len() } else { bytes.len().min(128) };
                let at = draw(most);
                match draw(4) {
                    0 => bytes[at] ^= 1 << draw(8),
                    1 => bytes[at] = draw(256) as u8,
                    2 => bytes[at] = [0, 1, 0x7f, 0xff][draw(4)],
                    _ => drop(bytes.remove(at)),
                }
            }
            read += u32::from(frames(&bytes).is_ok());
        }
    }
    assert!(read > 100, "too few damaged files are readable to test anything: {read}");
}
