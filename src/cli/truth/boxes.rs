//! How well boxes were found: COCO's mean average precision.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use goldcrest::{
    feed::{Answer, Name},
    files::{self, folder_of},
    tasks::Labels,
};
use hotcoco::{COCO, COCOeval, Dataset, params::IouType, types::Annotation};
use serde_json::{Value, json};

use super::{entries::Entries, labelled, percent, without};
use crate::cli::pictures::Evaluation;

/// The most bytes of a file of boxes: COCO's own have half a gigabyte.
const MOST_BYTES: u64 = 4 << 30;

/// The right boxes, and what was found.
pub struct Boxes {
    path: PathBuf,
    right: COCO,
    pictures: Entries<u64>,
    /// Rows and columns of the pictures, by their numbers; zero where they are not said.
    sizes: HashMap<u64, [usize; 2]>,
    /// COCO's categories by the network's classes.
    categories: HashMap<usize, u64>,
    seen: BTreeSet<u64>,
    found: Vec<Annotation>,
    missing: usize,
}

impl Boxes {
    /// Reads a JSON file of COCO's format.
    pub fn open(path: &Path, labels: &Labels) -> Result<Self> {
        let bytes = files::read(path, MOST_BYTES)?;
        Self::of(path, &bytes, labels).with_context(|| path.display().to_string())
    }

    fn of(path: &Path, bytes: &[u8], labels: &Labels) -> Result<Self> {
        let mut right: Dataset = serde_json::from_slice(bytes)?;
        let (mut pictures, mut sizes) = (Entries::new(), HashMap::new());
        for image in &right.images {
            pictures.insert(Path::new(&image.file_name), folder_of(path), image.id)?;
            if sizes.insert(image.id, [image.height as usize, image.width as usize]).is_some() {
                bail!("has two pictures of the number {}", image.id);
            }
        }
        let (mut names, mut numbers) = (HashMap::new(), HashSet::new());
        for category in &right.categories {
            if let Some(other) = names.insert(plain(&category.name), category.id) {
                bail!("has two categories called {:?}, {other} and {}", category.name, category.id);
            }
            if !numbers.insert(category.id) {
                bail!("has two categories of the number {}", category.id);
            }
        }
        let categories = categories(path, &right, labels)?;
        let all = right.annotations.len();
        right.annotations.retain(|of| sizes.contains_key(&of.image_id) && numbers.contains(&of.category_id));
        if right.annotations.len() < all {
            let dropped = all - right.annotations.len();
            log::warn!(
                "{}: {dropped} boxes are of pictures or categories that it does not list",
                path.display()
            );
        }
        for (number, annotation) in (1..).zip(&mut right.annotations) {
            let fine = |[x, y, width, height]: [f64; 4]| {
                [x, y, width, height].iter().all(|side| side.is_finite()) && width >= 0.0 && height >= 0.0
            };
            if annotation.bbox.is_some_and(|bounds| !fine(bounds)) {
                bail!(
                    "picture {} has a box of {:?}",
                    annotation.image_id,
                    annotation.bbox.unwrap_or_default()
                );
            }
            // Some programs write none, or the same twice: nothing here refers to them.
            annotation.id = number;
        }
        let (seen, found) = (BTreeSet::new(), Vec::new());
        let right = COCO::from_dataset(right);
        Ok(Self { path: path.to_owned(), right, pictures, sizes, categories, seen, found, missing: 0 })
    }
}

/// A file's categories by the network's classes.
fn categories(path: &Path, right: &Dataset, labels: &Labels) -> Result<HashMap<usize, u64>> {
    let mut categories = HashMap::new();
    for category in &right.categories {
        let name = &category.name;
        let class = match labelled(labels, name, |label| label == name)? {
            None => labelled(labels, name, |label| plain(label) == plain(name))?,
            found => found,
        };
        match class {
            Some(class) => _ = categories.insert(class, category.id),
            // Without names, COCO's numbers are the classes'.
            None if labels.is_empty() => _ = categories.insert(category.id as usize, category.id),
            None => log::warn!("{}: the network has no class {name:?}", path.display()),
        }
    }
    if categories.is_empty() {
        bail!("the network has none of its categories (see --labels)");
    }
    Ok(categories)
}

/// A category's name, however it is written.
fn plain(name: &str) -> String {
    name.trim().to_lowercase()
}

impl Evaluation for Boxes {
    fn add(&mut self, name: &Name, size: [usize; 2], answer: &Answer) -> Result<()> {
        let Answer::Boxes(found) = answer else { bail!("these are no boxes") };
        // Of an animation the first is meant.
        let first = name.frame.is_none_or(|frame| frame == 0);
        let Some(image_id) = self.pictures.find(name)?.filter(|_| first) else {
            self.missing += 1;
            return Ok(());
        };
        let said = self.sizes.get(&image_id).copied().filter(|said| !said.contains(&0));
        if let Some([height, width]) = said.filter(|said| *said != size) {
            let (path, [rows, columns]) = (self.path.display(), size);
            bail!("{path}: has it as {width} x {height}, it is {columns} x {rows}");
        }
        // What is found a second time in one picture would count as wrong.
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
        let Self { path, right, pictures, seen, found, missing, .. } = *self;
        without(missing, &path.display().to_string());
        pictures.warn(&path.display().to_string());
        if seen.is_empty() {
            bail!("{}: has none of the pictures: {}", path.display(), pictures.example());
        }
        let named = || path.display().to_string();
        let count = seen.len();
        let found = right.load_res_anns(found).with_context(named)?;
        let mut sum = COCOeval::new(right, found, IouType::Bbox);
        // Those that were not looked at have no boxes to miss.
        sum.params.img_ids = seen.into_iter().collect();
        sum.evaluate().with_context(named)?;
        sum.accumulate();
        sum.summarize_lines();
        let results = sum.get_results(None, false);
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
