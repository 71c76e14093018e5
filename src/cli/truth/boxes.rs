//! How well boxes were found: COCO's mean average precision.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use goldcrest::{
    feed::{Answer, Name},
    tasks::Labels,
};
use hotcoco::{COCO, COCOeval, params::IouType, types::Annotation};
use serde_json::{Value, json};

use super::{percent, without};
use crate::cli::pictures::Evaluation;

/// The right boxes, and what was found.
pub struct Boxes {
    path: PathBuf,
    right: COCO,
    /// Pictures by the names of their files.
    pictures: HashMap<OsString, u64>,
    /// COCO's categories by the network's classes.
    categories: HashMap<usize, u64>,
    seen: BTreeSet<u64>,
    found: Vec<Annotation>,
    missing: usize,
}

impl Boxes {
    /// Reads a JSON file of COCO's format.
    pub fn open(path: &Path, labels: &Labels) -> Result<Self> {
        let named = || path.display().to_string();
        let right = COCO::new(path).with_context(named)?;
        let mut pictures = HashMap::new();
        for image in &right.dataset.images {
            let name = Path::new(&image.file_name).file_name().unwrap_or_default().to_owned();
            if pictures.insert(name, image.id).is_some() {
                bail!("{}: has two pictures called {}", named(), image.file_name);
            }
        }
        let plain = |name: &str| name.trim().to_lowercase();
        let mut categories = HashMap::new();
        for category in &right.dataset.categories {
            let is =
                |index: &usize| labels.get(*index).is_some_and(|label| plain(label) == plain(&category.name));
            match (0..labels.len()).find(is) {
                Some(class) => _ = categories.insert(class, category.id),
                // Without names, COCO's numbers are the classes'.
                None if labels.is_empty() => _ = categories.insert(category.id as usize, category.id),
                None => log::warn!("{}: the network has no class {:?}", named(), category.name),
            }
        }
        if categories.is_empty() {
            bail!("{}: the network has none of its categories (see --labels)", named());
        }
        let (seen, found) = (BTreeSet::new(), Vec::new());
        Ok(Self { path: path.to_owned(), right, pictures, categories, seen, found, missing: 0 })
    }
}

impl Evaluation for Boxes {
    fn add(&mut self, name: &Name, _: [usize; 2], answer: &Answer) -> Result<()> {
        let Answer::Boxes(found) = answer else { bail!("these are no boxes") };
        let Some(&image_id) = name.file.file_name().and_then(|name| self.pictures.get(name)) else {
            self.missing += 1;
            return Ok(());
        };
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
        let Self { path, right, seen, found, missing, .. } = *self;
        without(missing, &path.display().to_string());
        if seen.is_empty() {
            bail!("{}: has none of the pictures", path.display());
        }
        let named = || path.display().to_string();
        let pictures = seen.len();
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
            "mAP {} (IoU 0.5 to 0.95), {} at 0.5, {} at 0.75, over {pictures} pictures\n",
            text("AP"),
            text("AP50"),
            text("AP75"),
        );
        let verdict = json!({
            "pictures": pictures,
            "map": share("AP"),
            "map50": share("AP50"),
            "map75": share("AP75"),
            "without_truth": missing,
        });
        Ok((verdict, words))
    }
}
