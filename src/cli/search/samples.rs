//! The pictures that candidates are evaluated on.

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

/// Number of held-out scenes that the finalists are evaluated on.
const HELD_OUT_SCENES: usize = 1000;

/// Minimum number of user pictures: with fewer, accuracies are too coarse to compare.
const MIN_PICTURES: usize = 32;

/// The built-in scenes.
pub fn scenes(count: usize) -> Result<Samples> {
    let bar = progress("drawing");
    let samples = Samples::scenes(count, HELD_OUT_SCENES)?;
    drop(bar);
    Ok(samples)
}

/// Pictures in folders named after classes. Of every four, one is for calibration, two are for comparing
/// candidates and one is for evaluating finalists.
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
    if files.len() < MIN_PICTURES {
        bail!("{}: has {} pictures, but at least {MIN_PICTURES} are needed", named(), files.len());
    }
    // Sorted by path, so that each class is split over the sets, and the same way every time.
    files.sort();
    let files: Vec<&(PathBuf, usize)> = files.iter().collect();
    let chosen = evenly(&files, 2 * most);
    if chosen.len() < files.len() {
        let (some, all) = (chosen.len(), files.len());
        log::info!(target: NOTE, "using {some} of {all} pictures, evenly spaced in path order: raise --samples for more");
    }
    let bar = progress("decoding");
    bar.set_length(chosen.len() as u64);
    let read = |(path, class): &(PathBuf, usize)| {
        let read = Picture::open(path).map(|picture| (picture, *class));
        bar.inc(1);
        read.inspect_err(|error| bar.suspend(|| log::warn!("skipped: {error}"))).ok()
    };
    let read: Labelled = chosen.into_par_iter().filter_map(read).collect();
    drop(bar);
    if read.len() < MIN_PICTURES {
        bail!("{}: {} pictures could be read, but at least {MIN_PICTURES} are needed", named(), read.len());
    }
    let mut samples = Samples::default();
    for (at, (picture, class)) in read.into_iter().enumerate() {
        match at % 4 {
            0 => samples.calibration.push(picture),
            1 | 3 => samples.search.push((picture, class)),
            _ => samples.held_out.push((picture, class)),
        }
    }
    Ok(samples)
}
