//! Answers held against the truth.

mod boxes;
mod classes;
mod entries;
mod masks;

use anyhow::{Result, bail};
use goldcrest::tasks::Labels;

pub use boxes::Boxes;
pub use classes::{Classes, folders};
pub use masks::Masks;

/// Tells how many pictures had no truth to be held against.
fn without(count: usize, of: &str) {
    if count > 0 {
        log::warn!("{count} pictures are not in {of}, and count for nothing");
    }
}

/// A share of a hundred, for people.
fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// The class that `text` means: the only one whose label `is` it.
///
/// # Errors
/// If there are several.
fn labelled(labels: &Labels, text: &str, is: impl Fn(&str) -> bool) -> Result<Option<usize>> {
    let mut found = (0..labels.len()).filter(|index| labels.get(*index).is_some_and(&is));
    match (found.next(), found.next()) {
        (Some(one), Some(other)) => bail!("{text:?} is what classes {one} and {other} are called"),
        (found, _) => Ok(found),
    }
}
