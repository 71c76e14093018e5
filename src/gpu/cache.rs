//! Files that spare a later start some work: in the user's cache folder, replaced whole, and
//! never needed. What goes wrong with them is logged and has no other consequence.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, files};

/// What a sealed file begins with; another layout gets another number.
const MAGIC: &[u8; 16] = b"goldcrest seal 1";

/// The bytes before the data: what it begins with, a length, a checksum.
pub(super) const SEAL: usize = 32;

/// Where such files are kept: what `GOLDCREST_CACHE_DIR` names, nowhere if it is empty, and
/// without it the platform's folder for caches.
pub(crate) fn folder() -> Option<PathBuf> {
    folder_or(std::env::var_os("GOLDCREST_CACHE_DIR"))
}

fn folder_or(named: Option<OsString>) -> Option<PathBuf> {
    match named {
        Some(named) => (!named.is_empty()).then(|| named.into()),
        None => Some(directories::ProjectDirs::from("", "", "goldcrest")?.cache_dir().to_owned()),
    }
}

/// The most bytes that such a file has.
pub(super) const LIMIT: u64 = 64 << 20;

/// The file's bytes, if it is there.
pub(crate) fn read(folder: &Path, name: &str) -> Option<Vec<u8>> {
    match files::read(folder.join(name), LIMIT + SEAL as u64) {
        Ok(bytes) => Some(bytes),
        Err(Error::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => None,
        Err(e) => {
            log::warn!("the cache cannot be read: {e}");
            None
        }
    }
}

/// Writes the file so that nobody ever reads half of it. False if it could not be written, as in a folder
/// that is read-only.
pub(crate) fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> bool {
    let path = folder.join(name);
    match fs::create_dir_all(folder).and_then(|()| files::write_whole(&path, bytes)) {
        Ok(()) => true,
        Err(e) => {
            log::debug!("{}: not kept: {e}", path.display());
            false
        }
    }
}

/// `data` with its length and checksum, so that a file cut short, edited or renamed is told
/// from a whole one.
pub(crate) fn seal(name: &str, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u64;
    [MAGIC, &length.to_le_bytes()[..], &checksum(name, data).to_le_bytes(), data].concat()
}

/// What was sealed under this name, if it is still what it was.
pub(crate) fn unseal<'a>(name: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
    let rest = sealed.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (sum, data) = rest.split_first_chunk()?;
    let whole = u64::from_le_bytes(*length) == data.len() as u64;
    (whole && u64::from_le_bytes(*sum) == checksum(name, data)).then_some(data)
}

/// FNV-1a of a name and data: against accidents, not against malice.
pub(crate) fn checksum(name: &str, data: &[u8]) -> u64 {
    let bytes = name.as_bytes().iter().chain([&0]).chain(data);
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_the_folder_and_switches_it_off() {
        assert_eq!(folder_or(Some("kept/here".into())), Some("kept/here".into()));
        assert_eq!(folder_or(Some("".into())), None);
    }

    #[test]
    fn a_seal_holds_for_its_name_and_every_byte() {
        let sealed = seal("name", b"some data");
        assert_eq!(unseal("name", &sealed), Some(&b"some data"[..]));
        assert_eq!(unseal("name", &seal("name", b"")), Some(&b""[..]));
        assert_eq!(unseal("other", &sealed), None);
        for at in 0..sealed.len() {
            assert_eq!(unseal("name", &sealed[..at]), None, "cut to {at} bytes");
            let mut edited = sealed.clone();
            edited[at] ^= 4;
            assert_eq!(unseal("name", &edited), None, "byte {at} edited");
        }
        assert_eq!(unseal("name", &[&sealed[..], b"more"].concat()), None);
    }

    #[test]
    fn writers_at_once_leave_a_whole_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let written: Vec<Vec<u8>> = (0..4).map(|i| vec![i; 100_000 + usize::from(i)]).collect();
        std::thread::scope(|scope| {
            for bytes in &written {
                let folder = folder.path();
                scope.spawn(move || {
                    for _ in 0..20 {
                        assert!(write_whole(folder, "file", bytes));
                        assert!(
                            read(folder, "file").is_some_and(|read| read.windows(2).all(|w| w[0] == w[1]))
                        );
                    }
                });
            }
        });
        assert!(written.contains(&read(folder.path(), "file").unwrap()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_made_and_one_that_cannot_be_is_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        assert!(write_whole(&deep, "file", b"1") && write_whole(&deep, "file", b"2"));
        assert_eq!(read(&deep, "file"), Some(b"2".to_vec()));
        // Where a file is, no folder can be, whoever asks.
        let blocked = deep.join("file");
        assert!(!write_whole(&blocked, "file", b"3"));
        assert_eq!(read(&blocked, "file"), None);
        assert_eq!(read(&folder.path().join("none"), "file"), None);
    }
}
