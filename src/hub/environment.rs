//! Environment variables for the hub, with the meaning that the hub's Python client gives them.

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The folder of all cached models.
pub fn cache() -> Result<PathBuf, String> {
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        if let Some(folder) = path(name)? {
            return Ok(folder);
        }
    }
    Ok(home()?.join("hub"))
}

/// The address of the hub, without a slash at its end.
pub fn endpoint() -> String {
    let address = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
    address.trim_end_matches('/').to_owned()
}

/// The name of the variable that disables network access, if one does.
pub fn offline() -> Option<&'static str> {
    ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| is_set(name))
}

/// The access token, if there is one.
pub fn token() -> Result<Option<String>, String> {
    if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = text(name) {
            return clean(&token, name);
        }
    }
    // Without a home folder there is no token file.
    let file = match path("HF_TOKEN_PATH")? {
        Some(file) => file,
        None => match home() {
            Ok(home) => home.join("token"),
            Err(_) => return Ok(None),
        },
    };
    match fs::read_to_string(&file) {
        Ok(token) => clean(&token, &file.display().to_string()),
        Err(error) => {
            // Most models are public, so a token is optional.
            if error.kind() != ErrorKind::NotFound {
                log::warn!("{}: {error}: requests to the hub are sent without a token", file.display());
            }
            Ok(None)
        }
    }
}

/// Checks that a header can hold the token. Messages never contain the token.
fn clean(token: &str, source: &str) -> Result<Option<String>, String> {
    let token = token.trim();
    if token.chars().all(|c| c.is_ascii_graphic()) {
        Ok((!token.is_empty()).then(|| token.to_owned()))
    } else {
        Err(format!("{source}: contains characters that are not allowed in a token"))
    }
}

/// The hub's folder of caches and settings.
fn home() -> Result<PathBuf, String> {
    if let Some(folder) = path("HF_HOME")? {
        return Ok(folder);
    }
    Ok(match path("XDG_CACHE_HOME")? {
        Some(caches) => caches,
        None => user()?.join(".cache"),
    }
    .join("huggingface"))
}

/// The user's home folder: `HOME`, or the system's entry for the user.
fn user() -> Result<PathBuf, String> {
    env::home_dir()
        .filter(|folder| !folder.as_os_str().is_empty())
        .ok_or_else(|| "this user has no home folder to cache it in: name a folder in HF_HOME".into())
}

fn is_set(name: &str) -> bool {
    text(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&&*value.to_lowercase()))
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// A path from a variable; `~` is the user's home folder.
fn path(name: &str) -> Result<Option<PathBuf>, String> {
    let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    let path = Path::new(&value);
    Ok(Some(match path.strip_prefix("~") {
        Ok(rest) => user()?.join(rest),
        Err(_) => path.to_owned(),
    }))
}
