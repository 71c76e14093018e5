//! Cache files for faster later starts, in the user's cache folder. They are replaced atomically and
//! never required: failures are only logged.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, files};

/// The magic bytes of a sealed file, which end with the version of the layout.
const MAGIC: &[u8; 16] = b"goldcrest seal 1";

/// The size of the header in bytes: magic bytes, length, checksum.
pub(super) const SEAL: usize = 32;

/// The folder of the cache files: `GOLDCREST_CACHE_DIR` (empty: none), or else the platform's cache
/// folder.
pub(crate) fn folder() -> Option<PathBuf> {
    folder_or(std::env::var_os("GOLDCREST_CACHE_DIR"))
}

fn folder_or(named: Option<OsString>) -> Option<PathBuf> {
    match named {
        Some(named) => (!named.is_empty()).then(|| named.into()),
        None => Some(directories::ProjectDirs::from("", "", "goldcrest")?.cache_dir().to_owned()),
    }
}

/// The maximum size of a cache file in bytes, without its header.
pub(super) const LIMIT: u64 = 64 << 20;

/// Reads a file, if it exists.
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

/// Writes a file atomically. Returns false if it cannot be written, for example in a read-only folder.
pub(crate) fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> bool {
    let path = folder.join(name);
    match fs::create_dir_all(folder).and_then(|()| files::write_whole(&path, bytes)) {
        Ok(()) => true,
        Err(e) => {
            log::debug!("{}: cannot be written: {e}", path.display());
            false
        }
    }
}

/// Prefixes `data` with its length and checksum, to detect truncated, edited and renamed files.
pub(crate) fn seal(name: &str, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u64;
    [MAGIC, &length.to_le_bytes()[..], &checksum(name, data).to_le_bytes(), data].concat()
}

/// The data that was sealed under this name, if it is intact.
pub(crate) fn unseal<'a>(name: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
    let rest = sealed.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (sum, data) = rest.split_first_chunk()?;
    let whole = u64::from_le_bytes(*length) == data.len() as u64;
    (whole && u64::from_le_bytes(*sum) == checksum(name, data)).then_some(data)
}

/// FNV-1a of a name and data: detects accidents, not attacks.
pub(crate) fn checksum(name: &str, data: &[u8]) -> u64 {
    let bytes = name.as_bytes().iter().chain([&0]).chain(data);
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_sets_the_folder_or_disables_it() {
        assert_eq!(folder_or(Some("kept/here".into())), Some("kept/here".into()));
        assert_eq!(folder_or(Some("".into())), None);
    }

    #[test]
    fn a_seal_covers_the_name_and_every_byte() {
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
    fn concurrent_writers_leave_one_whole_file() {
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
    fn folders_are_created_and_failures_do_not_panic() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        assert!(write_whole(&deep, "file", b"1") && write_whole(&deep, "file", b"2"));
        assert_eq!(read(&deep, "file"), Some(b"2".to_vec()));
        // A file in the path blocks the folder, even for root.
        let blocked = deep.join("file");
        assert!(!write_whole(&blocked, "file", b"3"));
        assert_eq!(read(&blocked, "file"), None);
        assert_eq!(read(&folder.path().join("none"), "file"), None);
    }
}
