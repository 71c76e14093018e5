//! What a file of 8 bits says beside its tensors: what its maps' integers stand for, and all that its network and its
//! pictures need of other files, so that it stands alone.
//!
//! It is one entry of the metadata that safetensors have room for, [`KEY`], whose value is JSON:
//!
//! ```json
//! {
//!   "version": 1,
//!   "architecture": "torchvision/mobilenet_v2",
//!   "values": {"resize": "232", "crop": "224x224"},
//!   "labels": ["tench", "goldfish"],
//!   "maps": {"input": {"scale": 0.0186, "zero": -14}, "features.0.2": {"scale": 0.0235, "zero": -128}}
//! }
//! ```
//!
//! `architecture` is a name as `--arch` takes it, or null; `values` are those that `--set` takes; `labels` are the
//! classes' names, or null. `maps` has for a module, by the name under which `run --taps` writes its output, the step
//! of the output's integers and the integer that stands for 0. Without maps only the weights are of 8 bits. One entry,
//! since several have no order, and the same network is to give the same bytes.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Said;
use crate::graph::Affine;

/// The entry's name.
pub const KEY: &str = "goldcrest.int8";

const VERSION: u64 = 1;

/// What a file of 8 bits says beside its tensors.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record {
    /// As `--arch` takes it.
    pub architecture: Option<String>,
    /// As `--set` takes them.
    pub values: BTreeMap<String, String>,
    pub labels: Option<Vec<String>>,
    /// What the integers of modules' outputs stand for.
    pub maps: BTreeMap<String, Affine>,
}

/// The same as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u64,
    architecture: Option<String>,
    #[serde(default)]
    values: BTreeMap<String, String>,
    labels: Option<Vec<String>>,
    #[serde(default)]
    maps: BTreeMap<String, Integers>,
}

/// Wider than what they must fit, so that it can be said of which module they do not.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Integers {
    scale: f64,
    zero: i64,
}

impl Record {
    /// The record in a file's metadata, if there is one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(metadata: &HashMap<String, String>) -> Result<Option<Self>, String> {
        let Some(text) = metadata.get(KEY) else { return Ok(None) };
        let wrong = |reason: String| format!("its metadata {KEY} {reason}");
        let value: Value =
            serde_json::from_str(text).map_err(|error| wrong(format!("is no JSON: {error}")))?;
        match value.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => {
                let help = "a later version of this program wrote it";
                return Err(wrong(format!("is of version {other}, and {VERSION} is read: {help}")));
            }
            None => return Err(wrong("has no version".into())),
        }
        let text: Text = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        if let Some(name) =
            text.values.keys().find(|name| !Said::NAMES.iter().any(|(known, _)| known == name))
        {
            return Err(wrong(format!("sets {name:?}, which cannot be set")));
        }
        let mut maps = BTreeMap::new();
        for (module, Integers { scale, zero }) in text.maps {
            let step = scale as f32;
            if !(f32::MIN_POSITIVE..=f32::MAX).contains(&step) {
                return Err(wrong(format!("gives {module:?} the scale {scale}: expected a number above 0")));
            }
            let zero = i8::try_from(zero)
                .map_err(|_| wrong(format!("gives {module:?} the zero {zero}: expected -128 to 127")))?;
            maps.insert(module, Affine { scale: step, zero });
        }
        Ok(Some(Self { architecture: text.architecture, values: text.values, labels: text.labels, maps }))
    }

    /// The metadata of a file with this record.
    pub fn metadata(&self) -> HashMap<String, String> {
        let integers = |affine: &Affine| Integers { scale: affine.scale.into(), zero: affine.zero.into() };
        let text = Text {
            version: VERSION,
            architecture: self.architecture.clone(),
            values: self.values.clone(),
            labels: self.labels.clone(),
            maps: self.maps.iter().map(|(module, affine)| (module.clone(), integers(affine))).collect(),
        };
        // Texts and finite numbers are always JSON.
        HashMap::from([(KEY.to_owned(), serde_json::to_string(&text).unwrap_or_default())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Record>, String> {
        Record::of(&HashMap::from([(KEY.to_owned(), text.to_owned())]))
    }

    #[test]
    fn what_is_written_is_read() {
        let maps =
            [("input", 0.018_658_448, -14), ("a.\"b\"", f32::MIN_POSITIVE, 127), ("c", f32::MAX, -128)];
        let record = Record {
            architecture: Some("timm/mobilenetv3_small_100".into()),
            values: BTreeMap::from([("mean".into(), "0.5".into())]),
            labels: Some(vec!["cat".into(), "\u{1b}[31m".into()]),
            maps: maps.into_iter().map(|(name, scale, zero)| (name.into(), Affine { scale, zero })).collect(),
        };
        assert_eq!(Record::of(&record.metadata()), Ok(Some(record)));
        assert_eq!(Record::of(&HashMap::new()), Ok(None));
        assert_eq!(Record::of(&Record::default().metadata()), Ok(Some(Record::default())));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("{", "is no JSON"),
            ("[]", "has no version"),
            (r#"{"version": "1"}"#, "has no version"),
            (r#"{"version": 2}"#, "of version 2"),
            (r#"{"version": 1, "weights": 3}"#, "unknown field `weights`"),
            (r#"{"version": 1, "values": {"nothing": "1"}}"#, r#"sets "nothing""#),
            (r#"{"version": 1, "values": {"mean": 1}}"#, "expected a string"),
            (r#"{"version": 1, "labels": "cat"}"#, "expected a sequence"),
            (r#"{"version": 1, "maps": {"a": {"scale": 0, "zero": 0}}}"#, r#""a" the scale 0"#),
            (r#"{"version": 1, "maps": {"a": {"scale": -1, "zero": 0}}}"#, "the scale -1"),
            (r#"{"version": 1, "maps": {"a": {"scale": 1e39, "zero": 0}}}"#, "expected a number above 0"),
            (r#"{"version": 1, "maps": {"a": {"scale": 1e-60, "zero": 0}}}"#, "expected a number above 0"),
            (r#"{"version": 1, "maps": {"a": {"scale": 1, "zero": 128}}}"#, r#""a" the zero 128"#),
            (r#"{"version": 1, "maps": {"a": {"scale": 1, "zero": 0.5}}}"#, "invalid type"),
            (r#"{"version": 1, "maps": {"a": {"scale": 1}}}"#, "missing field `zero`"),
        ] {
            let reason = read(text).expect_err(text);
            assert!(reason.contains(word), "{text}: {reason}");
        }
    }
}
