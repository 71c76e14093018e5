//! Studies as JSON files.
//!
//! A file is a [`Report`] with two more keys: `format`, which is [`STUDY`] or [`COMPARISON`], and `version`. The
//! version increases when files of the previous one can no longer be read.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, measure::report::Report};

/// The `format` of a study, and of a comparison of studies.
pub(super) const STUDY: &str = "goldcrest study";
pub(super) const COMPARISON: &str = "goldcrest study comparison";

/// The version of both. Version 1 had neither key.
const VERSION: u64 = 2;

#[derive(Serialize)]
struct File<'a> {
    format: &'static str,
    version: u64,
    #[serde(flatten)]
    report: &'a Report,
}

/// Returns the JSON of a study's report, which [`read`] reads.
///
/// # Errors
/// None are expected: every report can be written.
pub fn json(report: &Report) -> Result<String> {
    written(STUDY, report)
}

pub(super) fn written(format: &'static str, report: &Report) -> Result<String> {
    let file = File { format, version: VERSION, report };
    let text = serde_json::to_string_pretty(&file).map_err(|e| Error::Output(e.to_string()))?;
    Ok(text + "\n")
}

/// Reads the report of a study from the bytes of its file, whose name is for error messages.
///
/// # Errors
/// [`Error::File`] if it is not the report of a study, or if its format has another version.
///
/// ```
/// use goldcrest::{measure::report::Report, study};
///
/// let report = Report { title: "A study".into(), ..Report::default() };
/// let text = study::json(&report)?;
/// assert_eq!(study::read("study.json", text.as_bytes())?, report);
/// # Ok::<(), goldcrest::Error>(())
/// ```
pub fn read(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Report> {
    let refused = |reason: &str| Error::file(name.as_ref(), reason);
    let value: Value = serde_json::from_slice(bytes).map_err(|e| {
        refused(&format!("is not JSON ({e}): name the .json file that `goldcrest study` wrote"))
    })?;
    let format = value["format"].as_str();
    match (format, value["version"].as_u64()) {
        (Some(STUDY), Some(VERSION)) => {}
        (Some(STUDY), Some(newer)) if newer > VERSION => {
            return Err(refused(&format!(
                "is a study of version {newer}, and this program reads version {VERSION}: update the program"
            )));
        }
        (Some(STUDY), _) => {
            return Err(refused("is the study of an older version: run `goldcrest study` again"));
        }
        (Some(COMPARISON), _) => return Err(refused("is a comparison: name the studies that it compares")),
        // Version 1.
        (None, None) if value["sections"].is_array() && value["facts"].is_array() => {
            return Err(refused("is the study of an older version: run `goldcrest study` again"));
        }
        _ => return Err(refused("is JSON, but not a report of `goldcrest study`")),
    }
    Report::deserialize(value).map_err(|e| refused(&format!("is a damaged report of `goldcrest study`: {e}")))
}
