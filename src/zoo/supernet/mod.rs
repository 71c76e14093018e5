//! Supernets: once-for-all's (arXiv 1908.09791), whose subnets share weights. Those of a block with an expansion of 4
//! are the first channels of one of 6; a window of 5 is the middle of one of 7, by a small transform; a
//! stage of 2 blocks is the first two of 4. `ofa_mbv3_d234_e346_k357_w1.0` and `_w1.2` are such files, and
//! `assets/supernet` is.
//!
//! Two dimensions are added here, which need no further weights: a width, the first channels of each stage, and whether
//! stages that have squeeze-excite use it. A `config.json` beside the weights says under `supernet` which values
//! a supernet was trained for; see [`Space`].

mod slice;
mod space;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use slice::Slice;
use space::among;
pub use space::{Cell, Space, Stack, Subnet};

use super::{ofa, table::divisible};
use crate::{
    Error, Result, Tensor,
    checkpoint::{Checkpoint, Config, Said, Tensors, superfluous},
};

/// Stages of blocks that there is something to choose for.
const STAGES: usize = 5;

/// What its tensors' names begin with.
const PARTS: [&str; 5] =
    ["first_conv.", "blocks.", "final_expand_layer.", "feature_mix_layer.", "classifier."];

/// A supernet: weights, and what there is to choose from.
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
    /// Sides of windows that the weights were trained for, the largest first.
    sides: Vec<usize>,
    /// The most output channels of the block behind the stem, and of each stage.
    channels: [usize; 1 + STAGES],
    /// Whether blocks of a stage can have squeeze-excite.
    squeezes: [bool; STAGES],
    /// Blocks of each stage at most.
    deepest: usize,
}

