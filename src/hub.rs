//! Checkpoints of the Hugging Face hub: fetched once into its own cache folder, read there ever after.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::{
        Progress,
        sync::{ApiBuilder, ApiError},
    },
};

use crate::{Error, Result, zoo::Checkpoint};

/// The branch that is meant where none is named.
const MAIN: &str = "main";

/// What is read of a model beside its weights.
const CONFIGURATIONS: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// A model's weights, as the hub has them.
const WEIGHTS: &str = "model.safetensors";

/// A model of the hub: `timm/mobilenetv3_large_100.ra_in1k`, or another than its main branch behind
/// an `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    id: String,
    revision: String,
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
        let named = id.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name));
        if named && revision.split('/').all(part) {
            Ok(Self { id: id.into(), revision: revision.into() })
        } else {
            let reason = "is no model's name, such as timm/mobilenetv3_large_100.ra_in1k";
            Err(Error::Hub { model: text.escape_debug().to_string(), reason: reason.into() })
        }
    }

    /// The folder with the model's weights and configuration, in the hub's cache. What is not there
    /// is downloaded, and checked before it counts; what is there needs no network. `progress` hears
    /// of each file as it comes.
    ///
    /// As the hub's own clients do, it minds `HF_HOME` and `HF_HUB_CACHE` (where the cache is),
    /// `HF_ENDPOINT` (where the hub is), `HF_TOKEN` (who asks) and `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`Error::Hub`] if the hub cannot be reached, has no such model, or it has no safetensors
    /// weights; [`Error::File`] and [`Error::Io`] if the cache cannot be written or what came is damaged.
    pub fn fetch(&self, progress: impl Progress + Clone) -> Result<PathBuf> {
        let cache = cache();
        let repo = Repo::with_revision(self.id.clone(), RepoType::Model, self.revision.clone());
        let cached = cache.repo(repo.clone());
        // The weights are the last to come: with them everything is there.
        if let Some(weights) = cached.get(WEIGHTS) {
            return folder_of(&weights);
        }
        let place = cache.path().display().to_string();
        if env::var("HF_HUB_OFFLINE").is_ok_and(|v| ["1", "true", "yes", "on"].contains(&&*v.to_lowercase()))
        {
            return Err(self.error(format!("is not in {place}, and HF_HUB_OFFLINE forbids to fetch it")));
        }
        let mut builder = ApiBuilder::from_env().with_cache_dir(cache.path().clone()).with_progress(false);
        if let Ok(token) = env::var("HF_TOKEN") {
            builder = builder.with_token(Some(token));
        }
        let failed = |error: ApiError| self.error(said(&error, &place));
        let api = builder.build().map_err(failed)?.repo(repo);
        let there: Vec<String> =
            api.info().map_err(failed)?.siblings.into_iter().map(|file| file.rfilename).collect();
        if !there.iter().any(|name| name == WEIGHTS) {
            let pickle = there.iter().any(|name| name.ends_with(".bin") || name.ends_with(".pth"));
            let hint = if pickle { ": convert its pickle, as the README says" } else { "" };
            return Err(self.error(format!("has no {WEIGHTS}{hint}")));
        }
        let download = |name: &str| api.download_with_progress(name, progress.clone()).map_err(failed);
        for name in there.iter().filter(|name| CONFIGURATIONS.contains(&name.as_str())) {
            download(name)?;
        }
        let weights = download(WEIGHTS)?;
        if let Err(error) = Checkpoint::open_file(&weights) {
            // The next try begins anew.
            for file in [fs::canonicalize(&weights).unwrap_or_default(), weights] {
                let _ = fs::remove_file(file);
            }
            return Err(self.error(format!("what came is damaged, and was thrown away: {error}")));
        }
        folder_of(&weights)
    }

    fn error(&self, reason: String) -> Error {
        Error::Hub { model: self.id.clone(), reason }
    }
}

/// The hub's cache folder, where its own clients have it.
fn cache() -> Cache {
    match env::var_os("HF_HUB_CACHE") {
        Some(folder) if !folder.is_empty() => Cache::new(folder.into()),
        _ => Cache::from_env(),
    }
}

fn folder_of(file: &Path) -> Result<PathBuf> {
    file.parent().map(Path::to_owned).ok_or_else(|| Error::file(file, "lies in no folder"))
}

/// What went wrong, for people.
fn said(error: &ApiError, cache: &str) -> String {
    let hub = env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".into());
    let text = match error {
        ApiError::RequestError(inner) => inner.to_string(),
        ApiError::IoError(inner) => return format!("cannot be kept in {cache}: {inner}"),
        other => other.to_string(),
    };
    match text.rsplit_once("status: ").map(|(_, code)| code) {
        Some("401" | "403") => format!("{hub} does not give it to everyone: log in there, or say HF_TOKEN"),
        Some("404") => format!("{hub} has no such model"),
        Some(code) => format!("{hub} answers with status {code}"),
        None => format!("is not in {cache}, and {hub} cannot be reached: {text}"),
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
        for wrong in
            ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b@", "a/b@../x", "a b/c", "https://x/y"]
        {
            let error = Model::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("is no model's name"), "{error}");
        }
    }
}
