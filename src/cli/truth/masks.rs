//! Evaluation of label maps: intersection over union per class.

use std::{
    collections::HashMap,
    fmt::Write,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use goldcrest::{
    feed::{Name, Prediction},
    files,
    tasks::Labels,
};
use hotcoco::semantic::SemanticEval;
use png::{BitDepth, ColorType, Transformations};
use serde_json::{Value, json};

use super::{percent, warn_without_truth};
use crate::cli::{
    common,
    pictures::{Evaluation, png_name},
};

/// The masks of a folder, and the scores so far.
pub struct Masks {
    folder: PathBuf,
    labels: Labels,
    sum: SemanticEval,
    /// The picture that each mask was matched with.
    taken: HashMap<PathBuf, Name>,
    missing: usize,
}

impl Masks {
    /// Opens a folder with one mask per picture.
    pub fn open(folder: &Path, labels: &Labels, classes: usize) -> Result<Self> {
        if !folder.is_dir() {
            bail!("{}: expected a folder of PNG masks", folder.display());
        }
        let sum = SemanticEval::new(classes);
        Ok(Self { folder: folder.to_owned(), labels: labels.clone(), sum, taken: HashMap::new(), missing: 0 })
    }

    /// The mask of a picture: with the picture's name and subfolder.
    fn mask(&self, name: &Name) -> Option<PathBuf> {
        let path = self.folder.join(name.subfolder()).join(png_name(name));
        path.is_file().then_some(path)
    }
}

impl Evaluation for Masks {
    fn add(&mut self, name: &Name, [height, width]: [usize; 2], prediction: &Prediction) -> Result<()> {
        let Prediction::Pixels(found) = prediction else { bail!("the result is not a label map") };
        let Some(path) = self.mask(name) else {
            self.missing += 1;
            return Ok(());
        };
        let named = || path.display().to_string();
        let taken = self.taken.entry(path.clone()).or_insert_with(|| name.clone());
        if taken != name {
            bail!("{}: is already the mask of {taken}", named());
        }
        let right = read(&path, [height, width]).with_context(named)?;
        self.sum.update(&right, found.labels()).with_context(named)
    }

    fn finish(self: Box<Self>) -> Result<(Value, String)> {
        warn_without_truth(self.missing, &self.folder.display().to_string());
        if self.sum.n_images() == 0 {
            bail!("{}: has no mask for any of the pictures", self.folder.display());
        }
        let scores = self.sum.scores();
        // A negative score means that no pixel of the masks has a class.
        let share = |score: f64| Some(score).filter(|score| *score >= 0.0);
        let words = |score: f64| share(score).map_or_else(|| "none".into(), percent);
        let pictures = self.sum.n_images();
        let mut text = format!(
            "mean IoU {}, pixel accuracy {}, over {pictures} pictures\n",
            words(scores.miou),
            words(scores.aacc)
        );
        let mut classes = Vec::new();
        for (index, class) in scores.per_class.iter().enumerate().filter(|(_, class)| class.iou >= 0.0) {
            let label = self.labels.get(index);
            writeln!(text, "  {:>8}  {}", percent(class.iou), common::class(index, label))?;
            classes.push(json!({ "index": index, "label": label, "iou": class.iou }));
        }
        let verdict = json!({
            "pictures": pictures,
            "mean_iou": share(scores.miou),
            "pixel_accuracy": share(scores.aacc),
            "without_truth": self.missing,
            "classes": classes,
        });
        Ok((verdict, text))
    }
}

/// Reads a mask of `[rows, columns]`: the class of each pixel is its palette index or grey level.
fn read(path: &Path, [height, width]: [usize; 2]) -> Result<Vec<u8>> {
    let mut decoder = png::Decoder::new(BufReader::new(files::open(path)?));
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info()?;
    let (colour, depth) = reader.output_color_type();
    if !matches!(colour, ColorType::Indexed | ColorType::Grayscale) || depth == BitDepth::Sixteen {
        bail!("expected a PNG mask of palette indices or grey levels with at most 8 bits");
    }
    let (columns, rows) = reader.info().size();
    if [rows as usize, columns as usize] != [height, width] {
        bail!("the mask has {columns} x {rows} pixels, the picture has {width} x {height}");
    }
    let size = reader.output_buffer_size().context("the mask is too large")?;
    let mut bytes = vec![0; size];
    let info = reader.next_frame(&mut bytes)?;
    let bits = depth as usize;
    let rows = bytes.chunks_exact(info.line_size).take(height);
    // Several pixels per byte, the first in the high bits.
    let pixels = rows.flat_map(|row| {
        (0..width).map(|x| {
            let at = x * bits;
            let shifted = row[at / 8] >> (8 - bits - at % 8);
            if bits == 8 { shifted } else { shifted & ((1 << bits) - 1) }
        })
    });
    Ok(pixels.collect())
}
