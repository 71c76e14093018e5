//! The accuracies of candidates, stored in the output folder. An interrupted search continues from them, and
//! a search with another limit starts with them.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use goldcrest::{files, search::Samples, zoo::Supernet};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Maximum size of the file in bytes: some million candidates.
const MAX_BYTES: u64 = 256 << 20;

/// Accuracies by the text form of a subnet.
pub struct Evaluated {
    path: PathBuf,
    /// The fingerprint of what accuracies depend on: weights and pictures.
    of: String,
    known: HashMap<String, f64>,
    /// True once this search has written the file.
    begun: bool,
}

impl Evaluated {
    /// Reads the accuracies in a folder. They must be for the same weights, configuration and pictures.
    pub fn open(folder: &Path, supernet: &Supernet, samples: &Samples) -> Result<Self> {
        let path = folder.join("evaluated.jsonl");
        let of = fingerprint(supernet, samples);
        let mut known = HashMap::new();
        let whole = match fs::exists(&path)? {
            true => String::from_utf8_lossy(&files::read(&path, MAX_BYTES)?).into_owned(),
            false => String::new(),
        };
        // Skip a truncated line: its candidate is evaluated again.
        let mut lines = whole.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let parsed = |line: &str| serde_json::from_str::<Value>(line).ok();
        match lines.next().and_then(parsed) {
            Some(first) if first["of"] == of => {
                for line in lines.filter_map(parsed) {
                    let accuracy = line["accuracy"].as_f64();
                    if let (Some(subnet), Some(accuracy)) = (line["subnet"].as_str(), accuracy) {
                        known.insert(subnet.to_owned(), accuracy);
                    }
                }
            }
            Some(_) => bail!(
                "{}: has candidates of another supernet, another configuration or other pictures: name another folder",
                path.display()
            ),
            None if whole.is_empty() => {}
            None => bail!("{}: was not written by this command: name another folder", path.display()),
        }
        Ok(Self { path, of, known, begun: false })
    }

    /// The accuracies that are known so far.
    pub fn all(&self) -> Vec<(String, f64)> {
        self.known.iter().map(|(subnet, right)| (subnet.clone(), *right)).collect()
    }

    /// Stores the accuracy of a candidate. A failed write costs only the next search some time.
    pub fn keep(&mut self, subnet: &str, right: f64) {
        if self.known.insert(subnet.to_owned(), right).is_some() {
            return;
        }
        let kept = match std::mem::replace(&mut self.begun, true) {
            true => self.add(&line(subnet, right)),
            false => self.begin(),
        };
        if let Err(error) = kept {
            log::debug!("{}: {error}", self.path.display());
        }
    }

    /// Writes a new file with all known accuracies, without truncated lines. Creates the folder only now,
    /// when there is a candidate.
    fn begin(&self) -> io::Result<()> {
        fs::create_dir_all(files::folder_of(&self.path))?;
        let mut sorted: Vec<_> = self.known.iter().collect();
        sorted.sort_by_key(|(subnet, _)| *subnet);
        let lines = sorted.into_iter().map(|(subnet, right)| line(subnet, *right));
        let text: String = std::iter::once(format!("{}\n", json!({ "of": self.of }))).chain(lines).collect();
        files::write_whole(&self.path, text.as_bytes())
    }

    fn add(&self, line: &str) -> io::Result<()> {
        fs::OpenOptions::new().append(true).open(&self.path)?.write_all(line.as_bytes())
    }
}

fn line(subnet: &str, accuracy: f64) -> String {
    format!("{}\n", json!({ "subnet": subnet, "accuracy": accuracy }))
}

/// A hash of every weight, the configuration and every pixel.
fn fingerprint(supernet: &Supernet, samples: &Samples) -> String {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    for (name, tensor) in supernet.tensors() {
        hash.update(name);
        hash.update(bytemuck::cast_slice::<f32, u8>(tensor.data()));
    }
    for (name, value) in supernet.config_fields() {
        hash.update(format!("{name}={value}\n"));
    }
    samples.calibration.iter().for_each(|picture| hash.update(picture.pixels()));
    for (picture, class) in &samples.search {
        hash.update(picture.pixels());
        hash.update(class.to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
