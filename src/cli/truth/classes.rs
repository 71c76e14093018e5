//! Evaluation of classes: top-1 and top-5 accuracy.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use goldcrest::{
    feed::{Name, Prediction},
    files::{self, folder_of, path_of},
    tasks::Labels,
};
use serde_json::{Value, json};

use super::{
    entries::{Entries, paths_of},
    labelled, percent, warn_without_truth,
};
use crate::cli::{common, pictures::Evaluation};

/// Maximum size of a list in bytes: some ten million pictures.
const MOST_BYTES: u64 = 1 << 30;

/// Number of classes to list, the worst first.
const WORST: usize = 5;

/// The correct class of each picture, and the counts so far.
pub struct Classes {
    path: PathBuf,
    truth: Truth,
    labels: Labels,
    /// Per class: its pictures, those with a correct top-1 class, those with a correct top-5 class, and the
    /// wrong top-1 classes.
    counts: BTreeMap<usize, Count>,
    missing: usize,
}

enum Truth {
    /// The class of each listed picture.
    Listed(Entries<usize>),
    /// The class of each subfolder of this folder.
    Folders(PathBuf, HashMap<PathBuf, usize>),
}

#[derive(Default)]
struct Count {
    pictures: usize,
    first: usize,
    five: usize,
    taken_for: BTreeMap<usize, usize>,
}

impl Classes {
    /// Reads the ground truth.
    pub fn open(path: &Path, labels: &Labels, classes: usize) -> Result<Self> {
        if classes < 2 {
            bail!("--truth: the network has only one class, which is always the most likely");
        }
        let names = Names { labels, classes };
        let truth = match path.is_dir() {
            true => folders(path, labels, classes).map(|by_name| Truth::Folders(path.to_owned(), by_name)),
            false => listed(&files::read(path, MOST_BYTES)?, path, names),
        };
        let truth = truth.with_context(|| path.display().to_string())?;
        let (path, labels) = (path.to_owned(), labels.clone());
        Ok(Self { path, truth, labels, counts: BTreeMap::new(), missing: 0 })
    }

    fn right(&mut self, name: &Name) -> Result<Option<usize>> {
        match &mut self.truth {
            Truth::Listed(entries) => entries.find(name),
            Truth::Folders(root, classes) => {
                let (mut roots, files) = (paths_of(root), paths_of(&name.file));
                roots.extend(fs::canonicalize(root));
                let within =
                    files.iter().find_map(|file| roots.iter().find_map(|root| file.strip_prefix(root).ok()));
                let folder = within.and_then(|within| within.components().next());
                Ok(folder.and_then(|folder| classes.get(Path::new(folder.as_os_str())).copied()))
            }
        }
    }

    fn named(&self, class: usize) -> String {
        common::class(class, self.labels.get(class))
    }
}

/// The names of classes.
#[derive(Clone, Copy)]
struct Names<'a> {
    labels: &'a Labels,
    classes: usize,
}

impl Names<'_> {
    /// Finds a class by its label or its index, by its label with different case or underscores, or by one of
    /// the comma-separated names in a label.
    ///
    /// # Errors
    /// If several classes match.
    fn find(self, text: &str) -> Result<Option<usize>> {
        let text = text.trim();
        let plain = |name: &str| name.trim().to_lowercase().replace('_', " ");
        let wanted = plain(text);
        let number = text.parse().ok().filter(|index| *index < self.classes);
        Ok(match self.called(text, |label| label.trim() == text)?.or(number) {
            None => match self.called(text, |label| plain(label) == wanted)? {
                None => self.called(text, |label| label.split(',').any(|name| plain(name) == wanted))?,
                found => found,
            },
            found => found,
        })
    }

    fn called(self, text: &str, is: impl Fn(&str) -> bool) -> Result<Option<usize>> {
        labelled(self.labels, text, is).map_err(|error| anyhow!("{error}: give the index"))
    }
}

fn listed(bytes: &[u8], path: &Path, names: Names) -> Result<Truth> {
    // Spreadsheets mark UTF-8 with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // The delimiter of the first line.
    let first = bytes.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let delimiter = [b',', b';', b'\t'].into_iter().find(|byte| first.contains(byte)).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .delimiter(delimiter)
        .from_reader(bytes);
    let mut entries = Entries::new();
    let beside = folder_of(path);
    for (at, record) in reader.byte_records().enumerate() {
        let record = record?;
        // A record's position is in front of the empty lines that precede it.
        let line = || {
            let begin = record.position().map_or(0, |position| position.byte() as usize).min(bytes.len());
            let empty = bytes[begin..].len() - bytes[begin..].trim_ascii_start().len();
            format!("line {}", 1 + bytes[..begin + empty].iter().filter(|byte| **byte == b'\n').count())
        };
        let (Some(file), Some(label)) = (record.get(0), record.get(1)) else {
            bail!("{}: expected a picture and its class, separated by a comma, semicolon or tab", line());
        };
        let (file, label) = (path_of(file), String::from_utf8_lossy(label));
        let Some(class) = names.find(&label).with_context(line)? else {
            // The first line may be a header: no file extension, and no index.
            if at == 0 && file.extension().is_none() && label.parse::<f64>().is_err() {
                continue;
            }
            bail!("{}: the network has no class {label:?}", line());
        };
        entries.insert(&file, beside, class).with_context(line)?;
    }
    if entries.is_empty() {
        bail!("has no line with a picture and its class");
    }
    Ok(Truth::Listed(entries))
}

