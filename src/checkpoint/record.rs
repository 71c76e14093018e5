//! The record of an int8 file: the quantisation of its feature maps, and the settings of its network and of
//! its preprocessing, so that the file is self-contained.
//!
//! The record is one entry, [`KEY`], of the safetensors metadata, whose value is JSON:
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
//! `architecture` is a name for `--arch`, or null; `values` are settings for `--set`; `labels` are the names
//! of the classes, or null. `maps` has the scale and the zero point of a module's output, under the name that
//! `run --taps` gives it. Without maps only the weights are int8. The record is a single entry because the
//! order of several entries is not fixed, and the same network must give the same bytes.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Overrides;
use crate::graph::Affine;

/// The name of the entry.
pub const KEY: &str = "goldcrest.int8";

const VERSION: u64 = 1;

/// The record of an int8 file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record {
    /// A name for `--arch`.
    pub architecture: Option<String>,
    /// Settings for `--set`.
    pub values: BTreeMap<String, String>,
    pub labels: Option<Vec<String>>,
    /// The quantisation of modules' outputs.
    pub maps: BTreeMap<String, Affine>,
}

/// The JSON form of a [`Record`].
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

/// The JSON form of an [`Affine`]. Its types are wider, so that an error for an out-of-range value can name
/// the module.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Integers {
    scale: f64,
    zero: i64,
}

impl Record {
    /// Parses the record in a file's metadata, if there is one.
    ///
    /// # Errors
    /// A message if it is invalid.
    pub fn of(metadata: &HashMap<String, String>) -> Result<Option<Self>, String> {
        let Some(text) = metadata.get(KEY) else { return Ok(None) };
        let wrong = |reason: String| format!("its metadata {KEY} {reason}");
        let value: Value =
            serde_json::from_str(text).map_err(|error| wrong(format!("is not JSON: {error}")))?;
        match value.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => {
                let help = "a later version of this program wrote it";
                return Err(wrong(format!("has version {other}, but only {VERSION} is supported: {help}")));
            }
            None => return Err(wrong("has no version".into())),
        }
        let text: Text = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        if let Some(name) =
            text.values.keys().find(|name| !Overrides::SETTINGS.iter().any(|(known, _)| known == name))
        {
            return Err(wrong(format!("sets {name:?}, which is not a setting")));
        }
        let mut maps = BTreeMap::new();
        for (module, Integers { scale, zero }) in text.maps {
            let scale_f32 = scale as f32;
            if !(f32::MIN_POSITIVE..=f32::MAX).contains(&scale_f32) {
                return Err(wrong(format!("gives {module:?} the scale {scale}: expected a number above 0")));
            }
            let zero = i8::try_from(zero).map_err(|_| {
                wrong(format!("gives {module:?} the zero point {zero}: expected -128 to 127"))
            })?;
            maps.insert(module, Affine { scale: scale_f32, zero });
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
        // Never fails: strings and finite numbers are valid JSON.
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
    fn written_records_are_read_back() {
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
    fn errors_name_the_cause() {
        for (text, word) in [
            ("{", "is not JSON"),
            ("[]", "has no version"),
            (r#"{"version": "1"}"#, "has no version"),
            (r#"{"version": 2}"#, "has version 2"),
            (r#"{"version": 1, "weights": 3}"#, "unknown field `weights`"),
            (r#"{"version": 1, "values": {"nothing": "1"}}"#, r#"sets "nothing""#),
            (r#"{"version": 1, "values": {"mean": 1}}"#, "expected a string"),
            (r#"{"version": 1, "labels": "cat"}"#, "expected a sequence"),
            (r#"{"version": 1, "maps": {"a": {"scale": 0, "zero": 0}}}"#, r#""a" the scale 0"#),
            (r#"{"version": 1, "maps": {"a": {"scale": -1, "zero": 0}}}"#, "the scale -1"),
            (r#"{"version": 1, "maps": {"a": {"scale": 1e39, "zero": 0}}}"#, "expected a number above 0"),
            (r#"{"version": 1, "maps": {"a": {"scale": 1e-60, "zero": 0}}}"#, "expected a number above 0"),
            (r#"{"version": 1, "maps": {"a": {"scale": 1, "zero": 128}}}"#, r#""a" the zero point 128"#),
            (r#"{"version": 1, "maps": {"a": {"scale": 1, "zero": 0.5}}}"#, "invalid type"),
            (r#"{"version": 1, "maps": {"a": {"scale": 1}}}"#, "missing field `zero`"),
        ] {
            let reason = read(text).expect_err(text);
            assert!(reason.contains(word), "{text}: {reason}");
        }
    }
}