impl Supernet {
    /// Opens a file of weights or a folder; see [`Checkpoint::open`].
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`], and of [`Supernet::from_checkpoint`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::open(path)?, &Said::default())
    }

    /// The supernet in a checkpoint. Of what is said, its root in the file and what to ignore there count.
    ///
    /// # Errors
    /// [`Error::UnknownNetwork`] if it holds something else, [`Error::Checkpoint`] for a tensor that is missing, or not
    /// as it should be, [`Error::File`] if its configuration has a space that its weights cannot fill.
    pub fn from_checkpoint(checkpoint: &Checkpoint, said: &Said) -> Result<Self> {
        let tensors = Tensors::new(checkpoint, &[ofa::ANCHOR], said)?;
        if !is_one(&tensors) {
            return Err(Error::UnknownNetwork(format!(
                "{}: no supernet of once-for-all's, which have tensors such as {}",
                checkpoint.path().display(),
                first("conv")
            )));
        }
        let blocks = tensors.count("blocks.");
        let deepest = blocks.saturating_sub(1) / STAGES;
        if deepest == 0 || blocks != 1 + STAGES * deepest {
            let reason = format!("has {blocks} blocks, not one and {STAGES} stages of as many each");
            return Err(Error::file(checkpoint.path(), reason));
        }
        let inner = ofa::inner(&tensors);
        let mut read = BTreeMap::new();
        for key in tensors.keys() {
            if !PARTS.iter().any(|part| key.starts_with(part)) {
                return Err(tensors.error(key, superfluous("a supernet", 0, key)));
            }
            let any = vec![None; tensors.shape(key).map_or(0, <[usize]>::len)];
            read.insert(key.replacen(&format!(".{inner}."), ".conv.", 1), tensors.tensor(key, &any)?);
        }
        let mut supernet = Self {
            path: checkpoint.path().into(),
            config: checkpoint.config.clone(),
            tensors: read,
            space: Space::default(),
            sides: Vec::new(),
            channels: [0; 1 + STAGES],
            squeezes: [false; STAGES],
            deepest,
        };
        supernet.channels[0] = supernet.rows("blocks.0.conv.point_linear.conv.weight")?;
        for stage in 0..STAGES {
            let block = format!("blocks.{}.conv", 1 + stage * deepest);
            supernet.channels[1 + stage] =
                supernet.rows(&format!("{block}.point_linear.conv.conv.weight"))?;
            supernet.squeezes[stage] =
                supernet.tensors.contains_key(&format!("{block}.depth_conv.se.fc.reduce.weight"));
        }
        supernet.space = supernet.space_of(checkpoint.stem().unwrap_or_default())?;
        supernet.sides = supernet.space.kernels.iter().rev().copied().collect();
        // What is missing or misshapen anywhere is told now.
        supernet.slice(&supernet.smallest())?;
        supernet.slice(&supernet.largest())?;
        Ok(supernet)
    }

    /// The same with less to choose from.
    ///
    /// # Errors
    /// [`Error::Input`] if `space` has what this one lacks.
    pub fn within(self, space: Space) -> Result<Self> {
        let path = self.path.clone();
        let no = |reason: String| Error::Input(format!("{}: {reason}", path.display()));
        let space = space.checked(self.deepest).map_err(no)?;
        self.space.holds(&space).map_err(no)?;
        let narrowed = Self { space, ..self };
        // Lists are sorted: what is between their ends is sliced as the ends are.
        narrowed.slice(&narrowed.smallest())?;
        narrowed.slice(&narrowed.largest())?;
        Ok(narrowed)
    }

    /// What there is to choose from.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Whether blocks of a stage can have squeeze-excite.
    pub fn squeezes(&self, stage: usize) -> bool {
        self.squeezes[stage] && self.space.squeeze.contains(&true)
    }

    /// Whether blocks of a stage can do without squeeze-excite.
    pub fn plain(&self, stage: usize) -> bool {
        !self.squeezes[stage] || self.space.squeeze.contains(&false)
    }

    /// How many stages there is something to choose for.
    pub fn stages(&self) -> usize {
        STAGES
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its weights, by their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (&name[..], tensor))
    }

    /// Output channels of a stage at a width.
    fn outputs(&self, stage: usize, width: f64) -> usize {
        divisible(self.channels[1 + stage] as f64 * width, 8).min(self.channels[1 + stage])
    }

    /// The subnet that takes the last of every list: the largest, as lists are sorted.
    pub fn largest(&self) -> Subnet {
        self.alike(|count| count - 1)
    }

    /// The subnet that takes the first of every list: the smallest.
    pub fn smallest(&self) -> Subnet {
        self.alike(|_| 0)
    }

    /// The subnet that takes from every list the same value everywhere; `at` gives its place in a list of a length.
    fn alike(&self, at: impl Fn(usize) -> usize) -> Subnet {
        fn of<T: Copy>(list: &[T], at: impl Fn(usize) -> usize) -> T {
            list[at(list.len())]
        }
        let space = &self.space;
        let cell = Cell { kernel: of(&space.kernels, &at), expansion: of(&space.expansions, &at) };
        let cells = vec![cell; of(&space.depths, &at)];
        let squeeze = of(&space.squeeze, &at);
        let stack = |stage| Stack {
            squeeze: (squeeze && self.squeezes(stage)) || !self.plain(stage),
            cells: cells.clone(),
        };
        Subnet {
            size: of(&space.sizes, &at),
            width: of(&space.widths, &at),
            stages: (0..STAGES).map(stack).collect(),
        }
    }

    /// Whether a subnet is in the space.
    ///
    /// # Errors
    /// What of it is not, and what there is instead.
    pub fn contains(&self, subnet: &Subnet) -> Result<(), String> {
        let space = &self.space;
        among("size", &space.sizes, &subnet.size)?;
        among("width", &space.widths, &subnet.width)?;
        if subnet.stages.len() != STAGES {
            return Err(format!("{} stages, not {STAGES}", subnet.stages.len()));
        }
        for (i, stage) in subnet.stages.iter().enumerate() {
            among("depth", &space.depths, &stage.cells.len())?;
            if stage.squeeze && !self.squeezes(i) {
                return Err(format!("stage {} has no squeeze-excite", i + 1));
            }
            if !stage.squeeze && !self.plain(i) {
                return Err(format!("stage {} has squeeze-excite: it ends in +se", i + 1));
            }
            for cell in &stage.cells {
                among("kernel", &space.kernels, &cell.kernel)?;
                among("expansion", &space.expansions, &cell.expansion)?;
            }
        }
        Ok(())
    }

    /// The weights and the configuration of a subnet.
    ///
    /// # Errors
    /// [`Error::Input`] if the subnet is not in the space, [`Error::Checkpoint`] for a tensor that is missing or too
    /// small.
    pub fn slice(&self, subnet: &Subnet) -> Result<Slice> {
        let no = |reason| Error::Input(format!("{}: no subnet {subnet}: {reason}", self.path.display()));
        self.contains(subnet).map_err(no)?;
        slice::slice(self, subnet)
    }

    fn tensor(&self, key: &str) -> Result<&Tensor> {
        self.tensors.get(key).ok_or_else(|| self.error(key, "is missing".into()))
    }

    /// The first of a tensor's dimensions.
    fn rows(&self, key: &str) -> Result<usize> {
        let first = self.tensor(key)?.dims().first().copied();
        first.ok_or_else(|| self.error(key, "is a single number".into()))
    }

    fn error(&self, key: &str, reason: String) -> Error {
        Error::Checkpoint { path: self.path.clone(), key: key.into(), reason }
    }

    fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// What the configuration, the file's name and the weights say that there is to choose from.
    fn space_of(&self, stem: &str) -> Result<Space> {
        let said = self.config().and_then(|config| Some((config, config.get("supernet")?)));
        let space = match said {
            Some((config, value)) => {
                let space = serde_json::from_value::<Space>(value.clone()).map_err(|e| e.to_string());
                let space = space.and_then(|space| space.checked(self.deepest));
                space.map_err(|reason| config.error("supernet", reason))?
            }
            None => {
                let space = named(stem, self.deepest).checked(self.deepest);
                space.map_err(|reason| Error::file(&self.path, reason))?
            }
        };
        let key = first("conv");
        let side = self.tensor(&key)?.dims().last().copied();
        if side != space.kernels.last().copied() {
            let [side, most] = [side, space.kernels.last().copied()].map(Option::unwrap_or_default);
            return Err(self.error(&key, format!("has windows of {side}x{side}, not of {most}x{most}")));
        }
        Ok(space)
    }
}

/// The tensor that tells a supernet from its subnets.
fn first(inner: &str) -> String {
    format!("blocks.1.{inner}.depth_conv.conv.conv.weight")
}

/// Whether tensors are a supernet's.
fn is_one(tensors: &Tensors) -> bool {
    tensors.contains(&first(ofa::inner(tensors)))
}

/// Of a checkpoint that holds a supernet the subnet that was said, or else the largest, with a sentence that says so.
///
/// # Errors
/// Those of [`Supernet::from_checkpoint`] and [`Supernet::slice`].
pub(super) fn subnet_in(checkpoint: &Checkpoint, said: &Said) -> Result<Option<(Checkpoint, String)>> {
    let begins = checkpoint.keys().any(|key| key.ends_with(ofa::ANCHOR.first));
    if !begins || !Tensors::new(checkpoint, &[ofa::ANCHOR], said).is_ok_and(|tensors| is_one(&tensors)) {
        return Ok(None);
    }
    let supernet = Supernet::from_checkpoint(checkpoint, said)?;
    let chosen = said.get(checkpoint.config.as_ref(), "subnet", |text| text.parse::<Subnet>().ok())?;
    let (subnet, which) = match chosen {
        Some(chosen) => (chosen.value, "the one that was said"),
        None => (supernet.largest(), "the largest"),
    };
    let note = format!("a supernet: of its networks this is {which}, --set subnet={subnet}");
    Ok(Some((supernet.slice(&subnet)?.checkpoint(checkpoint.path())?, note)))
}

/// The space that a published file's name tells, `ofa_mbv3_d234_e346_k357_w1.0`: a digit for each value.
fn named(stem: &str, deepest: usize) -> Space {
    let digits = |letter: char| {
        let part = stem.split('_').find_map(|part| part.strip_prefix(letter))?;
        let values = part.chars().map(|digit| digit.to_digit(10).map(|n| n as usize));
        values.collect::<Option<Vec<_>>>().filter(|values| !values.is_empty())
    };
    let space = Space::default();
    Space {
        depths: digits('d').unwrap_or_else(|| (deepest.min(2)..=deepest).collect()),
        expansions: digits('e').unwrap_or(space.expansions),
        kernels: digits('k').unwrap_or(space.kernels),
        ..Space::default()
    }
}
