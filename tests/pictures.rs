//! Pictures of every format, held against Pillow: `scripts/make_picture_fixtures.py` says what the files are.

use std::{collections::BTreeMap, fs, path::PathBuf};

use goldcrest::tasks::{Frames, Picture, PictureLimits};

/// Files, and what is expected of each: its pictures one below the other.
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

/// How far a sample may be from Pillow's: it and the `image` crate round samples of five and six bits, and
/// those of a PNM that do not end at 255, to either side. Luma and chroma Pillow makes RGB with six bits behind the
/// point, and a JPEG within a TIFF is not decoded in libjpeg's arithmetic.
fn bound(name: &str) -> u8 {
    match name {
        "555.bmp" | "565.bmp" | "to100.ppm" | "luma.tif" => 1,
        "luma_jpeg.tif" => 2,
        _ => 0,
    }
}

#[test]
fn every_picture_is_pillows() {
    let mut wrong = Vec::new();
    for (name, (path, expected)) in fixtures() {
        let frames: Result<Vec<Picture>, _> =
            Frames::open(&path, PictureLimits::default()).and_then(Iterator::collect);
        let frames = match frames {
            Ok(frames) => frames,
            Err(error) => {
                wrong.push(error.to_string());
                continue;
            }
        };
        assert_eq!(Picture::open(&path).unwrap(), frames[0], "{name}");
        let height: usize = frames.iter().map(Picture::height).sum();
        if height != expected.height() || frames[0].width() != expected.width() {
            wrong.push(format!("{name}: {frames:?} where {expected:?} is expected"));
            continue;
        }
        let found = frames.iter().flat_map(|frame| frame.pixels());
        let off: Vec<u8> = found.zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b)).collect();
        let most = off.iter().copied().max().unwrap();
        if most > bound(&name) {
            let first = off.iter().position(|off| *off > bound(&name)).unwrap() / 3;
            wrong.push(format!(
                "{name}: up to {most} off, at {} of {} samples, first at {}, {}",
                off.iter().filter(|off| **off > bound(&name)).count(),
                off.len(),
                first % expected.width(),
                first / expected.width()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `<(cat PICTURE)`: a pipe is opened once and read to its end.
#[cfg(unix)]
#[test]
fn a_pipe_is_a_picture() {
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
