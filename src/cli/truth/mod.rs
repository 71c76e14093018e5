//! Answers held against the truth.

mod boxes;
mod classes;
mod entries;
mod masks;

pub use boxes::Boxes;
pub use classes::Classes;
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
