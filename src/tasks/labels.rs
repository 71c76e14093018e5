//! Names of classes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    Error, Result, files,
    zoo::{Network, Task},
};

/// The size limit of a labels file, in bytes.
const MOST: u64 = 32 << 20;

/// The names of ImageNet's 1000 classes, as in torchvision; `assets/CREDITS.md` names the source.
const IMAGENET: &str = include_str!("../../assets/imagenet_classes.txt");

/// PASCAL VOC's 21 and COCO's 91 classes, from the same source.
const VOC: &str = include_str!("../../assets/voc_classes.txt");
const COCO: &str = include_str!("../../assets/coco_classes.txt");

/// The names of a network's classes. Without names, classes are shown by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
    /// The file that they were read from.
    path: Option<PathBuf>,
}

impl From<Vec<String>> for Labels {
    /// Labels from names in the order of the classes.
    fn from(names: Vec<String>) -> Self {
        Self { names, path: None }
    }
}

impl Labels {
    /// The built-in names for a classifier with this number of classes: ImageNet's for 1000, a background and
    /// ImageNet's for 1001, otherwise none.
    pub fn for_count(classes: usize) -> Self {
        let background = match classes {
            1000 => None,
            1001 => Some("background"),
            _ => return Self::default(),
        };
        let names = background.into_iter().chain(IMAGENET.lines()).map(str::to_owned).collect();
        Self { names, path: None }
    }

    /// The names of a network's classes: those of its configuration, else the built-in ones of its task.
    /// Empty if the number of names does not match.
    pub fn of(network: &Network) -> Self {
        let built_in = || match network.task {
            Task::Classify => Self::for_count(network.classes),
            Task::Embed => Self::default(),
            Task::Segment { .. } if network.label_count() == 2 => {
                vec!["background".to_owned(), "foreground".into()].into()
            }
            Task::Segment { .. } => Self::voc(),
            Task::Detect(_) => Self::coco(),
        };
        let names = network.labels.clone().map_or_else(built_in, Self::from);
        if names.len() == network.label_count() { names } else { Self::default() }
    }

    /// PASCAL VOC's 21 names, `__background__` first: the classes of torchvision's segmenters.
    pub fn voc() -> Self {
        Self::built_in(VOC)
    }

    /// COCO's 91 names, `__background__` first: the classes of torchvision's detectors. The ten numbers that
    /// COCO does not use are called `N/A`.
    pub fn coco() -> Self {
        Self::built_in(COCO)
    }

    fn built_in(names: &str) -> Self {
        Self { names: names.lines().map(str::to_owned).collect(), path: None }
    }

    /// Reads names from a file: text with one name per line, a JSON list, a JSON object from index to name,
    /// or a `config.json` with such an object as `id2label`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::File`] if it has another format, a name is missing,
    /// or it has no names.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = files::read(path, MOST)?;
        let names = parse(&bytes).map_err(|reason| Error::file(path, reason))?;
        Ok(Self { names, path: Some(path.to_owned()) })
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True if there are no names.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a class, if it has one.
    pub fn get(&self, class: usize) -> Option<&str> {
        self.names.get(class).map(String::as_str)
    }

