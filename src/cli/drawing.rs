//! Files of drawings: PNG or JPEG, by their extension.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use goldcrest::{Result, tasks::Picture};

use super::common::has_extension;

/// The extensions of drawings.
pub const EXTENSIONS: [&str; 2] = ["png", "jpg"];

/// The quality of drawings in JPEG.
const QUALITY: u8 = 90;

/// Encodes a drawing in the format of its file's extension.
pub fn encoded(picture: &Picture, path: &Path) -> Result<Vec<u8>> {
    if has_extension(path, &["jpg"]) { picture.jpeg(QUALITY) } else { picture.png() }
}

/// Parses the name of a drawing's file, which need not be UTF-8.
pub fn name(name: OsString) -> std::result::Result<PathBuf, String> {
    let path = PathBuf::from(name);
    if has_extension(&path, &EXTENSIONS) {
        Ok(path)
    } else {
        Err("expected the name of a .png or .jpg file".into())
    }
}
