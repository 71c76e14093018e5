//! What a supernet has to choose from, and a choice.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What there is to choose from. Every list is sorted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    /// Sides of depthwise windows, of each block.
    pub kernels: Vec<usize>,
    /// Expanded channels over input channels, of each block.
    pub expansions: Vec<usize>,
    /// Blocks, of each stage.
    pub depths: Vec<usize>,
    /// Output channels over the most that there are, of all stages alike.
    pub widths: Vec<f64>,
    /// Whether stages that can have squeeze-excite have it, of each stage.
    pub squeeze: Vec<bool>,
    /// Rows and columns of the picture.
    pub sizes: Vec<usize>,
}

impl Default for Space {
    /// That of the supernets that once-for-all's authors published.
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
    /// Puts the lists in order, and says what is wrong with them.
    pub(super) fn checked(mut self, deepest: usize) -> Result<Self, String> {
        fn ordered<T: PartialOrd>(name: &str, list: &mut [T]) -> Result<(), String> {
            if list.is_empty() {
                return Err(format!("{name} is empty"));
            }
            list.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
            match list.windows(2).any(|pair| pair[0] == pair[1]) {
                true => Err(format!("{name} has a value twice")),
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
        within("depths", &self.depths, 1..=deepest)?;
        within("sizes", &self.sizes, 32..=1024)?;
        if let Some(even) = self.kernels.iter().find(|kernel| **kernel % 2 == 0) {
            return Err(format!("kernels has {even}, which has no middle"));
        }
        if let Some(width) = self.widths.iter().find(|width| !(**width > 0.0 && **width <= 1.0)) {
            return Err(format!("widths has {width}, expected a share of 1"));
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
    /// Whether all of `less` is in this one.
    pub(super) fn holds(&self, less: &Self) -> Result<(), String> {
        fn all<T: PartialEq + fmt::Display>(what: &str, list: &[T], less: &[T]) -> Result<(), String> {
            less.iter().try_for_each(|value| among(what, list, value))
        }
        all("kernel", &self.kernels, &less.kernels)?;
        all("expansion", &self.expansions, &less.expansions)?;
        all("depth", &self.depths, &less.depths)?;
        all("width", &self.widths, &less.widths)?;
        all("squeeze-excite", &self.squeeze, &less.squeeze)?;
        all("size", &self.sizes, &less.sizes)
    }
}

/// Whether a value is one of a list's.
pub(super) fn among<T: PartialEq + fmt::Display>(what: &str, list: &[T], value: &T) -> Result<(), String> {
    if list.contains(value) {
        return Ok(());
    }
    let known: Vec<String> = list.iter().map(T::to_string).collect();
    Err(format!("no {what} of {value}: there are {}", known.join(", ")))
}

/// A block's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// The side of the depthwise window.
    pub kernel: usize,
    /// Expanded channels over input channels.
    pub expansion: usize,
}

/// A stage's choice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Whether its blocks have squeeze-excite, where they can.
    pub squeeze: bool,
    /// Its blocks, in order.
    pub cells: Vec<Cell>,
}

/// A network of a supernet. As text: the size, the width and the stages, with commas between, and of each stage its
/// blocks and whether they have squeeze-excite.
///
/// ```
/// use goldcrest::zoo::Subnet;
/// let text = "r160,w0.75,k3e4+k5e6,k7e6+k3e3+se,k3e4+k3e4,k5e6+k5e6+se,k5e6+k3e6+k3e6";
/// let subnet: Subnet = text.parse()?;
/// assert_eq!((subnet.size, subnet.stages[0].cells[1].kernel), (160, 5));
/// assert_eq!(subnet.to_string(), text);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Subnet {
    /// Rows and columns of the picture.
    pub size: usize,
    /// Output channels over the most that there are.
    pub width: f64,
    /// Its stages, in order.
    pub stages: Vec<Stack>,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{},w{}", self.size, self.width)?;
        for stage in &self.stages {
            let cells = stage.cells.iter().map(|cell| format!("k{}e{}", cell.kernel, cell.expansion));
            let cells: Vec<String> = cells.chain(stage.squeeze.then(|| "se".into())).collect();
            write!(f, ",{}", cells.join("+"))?;
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
        let cell = |text: &str| {
            let (kernel, expansion) = text.strip_prefix('k')?.split_once('e')?;
            Some(Cell { kernel: kernel.parse().ok()?, expansion: expansion.parse().ok()? })
        };
        let stage = |text: &str| {
            let (cells, squeeze) = text.strip_suffix("+se").map_or((text, false), |cells| (cells, true));
            let cells =
                cells.split('+').map(|text| cell(text).ok_or_else(|| expected("a block such as k5e6", text)));
            Ok::<_, String>(Stack { squeeze, cells: cells.collect::<Result<_, _>>()? })
        };
        let stages = parts.map(stage).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { size, width, stages })
    }
}
