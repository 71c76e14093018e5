//! Splits a stream of concatenated pictures, as `ffmpeg -f image2pipe` writes them.

use std::io::{BufRead, Read};

use super::{
    lookahead::Lookahead,
    picture_end::{self, End},
};
use crate::tasks::{Format, MAGIC_BYTES};

/// The number of bytes that identify any supported format.
const START: usize = 18;

/// The maximum number of zero and whitespace bytes between pictures.
const MOST_FILL: usize = 1 << 16;

/// Returns the bytes of the next picture, and true if it has several frames; `None` at the end of the stream.
/// `limit` is the maximum size of a picture in bytes. Padding and line ends between pictures are skipped, but
/// not before the `first`.
///
/// # Errors
/// The reason, if the next bytes are not a picture; as [`picture_end::end`].
pub fn next<R: Read>(
    stream: &mut Lookahead<R>,
    limit: usize,
    first: bool,
) -> Result<Option<(Vec<u8>, bool)>, String> {
    let fills = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    let mut most = if first { 0 } else { MOST_FILL };
    loop {
        let found = stream.peek(usize::from(most > 0)).map_err(|e| e.to_string())?;
        let fill = found.iter().take(most).take_while(|byte| fills(byte)).count();
        if fill == 0 {
            break;
        }
        stream.consume(fill);
        most -= fill;
    }
    // Peek only at the bytes that identify a format: the bytes after a small picture may arrive much later.
    let found = stream.peek(START).map_err(|e| e.to_string())?;
    if found.is_empty() {
        return Ok(None);
    }
    // Check the format first, so that a stream without pictures is not read to its end.
    let format = Format::of(&found[..found.len().min(MAGIC_BYTES)])?;
    let End { length, animated } = picture_end::end(stream, format, limit)?;
    Ok(Some((stream.split_off(length), animated)))
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf};

    use super::*;

    /// A reader that returns its bytes a few at a time, as pipes may.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(into.len()).min(self.0.len());
            let (now, later) = self.0.split_at(count);
            into[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Vec<u8>>, String> {
        let mut stream = Lookahead::new(Dribble(bytes, step));
        let mut first = true;
        let next = || next(&mut stream, 1 << 20, std::mem::take(&mut first)).transpose();
        std::iter::from_fn(next).map(|next| next.map(|(bytes, _)| bytes)).collect()
    }

    fn pictures() -> Vec<Vec<u8>> {
        let image = image::RgbImage::from_fn(19, 7, |x, y| image::Rgb([x as u8 * 13, y as u8 * 31, 0xff]));
        let write = |format| {
            let mut bytes = io::Cursor::new(Vec::new());
            image::DynamicImage::from(image.clone()).write_to(&mut bytes, format).unwrap();
            bytes.into_inner()
        };
        let mut jpeg = write(image::ImageFormat::Jpeg);
        // A segment with the end marker of a thumbnail, and fill bytes before a marker.
        jpeg.splice(2..2, *b"\xff\xe1\x00\x06\xff\xd9\xff\xd8\xff\xff");
        let png = write(image::ImageFormat::Png);
        let ppm = [b"P6 # 9 9\n19 7\n255\n", &image.as_raw()[..]].concat();
        let deep = [b"P5\n3 2 65535\n", &[7; 12][..]].concat();
        let bits = [b"P4\n9 2\n", &[0xa5; 4][..]].concat();
        let pam = [b"P7\nWIDTH 3\nHEIGHT 2\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n", &[1; 24][..]]
            .concat();
        let mut bmp = b"BM".to_vec();
        bmp.extend(70u32.to_le_bytes());
        bmp.extend([0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0]);
        bmp.resize(70, 3);
        let mut webp = b"RIFF".to_vec();
        webp.extend(13u32.to_le_bytes());
        webp.extend(b"WEBP");
        webp.resize(8 + 14, 5);
        vec![jpeg, png, ppm, deep, bits, pam, bmp, webp]
    }

    /// Fixture files of these formats, from several programs, with one picture or one animation each.
    fn files(endings: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
        let paths = std::fs::read_dir("tests/fixtures/formats").unwrap().map(|file| file.unwrap().path());
        let is_wanted = |path: &PathBuf| {
            let one = path.file_stem().is_some_and(|stem| stem != "several");
            one && path.extension().is_some_and(|end| endings.iter().any(|e| end == *e))
        };
        let paths = paths.filter(is_wanted);
        let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        files.sort();
        files
    }

    #[test]
    fn pictures_are_found_one_after_another_however_they_come() {
        let mut pictures = pictures();
        let files =
            files(&["jpg", "png", "apng", "pbm", "pgm", "ppm", "pam", "gif", "qoi", "bmp", "webp", "tif"]);
        assert!(files.len() > 90);
        pictures.extend(files.into_iter().map(|(_, bytes)| bytes));
        for step in [1, 3, 4096, usize::MAX] {
            let found = all(&pictures.concat(), step).unwrap();
            for (at, (found, picture)) in found.iter().zip(&pictures).enumerate() {
                // Padding at the end of a file is not part of its picture.
                let (same, fill) = picture.split_at(found.len().min(picture.len()));
                let fills = fill.iter().all(|byte| [0, b'\n'].contains(byte));
                assert!(found == same && fills, "{at}: {:?} at steps of {step}", &picture[..4]);
            }
            assert_eq!(found.len(), pictures.len());
        }
        assert!(all(&[], 1).unwrap().is_empty());
    }

    /// An animation of one frame, and a default image that is not this frame.
    fn one_frame() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_animated(1, 0).unwrap();
        encoder.set_sep_def_img(true).unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[10, 20]).unwrap();
        writer.write_image_data(&[30, 40]).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn animations_are_distinguished_from_pictures() {
        let files = files(&["gif", "apng", "png", "webp", "tif", "jpg"]);
        for (path, bytes) in files.into_iter().chain([("one frame".into(), one_frame())]) {
            let (_, animated) = next(&mut Lookahead::new(&bytes[..]), 1 << 20, true).unwrap().unwrap();
            let limits = crate::tasks::PictureLimits::default();
            let frames = crate::tasks::Frames::decode(&bytes, &path, limits).unwrap().count();
            assert_eq!(animated, frames > 1, "{}", path.display());
        }
    }

    #[test]
    fn a_cut_picture_takes_none_of_the_next() {
        let (_, whole) = files(&["jpg"]).remove(0);
        let found = all(&[&whole[..whole.len() - 9], &whole].concat(), 4096).unwrap();
        assert!(found.len() == 2 && found[1] == whole);
    }

    #[test]
    fn every_cut_is_reported() {
        let files = files(&["gif", "qoi", "pbm", "pgm", "ppm", "tif"]).into_iter().map(|(_, bytes)| bytes);
        for picture in pictures().into_iter().chain(files) {
            // Whitespace at the end is not part of the pixels.
            let end = match picture[..2] {
                [b'P', b'1'] => picture.trim_ascii_end().len(),
                // Padded to whole words.
                [b'I', b'I'] | [b'M', b'M'] => picture.len() - 1,
                _ => picture.len(),
            };
            for length in
                (START..end).rev().enumerate().filter(|(i, _)| *i < 16 || i % 7 == 0).map(|(_, l)| l)
            {
                let reported =
                    all(&picture[..length], usize::MAX).is_err_and(|error| error.contains("cut short"));
                assert!(reported, "{:?} {length} of {}", &picture[..4], picture.len());
            }
        }
    }

    #[test]
    fn a_small_tiff_cannot_exhaust_memory() {
        // One directory whose entries all point to the same long list of directories.
        let mut bytes = b"II*\0\x08\0\0\0\xff\xff".to_vec();
        for _ in 0..0xffff {
            bytes.extend(b"\x4a\x01\x04\0");
            bytes.extend(200_000u32.to_le_bytes());
            bytes.extend(100u32.to_le_bytes());
        }
        bytes.resize(bytes.len() + 900_000, 1);
        let error = all(&bytes, usize::MAX).unwrap_err();
        assert!(error.contains("too many parts") || error.contains("larger than the limit"), "{error}");
    }

    #[test]
    fn no_stream_is_read_forever() {
        for start in [
            &b"\xff\xd8\xff\xe0"[..],
            b"\x89PNG\r\n\x1a\n\xff\xff\xff\xff",
            b"P6 ",
            b"P1 ",
            b"P3 9 9 9 ",
            b"GIF89a",
            b"qoif\xff\xff\xff\xff\xff\xff\xff\xff",
            b"II*\0\xff\xff\xff\xff",
            b"\0",
        ] {
            let mut endless = Lookahead::new(start.chain(io::repeat(0)));
            assert!(next(&mut endless, 1 << 20, true).is_err(), "{start:?}");
        }
    }
}
