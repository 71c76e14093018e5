//! Names of synthetic networks, and the error for unknown ones.

use std::cmp::Reverse;

use super::{NAMES, published};
use crate::Error;

/// How many suggestions an error makes.
const SIMILAR: usize = 3;

/// Every name that [`network`](super::network) knows: [`NAMES`], then `library/name` for each network that a library
/// knows by name. Where such a name stands for several structures, the others are `library/name/variant`.
pub fn names() -> Vec<String> {
    let short = NAMES.iter().map(|name| (*name).to_owned());
    short.chain(published::all().map(published::name)).collect()
}

/// The error for an unknown name, with the short names and the nearest of the libraries'.
pub(super) fn unknown(name: &str, reason: &str) -> Error {
    let mut similar = names();
    similar.retain(|known| !NAMES.contains(&known.as_str()));
    similar.sort_by_cached_key(|known| {
        let bare = known.split_once('/').map_or("", |(_, bare)| bare);
        (Reverse(shared(known, name).max(shared(bare, name))), distance(known, name))
    });
    Error::UnknownNetwork(format!(
        "synthetic/{}: {reason}; known are {}, and {} of libraries, the nearest {}",
        name.escape_debug(),
        NAMES.join(", "),
        similar.len(),
        similar[..SIMILAR].join(", ")
    ))
}

/// How many characters two names begin with alike: of an unfinished name that tells more than the distance.
fn shared(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

/// Levenshtein's edit distance.
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
