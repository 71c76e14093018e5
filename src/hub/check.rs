//! Checks downloaded and cached files.

use std::{fmt::Write, fs, fs::File, io, path::Path};

use serde_json::{Map, Value};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{SMALL, WEIGHTS, client::Facts, names::shown};
use crate::zoo::Checkpoint;

/// Checks a file against the size and hash that the hub announced, and its content against its name.
pub fn file(name: &str, path: &Path, facts: &Facts) -> Result<(), String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size != facts.size {
        return Err(format!("it has {size} bytes, but the hub announced {}", facts.size));
    }
    if let Some(wanted) = facts.etag.hash() {
        let found = hash(path, size, wanted.len()).map_err(|error| error.to_string())?;
        if !found.eq_ignore_ascii_case(wanted) {
            return Err(format!("its hash is {found}, but the hub announced {wanted}"));
        }
    }
    content(name, path)
}

/// Checks that a file contains what its name implies: weights, or a JSON object.
pub fn content(name: &str, path: &Path) -> Result<(), String> {
    let read = if name == WEIGHTS {
        Checkpoint::open_file(path).map(drop).map_err(|error| error.to_string())
    } else {
        object(path)
    };
    read.map_err(|reason| shown(&reason))
}

fn object(path: &Path) -> Result<(), String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > SMALL {
        return Err(format!("{size} bytes are too many for a configuration"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let read: Result<Map<String, Value>, _> = serde_json::from_str(&text);
    read.map(drop).map_err(|error| format!("it is not a JSON object: {error}"))
}

/// The SHA-256 of a file, or git's SHA-1 if `digits` is 40.
fn hash(path: &Path, size: u64, digits: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let bytes = if digits == 40 {
        let mut sha = Sha1::new();
        sha.update(format!("blob {size}\0"));
        io::copy(&mut file, &mut Hasher(&mut sha))?;
        sha.finalize().to_vec()
    } else {
        let mut sha = Sha256::new();
        io::copy(&mut file, &mut Hasher(&mut sha))?;
        sha.finalize().to_vec()
    };
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// A hash that can be written to.
struct Hasher<'a, D>(&'a mut D);

impl<D: Digest> io::Write for Hasher<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
