//! Checkpoints from the Hugging Face hub, downloaded once into the cache folder of the hub's Python client.

mod address;
mod cache;
mod check;
mod client;
mod environment;
mod names;

use std::{fs, io::Write, path::PathBuf, time::Duration};

use crate::{Error, Result};
use cache::Cache;
use client::{Client, Facts, Listing};

/// The default branch.
const MAIN: &str = "main";

/// The files of a model that are read in addition to its weights.
const CONFIGURATIONS: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// The name of a model's weights on the hub.
const WEIGHTS: &str = "model.safetensors";

/// The size limit of a JSON file.
const SMALL: u64 = 16 << 20;

/// A model on the hub, such as `timm/mobilenetv3_large_100.ra_in1k`, with an optional revision after an `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    id: String,
    revision: String,
}

/// Limits on the time that a server takes and on the bytes that it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The time limit for resolving a server's name and for connecting to it, 10 s each by default.
    pub connect: Duration,
    /// The time limit for each read from and write to a server, 30 s by default.
    pub read_timeout: Duration,
    /// The time limit for one download, and for a wait for another process's download, an hour by default.
    pub download_timeout: Duration,
    /// The maximum size of one file in bytes, 4 GiB by default.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            download_timeout: Duration::from_secs(3600),
            max_bytes: 4 << 30,
        }
    }
}

/// The progress of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A file is being downloaded.
    Downloading {
        /// Its name.
        file: &'a str,
        /// The bytes downloaded so far.
        done: u64,
        /// The size of the file in bytes.
        total: u64,
    },
    /// Waiting for another process that downloads the file.
    Waiting {
        /// Its name.
        file: &'a str,
    },
}

impl Model {
    /// Parses `owner/name` or `owner/name@revision`.
    ///
    /// # Errors
    /// [`Error::Hub`] if it is not the name of a model.
    pub fn parse(text: &str) -> Result<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let part = |part: &str| !part.is_empty() && part.chars().all(plain) && !part.starts_with('.');
        // Two dashes separate owner and name in the cache.
        let named = id.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name));
        if named && !id.contains("--") && revision.split('/').all(part) {
            Ok(Self { id: id.into(), revision: revision.into() })
        } else {
            let reason = "is not a model's name, such as timm/mobilenetv3_large_100.ra_in1k";
            Err(Error::Hub { model: text.into(), reason: reason.into() })
        }
    }

    /// Returns the folder with the model's weights and configuration, in the hub's cache. Missing or damaged
    /// files are downloaded first. A download is stored only after its size and hash match those that the hub
    /// announced, and its content can be read. An interrupted download is resumed. Complete models in the
    /// cache need no network. `progress` is called during downloads. If the weights are cached, and a missing
    /// configuration cannot be downloaded, a warning is logged.
    ///
    /// Like the hub's Python client, this reads `HF_HOME`, `HF_HUB_CACHE` and `XDG_CACHE_HOME` (the cache's
    /// folder), `HF_ENDPOINT` (the hub's address), `HF_TOKEN`, `HF_TOKEN_PATH` and the login's token file
    /// (the access token), `HF_HUB_OFFLINE` and `TRANSFORMERS_OFFLINE`.
    ///
    /// # Errors
    /// [`Error::Hub`] if the hub cannot be reached, exceeds `limits` or has no such model, if the model has
    /// no safetensors weights, if a download is damaged or differs from the hub's announcement, or if the
    /// cache cannot be written.
    pub fn fetch(&self, limits: &Limits, mut progress: impl FnMut(Progress<'_>)) -> Result<PathBuf> {
        self.fetched(limits, &mut progress).map_err(|reason| Error::Hub { model: self.id.clone(), reason })
    }

    fn fetched(&self, limits: &Limits, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, String> {
        let cache = Cache::new(environment::cache()?, &self.id);
        let offline = environment::offline();
        let mut missing = format!("is not in {}, and ", cache.root().display());
        if let Some(commit) = cache.cached(&self.revision) {
            let folder = cache.snapshot(&commit);
            let damage = files().find_map(|name| {
                let file = folder.join(name);
                let reason = file.exists().then(|| check::content(name, &file).err())??;
                Some(format!("{}: damaged: {reason}", file.display()))
            });
            match (damage, offline) {
                (None, _) => {
                    self.complete(&cache, &commit, offline, limits, progress);
                    return Ok(folder);
                }
                (Some(damage), Some(variable)) => {
                    return Err(format!("{damage}; {variable} forbids downloading it again"));
                }
                (Some(damage), None) => log::warn!("{damage}; it is fetched again"),
            }
            missing.clear();
        } else if let Some(variable) = offline {
            return Err(format!("{missing}{variable} forbids downloading it"));
        }
        let hub = Client::new(limits)?;
        let listing = hub.listing(&self.id, &self.revision).map_err(|reason| missing + &reason)?;
        self.download(&cache, &hub, &listing, progress)?;
        cache.refer(&self.revision, &listing.sha)?;
        Ok(cache.snapshot(&listing.sha))
    }

    /// Downloads the configurations that a snapshot with the weights lacks. If that fails, the weights are
    /// used without them.
    fn complete(
        &self,
        cache: &Cache,
        commit: &str,
        offline: Option<&str>,
        limits: &Limits,
        progress: &mut dyn FnMut(Progress<'_>),
    ) {
        if cache.lacking(commit).is_empty() {
            return;
        }
        let result = match offline {
            Some(variable) => Err(format!("{variable} forbids downloads")),
            None => Client::new(limits).and_then(|hub| {
                // Not the revision, which may have other weights by now.
                let listing = hub.listing(&self.id, commit)?;
                self.download(cache, &hub, &listing, progress)
            }),
        };
        if let Err(reason) = result {
            let missing = cache.lacking(commit).join(" and ");
            log::warn!("{}: used without {missing}, so settings may be wrong: {reason}", self.id);
        }
    }

    /// Downloads the files that the snapshot lacks, and records which configurations the hub lacks.
    fn download(
        &self,
        cache: &Cache,
        hub: &Client,
        listing: &Listing,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), String> {
        if !listing.names().any(|name| name == WEIGHTS) {
            let pickle = listing.names().any(|name| name.ends_with(".bin") || name.ends_with(".pth"));
            let hint = if pickle { ": download its .bin or .pth file and open that" } else { "" };
            return Err(format!("has no {WEIGHTS}{hint}"));
        }
        let commit = &listing.sha;
        for name in files() {
            if listing.names().any(|listed| listed == name) {
                let file = File { cache, hub, model: &self.id, commit, name };
                file.fetch(progress).map_err(|reason| format!("{name}: {reason}"))?;
            } else {
                cache.record_absence(commit, name);
            }
        }
        Ok(())
    }
}

/// The files that are downloaded. The weights come last: once they exist, the model can be used.
fn files() -> impl Iterator<Item = &'static str> {
    CONFIGURATIONS.into_iter().chain([WEIGHTS])
}

/// A file of a model at a commit.
struct File<'a> {
    cache: &'a Cache,
    hub: &'a Client,
    model: &'a str,
    commit: &'a str,
    name: &'static str,
}

