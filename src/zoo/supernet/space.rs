//! A supernet's space of subnets, and a subnet's choices.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The search space: the possible values of each of a subnet's choices. Each list is sorted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    /// Depthwise kernel sizes, per block.
    pub kernels: Vec<usize>,
    /// Expansion ratios (expanded channels divided by input channels), per block.
    pub expansions: Vec<usize>,
    /// Numbers of blocks, per stage.
    pub depths: Vec<usize>,
    /// Output channels as a fraction of the maximum, the same for all stages.
    pub widths: Vec<f64>,
    /// Use of squeeze-excite in stages that can have it, per stage.
    pub squeeze: Vec<bool>,
    /// Rows and columns of the picture.
    pub sizes: Vec<usize>,
}

impl Default for Space {
    /// The space of once-for-all's published supernets.
    fn default() -> Self {
        Self {
            kernels: vec![3, 5, 7],
            expansions: vec![3, 4, 6],
            depths: vec![2, 3, 4],
            widths: vec![1.0],
            squeeze: vec![true],
            sizes: vec![128, 160, 192, 224],
        }
    }
}

impl Space {
    /// Checks and sorts the lists.
    pub(super) fn checked(mut self, max_depth: usize) -> Result<Self, String> {
        fn ordered<T: PartialOrd>(name: &str, list: &mut [T]) -> Result<(), String> {
            if list.is_empty() {
                return Err(format!("{name} is empty"));
            }
            list.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
            match list.windows(2).any(|pair| pair[0] == pair[1]) {
                true => Err(format!("{name} has a duplicate value")),
                false => Ok(()),
            }
        }
        let within = |name: &str, list: &[usize], range: std::ops::RangeInclusive<usize>| match list
            .iter()
            .find(|value| !range.contains(value))
        {
            Some(value) => Err(format!("{name} has {value}, expected {} to {}", range.start(), range.end())),
            None => Ok(()),
        };
        within("kernels", &self.kernels, 1..=15)?;
        within("expansions", &self.expansions, 1..=16)?;
        within("depths", &self.depths, 1..=max_depth)?;
        within("sizes", &self.sizes, 32..=1024)?;
        if let Some(even) = self.kernels.iter().find(|kernel| **kernel % 2 == 0) {
            return Err(format!("kernels has {even}, expected odd numbers"));
        }
        if let Some(width) = self.widths.iter().find(|width| !(**width > 0.0 && **width <= 1.0)) {
            return Err(format!("widths has {width}, expected a number above 0 and at most 1"));
        }
        ordered("kernels", &mut self.kernels)?;
        ordered("expansions", &mut self.expansions)?;
        ordered("depths", &mut self.depths)?;
        ordered("widths", &mut self.widths)?;
        ordered("squeeze", &mut self.squeeze)?;
        ordered("sizes", &mut self.sizes)?;
        Ok(self)
    }
}

impl Space {
    /// Checks that all values of `less` are in this space.
    pub(super) fn check_contains(&self, less: &Self) -> Result<(), String> {
        fn all<T: PartialEq + fmt::Display>(what: &str, list: &[T], less: &[T]) -> Result<(), String> {
            less.iter().try_for_each(|value| check_member(what, list, value))
        }
        all("kernel", &self.kernels, &less.kernels)?;
        all("expansion", &self.expansions, &less.expansions)?;
        all("depth", &self.depths, &less.depths)?;
        all("width", &self.widths, &less.widths)?;
        all("squeeze-excite", &self.squeeze, &less.squeeze)?;
        all("size", &self.sizes, &less.sizes)
    }
}

/// Checks that a value is in a list.
pub(super) fn check_member<T: PartialEq + fmt::Display>(
    what: &str,
    list: &[T],
    value: &T,
) -> Result<(), String> {
    if list.contains(value) {
        return Ok(());
    }
    let known: Vec<String> = list.iter().map(T::to_string).collect();
    Err(format!("no {what} of {value}: the choices are {}", known.join(", ")))
}

/// A block's choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockChoice {
    /// The depthwise kernel size.
    pub kernel: usize,
    /// The expansion ratio: expanded channels divided by input channels.
    pub expansion: usize,
}

/// A stage's choices.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StageChoice {
    /// True if the blocks have squeeze-excite.
    pub squeeze: bool,
    /// The blocks, in order.
    pub blocks: Vec<BlockChoice>,
}

/// A subnet's choices. As text: the size, the width and the stages, separated by commas. A stage is its blocks
/// (kernel size and expansion), joined by `+`, with `+se` at the end if they have squeeze-excite.
///
/// ```
/// use goldcrest::zoo::Subnet;
/// let text = "r160,w0.75,k3e4+k5e6,k7e6+k3e3+se,k3e4+k3e4,k5e6+k5e6+se,k5e6+k3e6+k3e6";
/// let subnet: Subnet = text.parse()?;
/// assert_eq!((subnet.size, subnet.stages[0].blocks[1].kernel), (160, 5));
/// assert_eq!(subnet.to_string(), text);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Subnet {
    /// Rows and columns of the picture.
    pub size: usize,
    /// Output channels as a fraction of the maximum.
    pub width: f64,
    /// The stages, in order.
    pub stages: Vec<StageChoice>,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{},w{}", self.size, self.width)?;
        for stage in &self.stages {
            let blocks = stage.blocks.iter().map(|block| format!("k{}e{}", block.kernel, block.expansion));
            let blocks: Vec<String> = blocks.chain(stage.squeeze.then(|| "se".into())).collect();
            write!(f, ",{}", blocks.join("+"))?;
        }
        Ok(())
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = |what: &str, found: &str| format!("expected {what}, found {:?}", found);
        let mut parts = text.split(',').map(str::trim);
        let mut number = |letter: char, what: &str| {
            let part = parts.next().unwrap_or_default();
            part.strip_prefix(letter).map(str::to_owned).ok_or_else(|| expected(what, part))
        };
        let [size, width] = [('r', "a size such as r160"), ('w', "a width such as w1")]
            .map(|(letter, what)| number(letter, what));
        let (size, width) = (size?, width?);
        let size = size.parse().map_err(|_| expected("a size such as r160", &size))?;
        let width = width.parse().map_err(|_| expected("a width such as w1", &width))?;
        let block = |text: &str| {
            let (kernel, expansion) = text.strip_prefix('k')?.split_once('e')?;
            Some(BlockChoice { kernel: kernel.parse().ok()?, expansion: expansion.parse().ok()? })
        };
        let stage = |text: &str| {
            let (blocks, squeeze) = text.strip_suffix("+se").map_or((text, false), |blocks| (blocks, true));
            let blocks = blocks
                .split('+')
                .map(|text| block(text).ok_or_else(|| expected("a block such as k5e6", text)));
            Ok::<_, String>(StageChoice { squeeze, blocks: blocks.collect::<Result<_, _>>()? })
        };
        let stages = parts.map(stage).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { size, width, stages })
    }
}
