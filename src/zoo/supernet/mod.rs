//! Supernets of once-for-all (arXiv 1908.09791), whose subnets share weights. A block with expansion 4 uses
//! the first channels of the block with expansion 6. A 5x5 kernel is the centre of the 7x7 kernel, multiplied
//! by a small matrix. A stage of 2 blocks uses the first 2 of 4 blocks. Examples are
//! `ofa_mbv3_d234_e346_k357_w1.0`, `_w1.2` and `assets/supernet`.
//!
//! Goldcrest adds two dimensions, without further weights: a width, which keeps the first channels of each
//! stage, and the use of squeeze-excite in stages that have it. The field `supernet` of a `config.json` next
//! to the weights gives the values that the supernet was trained for; see [`Space`].

mod slice;
mod space;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use slice::Slice;
use space::check_member;
pub use space::{BlockChoice, Space, StageChoice, Subnet};

use super::{ofa, table::divisible};
use crate::{
    Error, Result, Tensor,
    checkpoint::{Checkpoint, Config, Overrides, Tensors, not_part_of},
};

/// The number of stages with choices.
const STAGES: usize = 5;

/// The prefixes of a supernet's tensor names.
const PARTS: [&str; 5] =
    ["first_conv.", "blocks.", "final_expand_layer.", "feature_mix_layer.", "classifier."];

/// A supernet: shared weights, and the space of subnets.
///
/// ```
/// # fn main() -> goldcrest::Result<()> {
/// use goldcrest::zoo::Supernet;
/// let supernet = Supernet::open("assets/supernet")?;
/// let network = supernet.slice(&supernet.smallest())?.network()?;
/// assert_eq!(network.input, [96, 96]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Supernet {
    path: PathBuf,
    config: Option<Config>,
    tensors: BTreeMap<String, Tensor>,
    space: Space,
    /// Kernel sizes that the weights were trained for, the largest first.
    trained_kernels: Vec<usize>,
    /// Maximum output channels of the first block and of each stage.
    channels: [usize; 1 + STAGES],
    /// The stages whose blocks can have squeeze-excite.
    squeezes: [bool; STAGES],
    /// Maximum number of blocks in a stage.
    max_depth: usize,
}