/// The classes of the subfolders of `path`, by their names.
pub fn folders(path: &Path, labels: &Labels, classes: usize) -> Result<HashMap<PathBuf, usize>> {
    let classes = Names { labels, classes };
    let entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    let is_class = |entry: &fs::DirEntry| {
        entry.path().is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    let mut names: Vec<PathBuf> =
        entries.iter().filter(|e| is_class(e)).map(|e| e.file_name().into()).collect();
    names.sort();
    if names.is_empty() {
        bail!("has no subfolders named after classes");
    }
    let mut by_name = HashMap::new();
    for name in &names {
        by_name.extend(classes.find(&name.to_string_lossy())?.map(|class| (name.clone(), class)));
    }
    if by_name.len() == names.len() {
        return Ok(by_name);
    }
    // The usual training layout: class indices follow the sorted order of the folders.
    if by_name.is_empty() && names.len() == classes.classes {
        log::warn!(
            "no folder in {} is named after a class: class indices follow the sorted order of the folders",
            path.display()
        );
        return Ok(names.into_iter().zip(0..).collect());
    }
    let unknown = names.iter().find(|name| !by_name.contains_key(*name));
    let unknown = unknown.map(|name| name.display().to_string()).unwrap_or_default();
    bail!("its folder {unknown} is not the name of a class: use the class's index or name (see --labels)");
}

impl Evaluation for Classes {
    fn add(&mut self, name: &Name, _: [usize; 2], prediction: &Prediction) -> Result<()> {
        let Prediction::Classes(found) = prediction else { bail!("the result is not a list of classes") };
        let Some(right) = self.right(name)? else {
            self.missing += 1;
            return Ok(());
        };
        let count = self.counts.entry(right).or_default();
        count.pictures += 1;
        count.five += usize::from(found.iter().take(5).any(|class| class.index == right));
        match found.first().map(|class| class.index) {
            Some(first) if first == right => count.first += 1,
            Some(first) => *count.taken_for.entry(first).or_default() += 1,
            None => {}
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(Value, String)> {
        warn_without_truth(self.missing, &self.path.display().to_string());
        if let Truth::Listed(entries) = &self.truth {
            entries.warn(&self.path.display().to_string());
        }
        let sum = |of: fn(&Count) -> usize| self.counts.values().map(of).sum::<usize>();
        let (pictures, first, five) = (sum(|c| c.pictures), sum(|c| c.first), sum(|c| c.five));
        if pictures == 0 {
            let example = match &self.truth {
                Truth::Listed(entries) => format!(": {}", entries.example()),
                Truth::Folders(..) => String::new(),
            };
            bail!("{}: lists none of the pictures{example}", self.path.display());
        }
        let share = |count: usize, of: usize| count as f64 / of as f64;
        let mut text = format!(
            "top-1 {} ({first} of {pictures}), top-5 {} ({five})\n",
            percent(share(first, pictures)),
            percent(share(five, pictures)),
        );
        let mut worst: Vec<(&usize, &Count)> =
            self.counts.iter().filter(|(_, c)| c.first < c.pictures).collect();
        worst.sort_by(|(_, a), (_, b)| {
            let [a_share, b_share] = [a, b].map(|count| share(count.first, count.pictures));
            a_share.total_cmp(&b_share).then(b.pictures.cmp(&a.pictures))
        });
        let mut classes = Vec::new();
        for (class, count) in worst {
            let mut taken: Vec<(&usize, &usize)> = count.taken_for.iter().collect();
            taken.sort_by_key(|(_, times)| Reverse(**times));
            if classes.len() < WORST {
                let names: Vec<String> = taken
                    .iter()
                    .take(3)
                    .map(|(class, times)| format!("{} x{times}", self.named(**class)))
                    .collect();
                let Count { first, pictures, .. } = count;
                writeln!(
                    text,
                    "  {}: {first} of {pictures} correct, predicted as {}",
                    self.named(*class),
                    names.join(", ")
                )?;
            }
            classes.push(json!({
                "index": class,
                "label": self.labels.get(*class),
                "pictures": count.pictures,
                "right": count.first,
                "top5": count.five,
                "taken_for": taken.iter().map(|(class, times)| json!({
                    "index": class,
                    "label": self.labels.get(**class),
                    "pictures": times,
                })).collect::<Vec<_>>(),
            }));
        }
        let verdict = json!({
            "pictures": pictures,
            "top1": share(first, pictures),
            "top5": share(five, pictures),
            "without_truth": self.missing,
            "confused": classes,
        });
        Ok((verdict, text))
    }
}
