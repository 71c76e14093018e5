//! Figure files.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Result;
use goldcrest::measure::report::{Figure, Report, page};

/// Parses the name of a figure file.
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

/// Renders a figure file. An HTML page shows the whole report.
pub fn draw(path: &Path, figure: Figure, report: impl FnOnce(Figure) -> Report) -> Result<Vec<u8>> {
    Ok(match kind(path).as_deref() {
        Some("png") => figure.png()?,
        Some("html") => page::render(&report(figure))?.into_bytes(),
        _ => figure.svg()?.into_bytes(),
    })
}
