//! Checkpoints of the Hugging Face hub: fetched once into its own cache folder, read there ever after.

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

/// The branch that is meant where none is named.
const MAIN: &str = "main";

/// What is read of a model beside its weights.
const CONFIGURATIONS: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// A model's weights, as the hub has them.
const WEIGHTS: &str = "model.safetensors";

/// The most bytes of what is JSON.
const SMALL: u64 = 16 << 20;

/// A model of the hub: `timm/mobilenetv3_large_100.ra_in1k`, or another than its main branch behind
/// an `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    id: String,
    revision: String,
}

/// How long a server may take, and how much it may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long until a server is found and connected: 10 s.
    pub connect: Duration,
    /// How long nothing may come from a connected server: 30 s.
    pub silence: Duration,
    /// How long one download may take, and how long another process that has it under way is waited for: an hour.
    pub total: Duration,
    /// The most bytes of one file: 4 GiB.
    pub largest: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            total: Duration::from_secs(3600),
            largest: 4 << 30,
        }
    }
}

/// What a fetch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A file comes.
    Coming {
        /// Its name.
        file: &'a str,
        /// How many bytes are there.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// Another process fetches the file, and is waited for.
    Waiting {
        /// Its name.
        file: &'a str,
    },
}

impl Model {
    /// Takes `owner/name` or `owner/name@revision` apart.
    ///
    /// # Errors
    /// [`Error::Hub`] if that is no model's name.
    pub fn parse(text: &str) -> Result<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let part = |part: &str| !part.is_empty() && part.chars().all(plain) && !part.starts_with('.');
        // Two dashes part owner and name in the cache.
        let named = id.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name));
        if named && !id.contains("--") && revision.split('/').all(part) {
            Ok(Self { id: id.into(), revision: revision.into() })
        } else {
            let reason = "is no model's name, such as timm/mobilenetv3_large_100.ra_in1k";
            Err(Error::Hub { model: text.into(), reason: reason.into() })
        }
    }

    /// The folder with the model's weights and configuration, in the hub's cache. What is not there, or damaged
    /// there, is downloaded, and checked before it takes its place: its size and hash against what the hub
    /// announced, and whether it can be read. A download that broke off is continued. What is there needs no
    /// network. `progress` hears of each file as it comes.
    ///
    /// As the hub's Python client does, it minds `HF_HOME`, `HF_HUB_CACHE` and `XDG_CACHE_HOME` (where the cache
    /// is), `HF_ENDPOINT` (where the hub is), `HF_TOKEN`, `HF_TOKEN_PATH` and a login's file (who asks) and
    /// `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`Error::Hub`] if the hub cannot be reached, does not keep to `limits`, has no such model, or it has no
    /// safetensors weights; if what it sends is not what it announced, or is damaged; if the cache cannot be
    /// written.
    pub fn fetch(&self, limits: &Limits, mut progress: impl FnMut(Progress<'_>)) -> Result<PathBuf> {
        self.fetched(limits, &mut progress).map_err(|reason| Error::Hub { model: self.id.clone(), reason })
    }

    fn fetched(&self, limits: &Limits, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, String> {
        let cache = Cache::new(environment::cache()?, &self.id);
        let offline = environment::offline();
        let mut missing = format!("is not in {}, and ", cache.root().display());
        if let Some(folder) = cache.complete(&self.revision) {
            let damage = files().find_map(|name| {
                let file = folder.join(name);
                let reason = file.exists().then(|| check::content(name, &file).err())??;
                Some(format!("{}: damaged: {reason}", file.display()))
            });
            match damage {
                None => return Ok(folder),
                Some(damage) if offline => {
                    return Err(format!("{damage}; HF_HUB_OFFLINE forbids to fetch it again"));
                }
                Some(damage) => log::warn!("{damage}; it is fetched again"),
            }
            missing.clear();
        } else if offline {
            return Err(missing + "HF_HUB_OFFLINE forbids to fetch it");
        }
        let hub = Client::new(limits)?;
        let listing = hub.listing(&self.id, &self.revision).map_err(|reason| missing + &reason)?;
        if !listing.names().any(|name| name == WEIGHTS) {
            let pickle = listing.names().any(|name| name.ends_with(".bin") || name.ends_with(".pth"));
            let hint = if pickle { ": convert its pickle, as the README says" } else { "" };
            return Err(format!("has no {WEIGHTS}{hint}"));
        }
        let Listing { sha: commit, .. } = &listing;
        for name in files().filter(|name| listing.names().any(|listed| listed == *name)) {
            let file = File { cache: &cache, hub: &hub, model: &self.id, commit, name };
            file.fetch(progress).map_err(|reason| format!("{name}: {reason}"))?;
        }
        cache.refer(&self.revision, commit)?;
        Ok(cache.snapshot(commit))
    }
}

/// What is fetched of a model, the weights last: with them everything is there.
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
    /// Sees to it that the file is in the snapshot, and as it should be. What was there stays until then.
    fn fetch(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), String> {
        let &Self { cache, hub, commit, name, .. } = self;
        if check::content(name, &cache.snapshot(commit).join(name)).is_ok() {
            return Ok(());
        }
        let largest = if name == WEIGHTS { u64::MAX } else { SMALL };
        let facts = hub.facts(&self.path(), commit, largest)?;
        let waiting = || progress(Progress::Waiting { file: name });
        let _lock = cache.lock(&facts.etag, hub.patience(), waiting)?;
        if check::file(name, &cache.blob(&facts.etag), &facts).is_err() {
            self.complete(&facts, progress)?;
            cache.keep(&facts.etag)?;
        }
        cache.link(&facts.etag, commit, name)
    }

    fn path(&self) -> String {
        format!("/{}/resolve/{}/{}", self.model, self.commit, self.name)
    }

    /// Downloads what is missing of the file, and checks it.
    fn complete(&self, facts: &Facts, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), String> {
        let partial = self.cache.partial(&facts.etag);
        let mut there = self.begun(facts);
        loop {
            if there < facts.size || there == 0 {
                there = self.download(facts, there, progress)?;
            }
            let Err(damage) = check::file(self.name, &partial, facts) else { return Ok(()) };
            fs::remove_file(&partial).map_err(self.cache.unkept())?;
            if there == 0 {
                return Err(format!("what came is damaged, and was thrown away: {damage}"));
            }
            // It may have been what was there already.
            there = 0;
        }
    }

    /// How many bytes of an earlier download can be built on: none where no hash will tell whether they fit.
    fn begun(&self, facts: &Facts) -> u64 {
        let there = fs::metadata(self.cache.partial(&facts.etag)).map_or(0, |data| data.len());
        if facts.etag.hash().is_some() && there <= facts.size { there } else { 0 }
    }

    /// Downloads the file from a byte on, or from its first if the server can no other; says which it was.
    fn download(
        &self,
        facts: &Facts,
        from: u64,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<u64, String> {
        let &Self { cache, hub, name: file, .. } = self;
        let mut download = hub.download(&self.path(), from, facts.size)?;
        let mut kept = cache.continued(&facts.etag, download.from)?;
        let mut buffer = vec![0; 1 << 16];
        let mut done = download.from;
        loop {
            progress(Progress::Coming { file, done, total: facts.size });
            let read = hub.read(&mut download, &mut buffer)?;
            if read == 0 {
                break;
            }
            done += read as u64;
            if done > facts.size {
                fs::remove_file(cache.partial(&facts.etag)).map_err(cache.unkept())?;
                return Err(format!("more than the {} announced bytes came: it was thrown away", facts.size));
            }
            kept.write_all(&buffer[..read]).map_err(cache.unkept())?;
        }
        kept.sync_all().map_err(cache.unkept())?;
        if done < facts.size {
            return Err(format!("{done} of {} bytes came: try again", facts.size));
        }
        Ok(download.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_others_refused() {
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
            assert!(error.contains("is no model's name"), "{error}");
        }
    }
}