impl Supernet {
    /// Opens a weights file or a folder; see [`Checkpoint::open`].
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`], and of [`Supernet::from_checkpoint`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::open(path)?, &Overrides::default())
    }

    /// Reads the supernet in a checkpoint. Only the overrides `root` and `ignore` apply.
    ///
    /// # Errors
    /// [`Error::UnknownNetwork`] if it is not a supernet, [`Error::Checkpoint`] for a tensor that is missing
    /// or invalid, [`Error::File`] if the configuration's space does not fit the weights.
    pub fn from_checkpoint(checkpoint: &Checkpoint, overrides: &Overrides) -> Result<Self> {
        let tensors = Tensors::new(checkpoint, &[ofa::ANCHOR], overrides)?;
        if !is_supernet(&tensors) {
            return Err(Error::UnknownNetwork(format!(
                "{}: not a supernet: once-for-all's supernets have the tensor {}",
                checkpoint.path().display(),
                marker_tensor("conv")
            )));
        }
        let blocks = tensors.count("blocks.");
        let max_depth = blocks.saturating_sub(1) / STAGES;
        if max_depth == 0 || blocks != 1 + STAGES * max_depth {
            let reason = format!("has {blocks} blocks, expected 1 and {STAGES} stages of equal depth");
            return Err(Error::file(checkpoint.path(), reason));
        }
        let inner = ofa::inner(&tensors);
        let mut read = BTreeMap::new();
        for key in tensors.keys() {
            if !PARTS.iter().any(|part| key.starts_with(part)) {
                return Err(tensors.error(key, not_part_of("a supernet", 0, key)));
            }
            let any = vec![None; tensors.shape(key).map_or(0, <[usize]>::len)];
            read.insert(key.replacen(&format!(".{inner}."), ".conv.", 1), tensors.tensor(key, &any)?);
        }
        let mut supernet = Self {
            path: checkpoint.path().into(),
            config: checkpoint.config.clone(),
            tensors: read,
            space: Space::default(),
            trained_kernels: Vec::new(),
            channels: [0; 1 + STAGES],
            squeezes: [false; STAGES],
            max_depth,
        };
        supernet.channels[0] = supernet.rows("blocks.0.conv.point_linear.conv.weight")?;
        for stage in 0..STAGES {
            let block = format!("blocks.{}.conv", 1 + stage * max_depth);
            supernet.channels[1 + stage] =
                supernet.rows(&format!("{block}.point_linear.conv.conv.weight"))?;
            supernet.squeezes[stage] =
                supernet.tensors.contains_key(&format!("{block}.depth_conv.se.fc.reduce.weight"));
        }
        supernet.space = supernet.space_of(checkpoint.stem().unwrap_or_default())?;
        supernet.trained_kernels = supernet.space.kernels.iter().rev().copied().collect();
        // Reports missing tensors and wrong shapes now.
        supernet.slice(&supernet.smallest())?;
        supernet.slice(&supernet.largest())?;
        Ok(supernet)
    }

    /// Restricts the space of subnets to `space`.
    ///
    /// # Errors
    /// [`Error::Input`] if `space` has a value that this space lacks.
    pub fn restrict(self, space: Space) -> Result<Self> {
        let path = self.path.clone();
        let no = |reason: String| Error::Input(format!("{}: {reason}", path.display()));
        let space = space.checked(self.max_depth).map_err(no)?;
        self.space.check_contains(&space).map_err(no)?;
        let narrowed = Self { space, ..self };
        // Lists are sorted: if the smallest and the largest subnet can be sliced, so can all others.
        narrowed.slice(&narrowed.smallest())?;
        narrowed.slice(&narrowed.largest())?;
        Ok(narrowed)
    }

    /// The space of subnets.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Returns whether blocks of a stage can have squeeze-excite.
    pub fn squeezes(&self, stage: usize) -> bool {
        self.squeezes[stage] && self.space.squeeze.contains(&true)
    }

    /// Returns whether blocks of a stage can omit squeeze-excite.
    pub fn plain(&self, stage: usize) -> bool {
        !self.squeezes[stage] || self.space.squeeze.contains(&false)
    }

    /// The number of stages with choices.
    pub fn stages(&self) -> usize {
        STAGES
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weights by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (&name[..], tensor))
    }

    /// Output channels of a stage at a width.
    fn outputs(&self, stage: usize, width: f64) -> usize {
        divisible(self.channels[1 + stage] as f64 * width, 8).min(self.channels[1 + stage])
    }

    /// The largest subnet: the last value of each list.
    pub fn largest(&self) -> Subnet {
        self.uniform(|count| count - 1)
    }

    /// The smallest subnet: the first value of each list.
    pub fn smallest(&self) -> Subnet {
        self.uniform(|_| 0)
    }

    /// The subnet with the same choices in all stages and blocks. `at` maps the length of a list to the
    /// chosen index.
    fn uniform(&self, at: impl Fn(usize) -> usize) -> Subnet {
        fn of<T: Copy>(list: &[T], at: impl Fn(usize) -> usize) -> T {
            list[at(list.len())]
        }
        let space = &self.space;
        let block = BlockChoice { kernel: of(&space.kernels, &at), expansion: of(&space.expansions, &at) };
        let blocks = vec![block; of(&space.depths, &at)];
        let squeeze = of(&space.squeeze, &at);
        let choice = |stage| StageChoice {
            squeeze: (squeeze && self.squeezes(stage)) || !self.plain(stage),
            blocks: blocks.clone(),
        };
        Subnet {
            size: of(&space.sizes, &at),
            width: of(&space.widths, &at),
            stages: (0..STAGES).map(choice).collect(),
        }
    }

    /// Checks that a subnet is in the space.
    ///
    /// # Errors
    /// A message with the first value that is not in the space, and the possible ones.
    pub fn contains(&self, subnet: &Subnet) -> Result<(), String> {
        let space = &self.space;
        check_member("size", &space.sizes, &subnet.size)?;
        check_member("width", &space.widths, &subnet.width)?;
        if subnet.stages.len() != STAGES {
            return Err(format!("{} stages, not {STAGES}", subnet.stages.len()));
        }
        for (i, stage) in subnet.stages.iter().enumerate() {
            check_member("depth", &space.depths, &stage.blocks.len())?;
            if stage.squeeze && !self.squeezes(i) {
                return Err(format!("stage {} has no squeeze-excite", i + 1));
            }
            if !stage.squeeze && !self.plain(i) {
                return Err(format!("stage {} has squeeze-excite: append +se to its blocks", i + 1));
            }
            for block in &stage.blocks {
                check_member("kernel", &space.kernels, &block.kernel)?;
                check_member("expansion", &space.expansions, &block.expansion)?;
            }
        }
        Ok(())
    }

    /// Extracts the weights and the configuration of a subnet.
    ///
    /// # Errors
    /// [`Error::Input`] if the subnet is not in the space, [`Error::Checkpoint`] for a tensor that is missing
    /// or too small.
    pub fn slice(&self, subnet: &Subnet) -> Result<Slice> {
        let no = |reason| Error::Input(format!("{}: no subnet {subnet}: {reason}", self.path.display()));
        self.contains(subnet).map_err(no)?;
        slice::slice(self, subnet)
    }

    fn tensor(&self, key: &str) -> Result<&Tensor> {
        self.tensors.get(key).ok_or_else(|| self.error(key, "is missing".into()))
    }

    /// A tensor's first dimension.
    fn rows(&self, key: &str) -> Result<usize> {
        let first = self.tensor(key)?.dims().first().copied();
        first.ok_or_else(|| self.error(key, "is a scalar".into()))
    }

    /// The fields of its `config.json`.
    pub fn config_fields(&self) -> impl Iterator<Item = (&str, &serde_json::Value)> {
        self.config.iter().flat_map(|config| config.fields())
    }

    fn error(&self, key: &str, reason: String) -> Error {
        Error::Checkpoint { path: self.path.clone(), key: key.into(), reason }
    }

    fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// The space from the configuration or else from the file's name, checked against the weights.
    fn space_of(&self, stem: &str) -> Result<Space> {
        let field = self.config().and_then(|config| Some((config, config.get("supernet")?)));
        let space = match field {
            Some((config, value)) => {
                let space = serde_json::from_value::<Space>(value.clone()).map_err(|e| e.to_string());
                let space = space.and_then(|space| space.checked(self.max_depth));
                space.map_err(|reason| config.error("supernet", reason))?
            }
            None => {
                let space = space_from_name(stem, self.max_depth).checked(self.max_depth);
                space.map_err(|reason| Error::file(&self.path, reason))?
            }
        };
        let key = marker_tensor("conv");
        let side = self.tensor(&key)?.dims().last().copied();
        if side != space.kernels.last().copied() {
            let [side, largest] = [side, space.kernels.last().copied()].map(Option::unwrap_or_default);
            return Err(self.error(&key, format!("has {side}x{side} kernels, not {largest}x{largest}")));
        }
        Ok(space)
    }
}

/// The tensor that distinguishes a supernet from a subnet.
fn marker_tensor(inner: &str) -> String {
    format!("blocks.1.{inner}.depth_conv.conv.conv.weight")
}

/// True if the tensors are a supernet's.
fn is_supernet(tensors: &Tensors) -> bool {
    tensors.contains(&marker_tensor(ofa::inner(tensors)))
}

/// The requested subnet of a checkpoint with a supernet (by default the largest), and a note about the
/// choice. None if the checkpoint has no supernet.
///
/// # Errors
/// Those of [`Supernet::from_checkpoint`] and [`Supernet::slice`].
pub(super) fn subnet_in(
    checkpoint: &Checkpoint,
    overrides: &Overrides,
) -> Result<Option<(Checkpoint, String)>> {
    let has_anchor = checkpoint.keys().any(|key| key.ends_with(ofa::ANCHOR.first));
    if !has_anchor
        || !Tensors::new(checkpoint, &[ofa::ANCHOR], overrides).is_ok_and(|tensors| is_supernet(&tensors))
    {
        return Ok(None);
    }
    let supernet = Supernet::from_checkpoint(checkpoint, overrides)?;
    let chosen = overrides.get(checkpoint.config.as_ref(), "subnet", |text| text.parse::<Subnet>().ok())?;
    let (subnet, which) = match chosen {
        Some(chosen) => (chosen.value, "the requested"),
        None => (supernet.largest(), "the largest"),
    };
    let note = format!("a supernet: opened as {which} subnet, {subnet}; --set subnet=... selects another");
    Ok(Some((supernet.slice(&subnet)?.checkpoint(checkpoint.path())?, note)))
}

/// The space in a published file's name, such as `ofa_mbv3_d234_e346_k357_w1.0`, with one digit per value.
fn space_from_name(stem: &str, max_depth: usize) -> Space {
    let digits = |letter: char| {
        let part = stem.split('_').find_map(|part| part.strip_prefix(letter))?;
        let values = part.chars().map(|digit| digit.to_digit(10).map(|n| n as usize));
        values.collect::<Option<Vec<_>>>().filter(|values| !values.is_empty())
    };
    let space = Space::default();
    Space {
        depths: digits('d').unwrap_or_else(|| (max_depth.min(2)..=max_depth).collect()),
        expansions: digits('e').unwrap_or(space.expansions),
        kernels: digits('k').unwrap_or(space.kernels),
        ..Space::default()
    }
}
