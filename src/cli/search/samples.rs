//! The pictures that candidates are judged on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use goldcrest::{
    feed::EXTENSIONS,
    quantize::evenly,
    search::{Labelled, Samples},
    tasks::Picture,
    zoo::Network,
};
use rayon::prelude::*;

use crate::cli::{
    common::{self, NOTE, progress},
    truth,
};

/// Scenes that the winner is judged on.
const CHECKED: usize = 1000;

/// The least pictures of a user's own: fewer tell nothing apart.
const LEAST: usize = 32;

/// The built-in scenes.
pub fn scenes(count: usize) -> Result<Samples> {
    let bar = progress("drawing");
    let samples = Samples::scenes(count, CHECKED)?;
    drop(bar);
    Ok(samples)
}

/// Pictures in folders that are called like classes: of four in a row one calibrates, two compare and one judges.
pub fn of_folder(folder: &Path, network: &Network, most: usize) -> Result<Samples> {
    let named = || format!("--pictures {}", folder.display());
    let labels = common::labels(None, network)?;
    let classes = truth::folders(folder, &labels, network.classes).with_context(named)?;
    let mut files: Vec<(PathBuf, usize)> = Vec::new();
    for (name, class) in classes {
        for entry in walkdir::WalkDir::new(folder.join(name)).follow_links(true).sort_by_file_name() {
            let entry = entry.with_context(named)?;
            let ending = entry.path().extension().map(|ending| ending.to_string_lossy().to_lowercase());
            let is_picture = ending.is_some_and(|ending| EXTENSIONS.contains(&ending.as_str()));
            if entry.file_type().is_file() && is_picture {
                files.push((entry.into_path(), class));
            }
        }
    }
    if files.len() < LEAST {
        bail!("{}: has {} pictures, of which at least {LEAST} are needed", named(), files.len());
    }
    // Classes take turns, whatever their number.
    files.sort();
    let files: Vec<&(PathBuf, usize)> = files.iter().collect();
    let chosen = evenly(&files, 2 * most);
    if chosen.len() < files.len() {
        let (some, all) = (chosen.len(), files.len());
        log::info!(target: NOTE, "{some} of {all} pictures are looked at, evenly chosen: --samples takes more");
    }
    let bar = progress("decoding");
    bar.set_length(chosen.len() as u64);
    let read = |(path, class): &(PathBuf, usize)| {
        let read = Picture::open(path).map(|picture| (picture, *class));
        bar.inc(1);
        read.inspect_err(|error| bar.suspend(|| log::warn!("left out: {error}"))).ok()
    };
    let read: Labelled = chosen.into_par_iter().filter_map(read).collect();
    drop(bar);
    if read.len() < LEAST {
        bail!("{}: {} pictures could be read, at least {LEAST} are needed", named(), read.len());
    }
    let mut samples = Samples::default();
    for (at, (picture, class)) in read.into_iter().enumerate() {
        match at % 4 {
            0 => samples.calibration.push(picture),
            1 | 3 => samples.search.push((picture, class)),
            _ => samples.check.push((picture, class)),
        }
    }
    Ok(samples)
}
