//! Network-wide settings that cannot be inferred from the tensors, each with its source.

use super::table::{Antialias, Table};
use crate::{
    Result,
    checkpoint::{Config, Origins, Overrides, Source, Sourced},
    graph::{Activation, Padding},
};

/// The network-wide settings.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub padding: Sourced<Padding>,
    /// Batch norm's epsilon.
    pub epsilon: Sourced<f64>,
    /// Replaces the stem's activation in the stem and wherever else the table uses it.
    pub activation: Option<Sourced<Activation>>,
    /// Replaces the table's activation inside squeeze-excite.
    pub squeeze: Option<Sourced<Activation>>,
    /// The activation of squeeze-excite's gate.
    pub gate: Sourced<Activation>,
    pub dilated: Sourced<Option<Dilated>>,
    pub stem_stride: Sourced<usize>,
    pub stem_pool: Sourced<bool>,
    /// The stride of each stage's first block.
    pub stage_strides: Sourced<Vec<usize>>,
    pub antialias: Sourced<Antialias>,
    /// The activation between the dense layers of a custom classifier.
    pub head_activation: Sourced<Activation>,
}

/// Dilations in place of strides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dilated {
    /// The output stride beyond which dilations replace strides.
    pub stride: usize,
    /// True if the block whose stride is replaced is dilated too, as in torchvision's segmenters. Otherwise
    /// only the blocks after it are.
    pub dilates_first_block: bool,
}

impl Rules {
    /// The library's defaults, with PyTorch's padding.
    pub fn new(library: &'static str, table: &Table, epsilon: f64) -> Self {
        let from = || Source::Default(library);
        Self {
            padding: Sourced::new(Padding::Symmetric, from()),
            epsilon: Sourced::new(epsilon, from()),
            activation: None,
            squeeze: None,
            gate: Sourced::new(Activation::HardSigmoid, from()),
            dilated: Sourced::new(
                table.dilated.map(|stride| Dilated { stride, dilates_first_block: true }),
                from(),
            ),
            stem_stride: Sourced::new(2, from()),
            stem_pool: Sourced::new(table.stem_pool, from()),
            stage_strides: Sourced::new(table.stages.iter().map(|stage| stage.stride).collect(), from()),
            antialias: Sourced::new(table.antialias, from()),
            head_activation: Sourced::new(Activation::Relu, from()),
        }
    }

    /// Sets the epsilon from a field of `config.json`, if present.
    ///
    /// # Errors
    /// [`crate::Error::File`] if it is not a number in `[0, 1)`.
    pub fn epsilon_of(&mut self, config: &Config, field: &str) -> Result<()> {
        if let Some(epsilon) = config.number(field)? {
            if !(0.0..1.0).contains(&epsilon) {
                return Err(config.error(field, format!("expected a number in [0, 1), found {epsilon}")));
            }
            self.epsilon = Sourced::new(epsilon, config.source(field));
        }
        Ok(())
    }

