//! Pictures in every supported format, through the command line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{SEEDED, json, on_cpu, pictures_of, refused};

fn classify(picture: &Path) -> Command {
    on_cpu("classify", Path::new(SEEDED), &[picture.to_str().unwrap()])
}

/// Files with one picture, each with Pillow's decoding as PNG. Without the inexact formats, where levels may
/// differ by 1/255.
fn stills() -> Vec<(PathBuf, PathBuf)> {
    let mut found: Vec<_> = fs::read_dir("tests/fixtures/formats")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|file| (PathBuf::from(format!("{}.png", file.display())), file))
        .filter(|(expected, file)| {
            let name = file.file_name().unwrap().to_str().unwrap();
            let inexact = ["555.bmp", "565.bmp", "to100.ppm"].contains(&name);
            expected.exists() && !inexact && image::image_dimensions(expected).unwrap().1 < 40
        })
        .map(|(expected, file)| (file, expected))
        .collect();
    found.sort();
    assert!(found.len() > 80, "{} files", found.len());
    found
}

#[test]
fn every_format_gives_the_classes_of_its_png() {
    let stills = stills();
    let mut command = on_cpu("classify", Path::new(SEEDED), &["--json"]);
    command.args(stills.iter().flat_map(|(file, expected)| [file, expected]));
    let report = json(command);
    let pictures = pictures_of(&report);
    assert_eq!(pictures.len(), 2 * stills.len());
    for (pair, (file, _)) in pictures.chunks_exact(2).zip(&stills) {
        assert_eq!(pair[0]["file"], file.to_str().unwrap());
        // Pillow rounds luma and chroma differently: see `tests/pictures.rs`.
        let rounded = file.file_name().unwrap().to_str().unwrap().starts_with("luma");
        assert!(rounded || pair[0]["classes"] == pair[1]["classes"], "{}", file.display());
    }
    let grey = stills.iter().position(|(file, _)| file.ends_with("grey.png")).unwrap();
    let rgb = stills.iter().position(|(file, _)| file.ends_with("rgb.png")).unwrap();
    assert_ne!(pictures[2 * grey]["classes"], pictures[2 * rgb]["classes"]);
}

#[test]
fn unsupported_formats_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holiday.jpg");
    for (bytes, words) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], ["holiday.jpg", "HEIC", "heif-convert"]),
        (b"\0\0\0\x1cftypavif\0\0\0\0", ["holiday.jpg", "AVIF", "ffmpeg"]),
        (b"\0\0\0\x20ftypmp42\0\0\0\0", ["holiday.jpg", "video", "ffmpeg"]),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", ["holiday.jpg", "SVG", "rsvg-convert"]),
    ] {
        fs::write(&path, bytes).unwrap();
        refused(classify(&path), &words);
    }
}

#[test]
fn too_large_a_picture_is_refused_by_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep.pgm");
    fs::write(&path, b"P5 60000 60000 65535\n").unwrap();
    refused(classify(&path), &["deep.pgm", "60000 x 60000", "limit", "--max-pixels"]);
}

/// A device without an end is refused after its first bytes.
#[cfg(unix)]
#[test]
fn an_endless_device_is_refused() {
    refused(classify(Path::new("/dev/zero")), &["/dev/zero", "not a picture"]);
}
