//! Figures as files.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Result;
use goldcrest::measure::report::{Figure, Report, page};

/// The name of a file that a figure can be.
pub fn name(name: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    match kind(&path).as_deref() {
        Some("svg" | "png" | "html") => Ok(path),
        _ => Err("expected the name of a .svg, .png or .html file".into()),
    }
}

fn kind(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// The bytes of a figure's file; a page has more than the figure.
pub fn draw(path: &Path, figure: Figure, report: impl FnOnce(Figure) -> Report) -> Result<Vec<u8>> {
    Ok(match kind(path).as_deref() {
        Some("png") => figure.png()?,
        Some("html") => page::render(&report(figure))?.into_bytes(),
        _ => figure.svg()?.into_bytes(),
    })
}