impl File<'_> {
    /// Makes sure that the snapshot has a valid copy of the file. An old copy stays until it is replaced.
    fn fetch(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), String> {
        let &Self { cache, hub, commit, name, .. } = self;
        if check::content(name, &cache.snapshot(commit).join(name)).is_ok() {
            return Ok(());
        }
        let largest = if name == WEIGHTS { u64::MAX } else { SMALL };
        let facts = hub.facts(&self.path(), commit, largest)?;
        let waiting = || progress(Progress::Waiting { file: name });
        let _lock = cache.lock(&facts.etag, hub.timeout(), waiting)?;
        if check::file(name, &cache.blob(&facts.etag), &facts).is_err() {
            self.complete(&facts, progress)?;
            cache.keep(&facts.etag)?;
        }
        cache.link(&facts.etag, commit, name)
    }

    fn path(&self) -> String {
        format!("/{}/resolve/{}/{}", self.model, self.commit, self.name)
    }

    /// Downloads the missing part of the file, and checks the whole file.
    fn complete(&self, facts: &Facts, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), String> {
        let partial = self.cache.partial(&facts.etag);
        let mut resumed = self.resumable(facts);
        loop {
            if resumed < facts.size || resumed == 0 {
                resumed = self.download(facts, resumed, progress)?;
            }
            let Err(damage) = check::file(self.name, &partial, facts) else { return Ok(()) };
            fs::remove_file(&partial).map_err(self.cache.write_error())?;
            if resumed == 0 {
                return Err(format!("the download is damaged and was deleted: {damage}"));
            }
            // The damage may be in the part from the earlier download: start again.
            resumed = 0;
        }
    }

    /// The length of an earlier partial download to resume; 0 if there is no hash to check the result with.
    fn resumable(&self, facts: &Facts) -> u64 {
        let present = fs::metadata(self.cache.partial(&facts.etag)).map_or(0, |data| data.len());
        if facts.etag.hash().is_some() && present <= facts.size { present } else { 0 }
    }

    /// Downloads the file from byte `from` on, or from the start if the server does not support ranges.
    /// Returns the first byte downloaded.
    fn download(
        &self,
        facts: &Facts,
        from: u64,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<u64, String> {
        let &Self { cache, hub, name: file, .. } = self;
        let mut download = hub.download(&self.path(), from, facts.size)?;
        let mut partial = cache.open_partial(&facts.etag, download.from)?;
        let mut buffer = vec![0; 1 << 16];
        let mut done = download.from;
        loop {
            progress(Progress::Downloading { file, done, total: facts.size });
            let read = hub.read(&mut download, &mut buffer)?;
            if read == 0 {
                break;
            }
            done += read as u64;
            if done > facts.size {
                fs::remove_file(cache.partial(&facts.etag)).map_err(cache.write_error())?;
                return Err(format!(
                    "the server sent more than the {} announced bytes: the download was deleted",
                    facts.size
                ));
            }
            partial.write_all(&buffer[..read]).map_err(cache.write_error())?;
        }
        partial.sync_all().map_err(cache.write_error())?;
        if done < facts.size {
            return Err(format!("only {done} of {} bytes were downloaded: try again", facts.size));
        }
        Ok(download.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_are_parsed_and_others_refused() {
        let model = Model::parse("google/mobilenet_v2_1.0_224").unwrap();
        assert_eq!((model.id.as_str(), model.revision.as_str()), ("google/mobilenet_v2_1.0_224", "main"));
        assert_eq!(Model::parse("a/b@refs/pr/1").unwrap().revision, "refs/pr/1");
        for wrong in [
            "",
            "a",
            "a/",
            "/b",
            "a/b/c",
            "a--b/c",
            "../b",
            "a/..",
            "a/b@",
            "a/b@../x",
            "a b/c",
            "https://x/y",
        ] {
            let error = Model::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("is not a model's name"), "{error}");
        }
    }
}
