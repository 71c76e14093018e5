//! Evaluation of boxes: COCO's mean average precision.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use goldcrest::{
    feed::{Name, Prediction},
    files::{self, folder_of},
    tasks::Labels,
};
use hotcoco::{COCO, COCOeval, Dataset, params::IouType, types::Annotation};
use serde_json::{Value, json};

use super::{entries::Entries, labelled, percent, warn_without_truth};
use crate::cli::pictures::Evaluation;

/// Maximum size of a file of boxes, in bytes: COCO's own have half a gigabyte.
const MOST_BYTES: u64 = 4 << 30;

/// The ground-truth boxes and the detections.
pub struct Boxes {
    path: PathBuf,
    truth: COCO,
    pictures: Entries<u64>,
    /// Rows and columns of the pictures, by id; zero if the file does not have them.
    sizes: HashMap<u64, [usize; 2]>,
    /// The ids of COCO's categories, by the network's class.
    categories: HashMap<usize, u64>,
    seen: BTreeSet<u64>,
    found: Vec<Annotation>,
    missing: usize,
}

impl Boxes {
    /// Reads a JSON file in COCO format.
    pub fn open(path: &Path, labels: &Labels) -> Result<Self> {
        let bytes = files::read(path, MOST_BYTES)?;
        Self::of(path, &bytes, labels).with_context(|| path.display().to_string())
    }

    fn of(path: &Path, bytes: &[u8], labels: &Labels) -> Result<Self> {
        let mut truth: Dataset = serde_json::from_slice(bytes)?;
        let (mut pictures, mut sizes) = (Entries::new(), HashMap::new());
        for image in &truth.images {
            pictures.insert(Path::new(&image.file_name), folder_of(path), image.id)?;
            if sizes.insert(image.id, [image.height as usize, image.width as usize]).is_some() {
                bail!("has two pictures with the id {}", image.id);
            }
        }
        let (mut names, mut numbers) = (HashMap::new(), HashSet::new());
        for category in &truth.categories {
            if let Some(other) = names.insert(plain(&category.name), category.id) {
                bail!("has two categories called {:?}, {other} and {}", category.name, category.id);
            }
            if !numbers.insert(category.id) {
                bail!("has two categories with the id {}", category.id);
            }
        }
        let categories = categories(path, &truth, labels)?;
        let all = truth.annotations.len();
        truth.annotations.retain(|of| sizes.contains_key(&of.image_id) && numbers.contains(&of.category_id));
        if truth.annotations.len() < all {
            let dropped = all - truth.annotations.len();
            log::warn!(
                "{}: {dropped} boxes refer to pictures or categories that the file does not list",
                path.display()
            );
        }
        for (number, annotation) in (1..).zip(&mut truth.annotations) {
            let is_valid = |[x, y, width, height]: [f64; 4]| {
                [x, y, width, height].iter().all(|side| side.is_finite()) && width >= 0.0 && height >= 0.0
            };
            if annotation.bbox.is_some_and(|bounds| !is_valid(bounds)) {
                bail!(
                    "picture {} has an invalid box: {:?}",
                    annotation.image_id,
                    annotation.bbox.unwrap_or_default()
                );
            }
            // Renumbered: some programs write no ids or duplicate ids, and nothing here refers to them.
            annotation.id = number;
        }
        let (seen, found) = (BTreeSet::new(), Vec::new());
        let truth = COCO::from_dataset(truth);
        Ok(Self { path: path.to_owned(), truth, pictures, sizes, categories, seen, found, missing: 0 })
    }
}

/// The ids of a file's categories, by the network's class.
fn categories(path: &Path, truth: &Dataset, labels: &Labels) -> Result<HashMap<usize, u64>> {
    let mut categories = HashMap::new();
    for category in &truth.categories {
        let name = &category.name;
        let class = match labelled(labels, name, |label| label == name)? {
            None => labelled(labels, name, |label| plain(label) == plain(name))?,
            found => found,
        };
        match class {
            Some(class) => _ = categories.insert(class, category.id),
            // Without labels, COCO's category ids are the class indices.
            None if labels.is_empty() => _ = categories.insert(category.id as usize, category.id),
            None => log::warn!("{}: the network has no class {name:?}", path.display()),
        }
    }
    if categories.is_empty() {
        bail!("the network has none of its categories (see --labels)");
    }
    Ok(categories)
}

/// A category's name, trimmed and in lower case.
fn plain(name: &str) -> String {
    name.trim().to_lowercase()
}

impl Evaluation for Boxes {
    fn add(&mut self, name: &Name, size: [usize; 2], prediction: &Prediction) -> Result<()> {
        let Prediction::Boxes(found) = prediction else { bail!("the result is not a list of boxes") };
        // The ground truth of an animation is that of its first frame.
        let first = name.frame.is_none_or(|frame| frame == 0);
        let Some(image_id) = self.pictures.find(name)?.filter(|_| first) else {
            self.missing += 1;
            return Ok(());
        };
        let listed = self.sizes.get(&image_id).copied().filter(|listed| !listed.contains(&0));
        if let Some([height, width]) = listed.filter(|listed| *listed != size) {
            let (path, [rows, columns]) = (self.path.display(), size);
            bail!("{path}: lists the picture as {width} x {height}, but it is {columns} x {rows}");
        }
        // Detections of the same picture again would count as false positives.
        if !self.seen.insert(image_id) {
            return Ok(());
        }
        for found in found {
            let Some(&category_id) = self.categories.get(&found.index) else { continue };
            let bounds = found.bounds;
            let [left, top, right, bottom] =
                [bounds.left, bounds.top, bounds.right, bounds.bottom].map(f64::from);
            self.found.push(Annotation {
                image_id,
                category_id,
                bbox: Some([left, top, right - left, bottom - top]),
                score: Some(f64::from(found.score)),
                ..Annotation::default()
            });
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(Value, String)> {
        let Self { path, truth, pictures, seen, found, missing, .. } = *self;
        warn_without_truth(missing, &path.display().to_string());
        pictures.warn(&path.display().to_string());
        if seen.is_empty() {
            bail!("{}: lists none of the pictures: {}", path.display(), pictures.example());
        }
        let named = || path.display().to_string();
        let count = seen.len();
        let found = truth.load_res_anns(found).with_context(named)?;
        let mut evaluation = COCOeval::new(truth, found, IouType::Bbox);
        // Evaluate only the pictures that were processed.
        evaluation.params.img_ids = seen.into_iter().collect();
        evaluation.evaluate().with_context(named)?;
        evaluation.accumulate();
        evaluation.summarize_lines();
        let results = evaluation.get_results(None, false);
        let share = |name: &str| results.get(name).copied().filter(|value| *value >= 0.0);
        let text = |name: &str| share(name).map_or_else(|| "none".into(), percent);
        let words = format!(
            "mAP {} (IoU 0.5 to 0.95), {} at 0.5, {} at 0.75, over {count} pictures\n",
            text("AP"),
            text("AP50"),
            text("AP75"),
        );
        let verdict = json!({
            "pictures": count,
            "map": share("AP"),
            "map50": share("AP50"),
            "map75": share("AP75"),
            "without_truth": missing,
        });
        Ok((verdict, words))
    }
}
