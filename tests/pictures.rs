//! Pictures of every format, compared with Pillow's. `scripts/make_picture_fixtures.py` documents the files.

use std::{collections::BTreeMap, fs, path::PathBuf};

use goldcrest::tasks::{Frames, Picture, PictureLimits};

/// Files, and the expected result of each: its frames, stacked vertically.
fn fixtures() -> BTreeMap<String, (PathBuf, Picture)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("tests/fixtures/formats").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let expected = path.with_file_name(format!("{name}.png"));
        if expected.exists() {
            found.insert(name, (path, Picture::open(expected).unwrap()));
        }
    }
    assert!(found.len() > 90, "{} fixtures", found.len());
    found
}

/// The largest difference from Pillow's samples. Pillow and the `image` crate round samples of five and six
/// bits differently, and those of a PNM whose maximum is not 255. Pillow converts luma and chroma to RGB with
/// six fractional bits, and a JPEG within a TIFF is not decoded with libjpeg's arithmetic.
fn bound(name: &str) -> u8 {
    match name {
        "555.bmp" | "565.bmp" | "to100.ppm" | "luma.tif" => 1,
        "luma_jpeg.tif" => 2,
        _ => 0,
    }
}

#[test]
fn every_picture_matches_pillow() {
    let mut failures = Vec::new();
    for (name, (path, expected)) in fixtures() {
        let frames: Result<Vec<Picture>, _> =
            Frames::open(&path, PictureLimits::default()).and_then(Iterator::collect);
        let frames = match frames {
            Ok(frames) => frames,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        assert_eq!(Picture::open(&path).unwrap(), frames[0], "{name}");
        let height: usize = frames.iter().map(Picture::height).sum();
        if height != expected.height() || frames[0].width() != expected.width() {
            failures.push(format!("{name}: {frames:?}, expected {expected:?}"));
            continue;
        }
        let found = frames.iter().flat_map(|frame| frame.pixels());
        let off: Vec<u8> = found.zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b)).collect();
        let most = off.iter().copied().max().unwrap();
        if most > bound(&name) {
            let first = off.iter().position(|off| *off > bound(&name)).unwrap() / 3;
            failures.push(format!(
                "{name}: up to {most} off, at {} of {} samples, first at {}, {}",
                off.iter().filter(|off| **off > bound(&name)).count(),
                off.len(),
                first % expected.width(),
                first / expected.width()
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// `<(cat PICTURE)`: a pipe is opened once and read to its end.
#[cfg(unix)]
#[test]
fn picture_is_read_from_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let file = "tests/fixtures/formats/420.jpg";
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, fs::read(file).unwrap()).unwrap()
    });
    assert_eq!(Picture::open(&pipe).unwrap(), Picture::open(file).unwrap());
    writer.join().unwrap();
}
