//! The user's overrides for a network.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Config, Record, Source, Sourced};
use crate::{Error, Result};

/// The user's overrides for a network: its name, and settings that its tensors do not determine. See
/// [`Overrides::SETTINGS`].
///
/// ```
/// use goldcrest::checkpoint::Overrides;
/// // A MobileNetV2 for pictures of 32x32.
/// let overrides = Overrides::default()
///     .arch("torchvision/mobilenet_v2")
///     .set("stem_stride", "1")?
///     .set("stage_strides", "1,1,2,2,1,2,1")?;
/// # Ok::<(), goldcrest::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub(crate) arch: Option<String>,
    values: BTreeMap<&'static str, String>,
    /// The settings in the record of `file`, for those that the user does not override.
    recorded: BTreeMap<String, String>,
    file: PathBuf,
}

impl Overrides {
    /// The settings and the values that they take. `config.json` may set them under the same names.
    pub const SETTINGS: [(&'static str, &'static str); 25] = [
        ("root", "the prefix of the network's tensors in the file, such as state_dict_ema."),
        ("ignore", "comma-separated name prefixes of tensors that are not part of the network"),
        ("subnet", "the subnet of a supernet, as goldcrest search prints it: r160,w1,k3e4+k5e6,..."),
        ("stem_stride", "the stride of the first convolution"),
        ("stem_pool", "true or false: whether a ResNet has max pooling after its stem"),
        ("stage_strides", "the stride of each stage of blocks, such as 1,2,2,2,1,2,1"),
        ("output_stride", "the input's size divided by the last map's; further strides become dilations"),
        ("padding", "symmetric, as PyTorch pads, or same, as TensorFlow does"),
        ("epsilon", "batch norm's epsilon"),
        (
            "activation",
            "identity, relu, relu6, hard_swish, hard_sigmoid, sigmoid or swish: replaces the stem's \
             activation, in the stem and in every layer that by default has the same activation as the stem",
        ),
        ("squeeze_activation", "the activation after squeeze-excite's first layer"),
        ("gate", "the activation after squeeze-excite's second layer"),
        ("antialias", "none, average or blur: how timm's V4 networks downsample feature maps"),
        ("head_activation", "the activation between the dense layers of a replaced classifier"),
        ("scores", "softmax, sigmoid or none: what the network's outputs mean"),
        ("size", "rows and columns of the input, such as 224 or 192x160"),
        (
            "resize",
            "the shorter side that pictures are scaled to, such as 256, or rows and columns, such as 224x224",
        ),
        ("crop", "rows and columns of the centre crop, or none"),
        ("interpolation", "nearest, bilinear, bicubic or lanczos"),
        ("resize_antialias", "true or false: whether the filter antialiases when pictures are scaled down"),
        ("align_corners", "true or false: whether scaling keeps the corner pixels in place"),
        (
            "half_pixel_centers",
            "true or false: false keeps the top left pixel in place, as TensorFlow 1 does",
        ),
        ("channels", "rgb, bgr or grey"),
        ("mean", "subtracted from each channel, in 0 to 1, such as 0.485,0.456,0.406"),
        ("std", "the divisor of each channel, after the mean is subtracted"),
    ];

    /// The network's name: `library/name`, or `library/name.tag`.
    #[must_use]
    pub fn arch(mut self, name: impl Into<String>) -> Self {
        self.arch = Some(name.into());
        self
    }

    /// Sets one of [`Overrides::SETTINGS`].
    ///
    /// # Errors
    /// [`Error::Input`] if there is no such setting. Its value is checked when a network is opened.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Result<Self> {
        let Some((known, _)) = Self::SETTINGS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = Self::SETTINGS.iter().map(|(name, _)| *name).collect();
            let name = name.escape_debug();
            return Err(Error::Input(format!("{name} cannot be set; the settings are {}", names.join(", "))));
        };
        self.values.insert(known, value.into());
        Ok(self)
    }

    /// A copy without some of the settings.
    pub(crate) fn except(&self, names: &[&str]) -> Self {
        let mut copy = self.clone();
        copy.values.retain(|name, _| !names.contains(name));
        copy
    }

    /// A copy that falls back to the settings in the record of `file`.
    pub(crate) fn over(&self, record: &Record, file: &Path) -> Self {
        Self { recorded: record.values.clone(), file: file.to_owned(), ..self.clone() }
    }

    /// The user's value of `name`, or else the one in the file's record or in `config.json`.
    pub(crate) fn text(&self, config: Option<&Config>, name: &'static str) -> Option<Sourced<String>> {
        debug_assert!(Self::SETTINGS.iter().any(|(known, _)| *known == name), "{name}");
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

    /// As [`Overrides::text`], converted by `parse`.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::File`], depending on its source, if `parse` fails.
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
                Err(Error::file(&self.file, format!("sets {name} = {value}: expected {takes}")))
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
        Self::SETTINGS.iter().find(|(known, _)| *known == name).map_or("", |(_, takes)| takes)
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
