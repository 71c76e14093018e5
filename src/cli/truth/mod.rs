//! Evaluation of results against ground truth.

mod boxes;
mod classes;
mod entries;
mod masks;

use anyhow::{Result, bail};
use goldcrest::tasks::Labels;

pub use boxes::Boxes;
pub use classes::{Classes, folders};
pub use masks::Masks;

/// Warns about pictures without ground truth.
fn warn_without_truth(count: usize, of: &str) {
    if count > 0 {
        log::warn!("{count} pictures are not in {of} and are not evaluated");
    }
}

/// A fraction as a percentage, for display.
fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Returns the class that `text` names: the only one whose label satisfies `is`.
///
/// # Errors
/// If there are several such classes.
fn labelled(labels: &Labels, text: &str, is: impl Fn(&str) -> bool) -> Result<Option<usize>> {
    let mut found = (0..labels.len()).filter(|index| labels.get(*index).is_some_and(&is));
    match (found.next(), found.next()) {
        (Some(one), Some(other)) => bail!("{text:?} is the name of classes {one} and {other}"),
        (found, _) => Ok(found),
    }
}