    /// Applies the overrides.
    ///
    /// # Errors
    /// As [`Overrides::get`].
    pub fn overridden(mut self, overrides: &Overrides, config: Option<&Config>) -> Result<Self> {
        let stride = |text: &str| text.parse().ok().filter(|stride| (1..=64).contains(stride));
        let activation = Activation::parse;
        let flag = |text: &str| text.parse::<bool>().ok();
        let stages = self.stage_strides.value.len();
        self.padding = self.padding.or(overrides.get(config, "padding", |text| match text {
            "symmetric" => Some(Padding::Symmetric),
            "same" => Some(Padding::Same),
            _ => None,
        })?);
        let small = |text: &str| text.parse().ok().filter(|epsilon| (0.0..1.0).contains(epsilon));
        self.epsilon = self.epsilon.or(overrides.get(config, "epsilon", small)?);
        self.activation = overrides.get(config, "activation", activation)?.or(self.activation);
        self.squeeze = overrides.get(config, "squeeze_activation", activation)?.or(self.squeeze);
        self.gate = self.gate.or(overrides.get(config, "gate", activation)?);
        let power =
            |text: &str| text.parse().ok().filter(|stride: &usize| stride.is_power_of_two() && *stride > 1);
        // If the library has read it from the configuration already, only `--set` overrides it.
        let read = matches!(self.dilated.from, Source::Config(_));
        let output =
            overrides.get(config, "output_stride", power)?.filter(|known| !read || known.from == Source::Set);
        if let Some(Sourced { value: stride, from }) = output {
            let dilates_first_block = self.dilated.value.is_some_and(|dilated| dilated.dilates_first_block);
            self.dilated = Sourced::new(Some(Dilated { stride, dilates_first_block }), from);
        }
        self.stem_stride = self.stem_stride.or(overrides.get(config, "stem_stride", stride)?);
        self.stem_pool = self.stem_pool.or(overrides.get(config, "stem_pool", flag)?);
        let strides = |text: &str| {
            let strides: Option<Vec<usize>> = text.split(',').map(|part| stride(part.trim())).collect();
            strides.filter(|strides| strides.len() == stages)
        };
        self.stage_strides = self.stage_strides.or(overrides.get(config, "stage_strides", strides)?);
        self.antialias = self.antialias.or(overrides.get(config, "antialias", |text| match text {
            "none" => Some(Antialias::None),
            "average" => Some(Antialias::Average),
            "blur" => Some(Antialias::Blur),
            _ => None,
        })?);
        self.head_activation =
            self.head_activation.or(overrides.get(config, "head_activation", activation)?);
        Ok(self)
    }

    /// True if all strides are the library's defaults.
    pub fn strides_assumed(&self) -> bool {
        let assumed = |from: &Source| matches!(from, Source::Default(_));
        assumed(&self.stem_stride.from) && assumed(&self.stage_strides.from) && assumed(&self.dilated.from)
    }

    /// Adds all settings to the table of origins.
    pub fn record_origins(&self, library: &'static str, table: &Table, origins: &mut Origins) {
        let list = |strides: &Vec<usize>| strides.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let or_default = |known: &Option<Sourced<Activation>>, table: Activation| {
            known.clone().unwrap_or(Sourced::new(table, Source::Default(library)))
        };
        origins.settle("padding", self.padding.clone(), |padding| match padding {
            Padding::Symmetric => "symmetric".into(),
            Padding::Same => "same".into(),
        });
        origins.settle("epsilon", self.epsilon.clone(), f64::to_string);
        origins.settle("activation", or_default(&self.activation, table.stem), Activation::to_string);
        if table.stages.iter().any(|stage| stage.squeeze) {
            if self.squeeze.is_some() || table.squeeze.is_some() {
                let squeeze = or_default(&self.squeeze, table.squeeze.unwrap_or_default());
                origins.settle("squeeze_activation", squeeze, Activation::to_string);
            }
            origins.settle("gate", self.gate.clone(), Activation::to_string);
        }
        origins.settle("stem_stride", self.stem_stride.clone(), usize::to_string);
        if table.stem_pool {
            origins.settle("stem_pool", self.stem_pool.clone(), bool::to_string);
        }
        origins.settle("stage_strides", self.stage_strides.clone(), list);
        let pool = if self.stem_pool.value { 2 } else { 1 };
        let full = self.stem_stride.value * pool * self.stage_strides.value.iter().product::<usize>();
        origins.settle("output_stride", self.dilated.clone(), |dilated| {
            dilated.map_or(full, |dilated| dilated.stride.min(full)).to_string()
        });
        if table.antialias != Antialias::None || self.antialias.value != Antialias::None {
            origins.settle("antialias", self.antialias.clone(), |antialias| match antialias {
                Antialias::None => "none".into(),
                Antialias::Average => "average".into(),
                Antialias::Blur => "blur".into(),
            });
        }
    }
}