    /// Checks that there are names for `classes` classes, or no names.
    ///
    /// # Errors
    /// [`Error::File`] for names from a file, or else [`Error::Input`], if the counts differ.
    pub fn check(&self, classes: usize) -> Result<()> {
        if self.is_empty() || self.len() == classes {
            return Ok(());
        }
        let reason = format!("{} labels for a network of {classes} classes", self.len());
        Err(match &self.path {
            Some(path) => Error::file(path, reason),
            None => Error::Input(reason),
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the labels are not UTF-8 text")?;
    let text = text.trim_start_matches('\u{feff}').trim_end();
    let names: Vec<String> = if text.trim_start().starts_with(['[', '{']) {
        match serde_json::from_str(text).map_err(|e| e.to_string())? {
            Value::Array(names) => names.iter().enumerate().map(|(i, v)| name(i, Some(v))).collect(),
            Value::Object(mut object) => {
                if let Some(Value::Object(inner)) = object.remove("id2label") {
                    object = inner;
                }
                // Indices must be consecutive from 0: a gap leaves a class without a name.
                (0..object.len()).map(|i| name(i, object.get(&i.to_string()))).collect()
            }
            _ => Err("neither a list nor an object of labels".into()),
        }?
    } else {
        text.lines().map(|line| line.trim().to_owned()).collect()
    };
    match names.iter().position(String::is_empty) {
        Some(index) => Err(format!("class {index} has no label")),
        None if names.is_empty() => Err("the file holds no label".into()),
        None => Ok(names),
    }
}

/// The name in one JSON entry: a string, or the last of a list such as `["n01440764", "tench"]`.
fn name(index: usize, entry: Option<&Value>) -> Result<String, String> {
    match entry {
        Some(Value::String(name)) => Ok(name.trim().to_owned()),
        Some(Value::Array(names)) if !names.is_empty() => name(index, names.last()),
        Some(_) => Err(format!("the label of class {index} is not a string")),
        None => Err(format!("class {index} has no label")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagenet_with_and_without_a_background() {
        let (plain, shifted) = (Labels::for_count(1000), Labels::for_count(1001));
        assert_eq!((plain.len(), shifted.len()), (1000, 1001));
        assert_eq!((plain.get(0), plain.get(999)), (Some("tench"), Some("toilet tissue")));
        assert_eq!((shifted.get(0), shifted.get(1)), (Some("background"), Some("tench")));
        assert!((0..1000).all(|i| plain.get(i) == shifted.get(i + 1)));
        assert!(Labels::for_count(21).is_empty());
    }

    #[test]
    fn voc_and_coco_are_complete() {
        let (voc, coco) = (Labels::voc(), Labels::coco());
        assert_eq!((voc.len(), coco.len()), (21, 91));
        for labels in [&voc, &coco] {
            assert_eq!(labels.get(0), Some("__background__"));
            assert!(labels.names.iter().all(|name| !name.is_empty() && name.trim() == name));
        }
        assert_eq!((voc.get(8), voc.get(15), voc.get(20)), (Some("cat"), Some("person"), Some("tvmonitor")));
        assert_eq!(
            (coco.get(1), coco.get(17), coco.get(90)),
            (Some("person"), Some("cat"), Some("toothbrush"))
        );
        let gaps: Vec<usize> = (0..91).filter(|&class| coco.get(class) == Some("N/A")).collect();
        assert_eq!(gaps, [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]);
    }

    #[test]
    fn every_layout_gives_the_same_names() {
        for text in [
            "cat\ndog\nbird\n",
            "\u{feff}cat\r\ndog\r\nbird\r\n\r\n",
            r#" ["cat", "dog", "bird"]"#,
            r#"{"2": "bird", "0": "cat", "1": "dog"}"#,
            r#"{"model_type": "mobilenet_v2", "id2label": {"0": "cat", "1": "dog", "2": "bird"}}"#,
            r#"{"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "bird"]}"#,
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), ["cat", "dog", "bird"], "{text}");
        }
    }

    #[test]
    fn a_broken_file_says_what_is_wrong() {
        for (text, reason) in [
            ("", "no label"),
            ("cat\n\nbird", "class 1 has no label"),
            (r#"{"0": "cat", "2": "bird"}"#, "class 1 has no label"),
            (r#"["cat", 7]"#, "class 1 is not a string"),
            (r#"["cat""#, "line 1"),
        ] {
            assert!(parse(text.as_bytes()).unwrap_err().contains(reason), "{text}");
        }
        assert!(parse(&[0xff, 0xfe]).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_wrong_count_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pets.txt");
        std::fs::write(&path, "cat\ndog\n").unwrap();
        let labels = Labels::open(&path).unwrap();
        assert!(labels.check(2).is_ok());
        let error = labels.check(3).unwrap_err().to_string();
        assert!(error.contains("pets.txt: 2 labels for a network of 3"), "{error}");
        assert!(Labels::open(folder.path()).is_err());
    }
}
