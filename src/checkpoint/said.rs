//! What a user says of a network, beside what its files show.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Config, Record, Source, Sourced};
use crate::{Error, Result};

/// What a user says of a network: its name, and values that no key shows. See [`Said::NAMES`].
///
/// ```
/// use goldcrest::checkpoint::Said;
/// // A MobileNetV2 that was made for pictures of 32x32.
/// let said = Said::default()
///     .arch("torchvision/mobilenet_v2")
///     .set("stem_stride", "1")?
///     .set("stage_strides", "1,1,2,2,1,2,1")?;
/// # Ok::<(), goldcrest::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub(crate) arch: Option<String>,
    values: BTreeMap<&'static str, String>,
    /// What the file says of itself, where nothing else was said, and which file.
    recorded: BTreeMap<String, String>,
    file: PathBuf,
}

impl Said {
    /// The values that can be said, with what each takes. The same names do in `config.json`.
    pub const NAMES: [(&'static str, &'static str); 25] = [
        ("root", "where in the file the network's tensors are, such as state_dict_ema."),
        ("ignore", "beginnings of tensors that are no part of the network, with commas between"),
        (
            "subnet",
            "which network of a supernet, in the words that goldcrest search prints: r160,w1,k3e4+k5e6,...",
        ),
        ("stem_stride", "pixels between two outputs of the first convolution"),
        ("stem_pool", "true or false: a ResNet's max pooling behind its stem"),
        ("stage_strides", "the stride of each stage of blocks, such as 1,2,2,2,1,2,1"),
        ("output_stride", "the picture over the last map; strides beyond become dilations"),
        ("padding", "symmetric, as PyTorch pads, or same, as TensorFlow does"),
        ("epsilon", "batch norm's"),
        (
            "activation",
            "identity, relu, relu6, hard_swish, hard_sigmoid, sigmoid or swish, in place of every other",
        ),
        ("squeeze_activation", "squeeze-excite's first"),
        ("gate", "squeeze-excite's second"),
        ("antialias", "none, average or blur: what shrinks maps in timm's V4 networks"),
        ("head_activation", "between the dense layers of a classifier that was replaced"),
        ("scores", "softmax, sigmoid or none: what the network's outputs mean"),
        ("size", "rows and columns of the input, such as 224 or 192x160"),
        (
            "resize",
            "the shorter side that pictures are scaled to, such as 256, or rows and columns, such as 224x224",
        ),
        ("crop", "rows and columns that are cut from the middle, or none"),
        ("interpolation", "nearest, bilinear, bicubic or lanczos"),
        ("resize_antialias", "true or false: whether the filter widens where pictures shrink"),
        ("align_corners", "true or false: corners lie on corners when pictures are scaled"),
        ("half_pixel_centers", "true or false: false scales from the first pixel on, as TensorFlow 1 does"),
        ("channels", "rgb, bgr or grey"),
        ("mean", "subtracted from each channel, which is 0 to 1, such as 0.485,0.456,0.406"),
        ("std", "what that is divided by"),
    ];

    /// The network's name: `library/name`, or `library/name.tag`.
    #[must_use]
    pub fn arch(mut self, name: impl Into<String>) -> Self {
        self.arch = Some(name.into());
        self
    }

    /// One of [`Said::NAMES`].
    ///
    /// # Errors
    /// [`Error::Input`] if there is no such value. What it is set to is checked when a network is opened.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Result<Self> {
        let Some((known, _)) = Self::NAMES.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            let name = name.escape_debug();
            return Err(Error::Input(format!("{name} cannot be set; known are {}", names.join(", "))));
        };
        self.values.insert(known, value.into());
        Ok(self)
    }

    /// The same without some of the values.
    pub(crate) fn except(&self, names: &[&str]) -> Self {
        let mut said = self.clone();
        said.values.retain(|name, _| !names.contains(name));
        said
    }

    /// The same, and beneath it what a file says of itself.
    pub(crate) fn over(&self, record: &Record, file: &Path) -> Self {
        Self { recorded: record.values.clone(), file: file.to_owned(), ..self.clone() }
    }

    /// What was said of `name`, or what the file of weights or `config.json` says under the same name.
    pub(crate) fn text(&self, config: Option<&Config>, name: &'static str) -> Option<Sourced<String>> {
        debug_assert!(Self::NAMES.iter().any(|(known, _)| *known == name), "{name}");
        if let Some(value) = self.values.get(name) {
            return Some(Sourced::new(value.clone(), Source::Set));
        }
        if let Some(value) = self.recorded.get(name) {
            return Some(Sourced::new(value.clone(), Source::File("own record")));
        }
        let value = match config?.get(name)? {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(items) => {
                let items: Vec<String> = items.iter().map(plain).collect();
                items.join(",")
            }
            other => other.to_string(),
        };
        Some(Sourced::new(value, Source::Config(format!("config.json: {name}"))))
    }

    /// The same, understood by `parse`.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::File`], of whoever said it, if it is not understood.
    pub(crate) fn get<T>(
        &self,
        config: Option<&Config>,
        name: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<Sourced<T>>> {
        let Some(Sourced { value, from }) = self.text(config, name) else { return Ok(None) };
        match (parse(value.trim()), config) {
            (Some(parsed), _) => Ok(Some(Sourced::new(parsed, from))),
            (None, _) if matches!(from, Source::File(_)) => {
                let takes = Self::takes(name);
                Err(Error::file(&self.file, format!("says {name} = {value}: expected {takes}")))
            }
            (None, Some(config)) if from != Source::Set => {
                Err(config.error(name, format!("expected {}, found {value}", Self::takes(name))))
            }
            (None, _) => {
                let (value, takes) = (value.escape_debug(), Self::takes(name));
                Err(Error::Input(format!("{name} = {value}: expected {takes}")))
            }
        }
    }

    fn takes(name: &str) -> &'static str {
        Self::NAMES.iter().find(|(known, _)| *known == name).map_or("", |(_, takes)| takes)
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
