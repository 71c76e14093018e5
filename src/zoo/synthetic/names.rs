//! Names of synthetic networks, and the error for unknown ones.

use std::cmp::Reverse;

use super::{NAMES, published};
use crate::Error;

/// The number of suggestions in an error.
const SIMILAR: usize = 3;

/// All names for [`network`](super::network): [`NAMES`], then `library/name` for each named network of a
/// library. If several structures share a name, the first has it, and the others are `library/name/variant`.
pub fn names() -> Vec<String> {
    let short = NAMES.iter().map(|name| (*name).to_owned());
    short.chain(published::all().map(published::name)).collect()
}

/// The error for an unknown name, with [`NAMES`] and the most similar library networks.
pub(super) fn unknown(name: &str, reason: &str) -> Error {
    let mut similar = names();
    similar.retain(|known| !NAMES.contains(&known.as_str()));
    similar.sort_by_cached_key(|known| {
        let bare = known.split_once('/').map_or("", |(_, bare)| bare);
        (Reverse(common_prefix(known, name).max(common_prefix(bare, name))), distance(known, name))
    });
    Error::UnknownNetwork(format!(
        "synthetic/{}: {reason}; the known names are {}, and {} library networks, such as {}",
        name.escape_debug(),
        NAMES.join(", "),
        similar.len(),
        similar[..SIMILAR].join(", ")
    ))
}

/// The length of the common prefix, a better measure than the edit distance for an unfinished name.
fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

/// The Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &b) in b.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
