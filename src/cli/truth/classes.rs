//! How often the right class was the likeliest, or one of five.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use goldcrest::{
    feed::{Answer, Name},
    tasks::Labels,
};
use serde_json::{Value, json};

use super::{percent, without};
use crate::cli::{common, pictures::Evaluation};

/// Classes that are listed, the worst first.
const WORST: usize = 5;

/// The right class of each picture, and what was answered.
pub struct Classes {
    path: PathBuf,
    truth: Truth,
    labels: Labels,
    /// Of each class: its pictures, those right at once, those right among five, and what others were taken for.
    counts: BTreeMap<usize, Count>,
    missing: usize,
}

enum Truth {
    /// By the names of pictures as they are listed, and by their files' names alone; none if two differ.
    Listed { paths: HashMap<PathBuf, usize>, names: HashMap<PathBuf, Option<usize>> },
    /// By the folder in which they are, below this one.
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
    /// Reads the right answers.
    pub fn open(path: &Path, labels: &Labels, classes: usize) -> Result<Self> {
        let found = fs::metadata(path).with_context(|| path.display().to_string())?;
        let truth =
            if found.is_dir() { folders(path, labels, classes) } else { listed(path, labels, classes) };
        let truth = truth.with_context(|| path.display().to_string())?;
        let (path, labels) = (path.to_owned(), labels.clone());
        Ok(Self { path, truth, labels, counts: BTreeMap::new(), missing: 0 })
    }

    fn right(&self, name: &Name) -> Option<usize> {
        match &self.truth {
            Truth::Listed { paths, names } => {
                let by_name = || names.get(Path::new(name.file.file_name()?)).copied().flatten();
                paths.get(&name.file).copied().or_else(by_name)
            }
            Truth::Folders(root, classes) => {
                let file = fs::canonicalize(&name.file).ok()?;
                let first = file.strip_prefix(root).ok()?.components().next()?;
                classes.get(Path::new(first.as_os_str())).copied()
            }
        }
    }

    fn named(&self, class: usize) -> String {
        common::class(class, self.labels.get(class))
    }
}

/// A class by its number or its name, or by one of the names that a label lists.
fn class(text: &str, labels: &Labels, classes: usize) -> Option<usize> {
    let plain = |name: &str| name.trim().to_lowercase().replace('_', " ");
    let text = plain(text);
    if let Ok(index) = text.parse::<usize>() {
        return (index < classes).then_some(index);
    }
    let is = |index: &usize| labels.get(*index).is_some_and(|label| plain(label) == text);
    let lists = |index: &usize| {
        labels.get(*index).is_some_and(|label| label.split(',').any(|name| plain(name) == text))
    };
    (0..labels.len()).find(is).or_else(|| (0..labels.len()).find(lists))
}

fn listed(path: &Path, labels: &Labels, classes: usize) -> Result<Truth> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_path(path)?;
    let (mut paths, mut names) = (HashMap::new(), HashMap::new());
    let beside = path.parent().unwrap_or(Path::new(""));
    for (at, record) in reader.records().enumerate() {
        let record = record?;
        let (Some(file), Some(label)) = (record.get(0), record.get(1)) else {
            bail!("line {}: expected a picture and its class", at + 1);
        };
        let Some(class) = class(label, labels, classes) else {
            // The first line may name the columns.
            if at == 0 && label.parse::<f64>().is_err() {
                continue;
            }
            bail!("line {}: the network has no class {label:?}", at + 1);
        };
        // As the user may name it: from here, or from where the list is.
        for path in [PathBuf::from(file), beside.join(file)] {
            if paths.insert(path, class).is_some_and(|before| before != class) {
                bail!("line {}: {file:?} has another class in a line before", at + 1);
            }
        }
        if let Some(name) = Path::new(file).file_name() {
            let kept = names.entry(PathBuf::from(name)).or_insert(Some(class));
            *kept = kept.filter(|kept| *kept == class);
        }
    }
    if paths.is_empty() {
        bail!("has no line with a picture and its class");
    }
    Ok(Truth::Listed { paths, names })
}

fn folders(path: &Path, labels: &Labels, classes: usize) -> Result<Truth> {
    let root = fs::canonicalize(path)?;
    let entries = fs::read_dir(&root)?.collect::<Result<Vec<_>, _>>()?;
    let is_class = |entry: &fs::DirEntry| {
        entry.path().is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    let mut names: Vec<PathBuf> =
        entries.iter().filter(|e| is_class(e)).map(|e| e.file_name().into()).collect();
    names.sort();
    if names.is_empty() {
        bail!("has no folders called like classes");
    }
    let by_name: HashMap<PathBuf, usize> = names
        .iter()
        .filter_map(|name| Some((name.clone(), class(&name.to_string_lossy(), labels, classes)?)))
        .collect();
    if by_name.len() == names.len() {
        return Ok(Truth::Folders(root, by_name));
    }
    // The usual layout of training: the classes are the folders in their order.
    if by_name.is_empty() && names.len() == classes {
        log::warn!("no folder in {} is called like a class: they are taken in their order", path.display());
        return Ok(Truth::Folders(root, names.into_iter().zip(0..).collect()));
    }
    let odd = names.iter().find(|name| !by_name.contains_key(*name));
    let odd = odd.map(|name| name.display().to_string()).unwrap_or_default();
    bail!("its folder {odd} is called like no class: name it by the class's number or name (see --labels)");
}

impl Evaluation for Classes {
    fn add(&mut self, name: &Name, _: [usize; 2], answer: &Answer) -> Result<()> {
        let Answer::Classes(found) = answer else { bail!("these are no classes") };
        let Some(right) = self.right(name) else {
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
        without(self.missing, &self.path.display().to_string());
        let sum = |of: fn(&Count) -> usize| self.counts.values().map(of).sum::<usize>();
        let (pictures, first, five) = (sum(|c| c.pictures), sum(|c| c.first), sum(|c| c.five));
        if pictures == 0 {
            bail!("{}: has none of the pictures", self.path.display());
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
                    "  {}: {first} of {pictures} right, taken for {}",
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
