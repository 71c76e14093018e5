//! Maps a checkpoint's tensors to the names that the network's library uses: strips wrappers that training
//! adds, leaves out training state, and combines the parts of pruned and quantised weights.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashSet},
};

use super::{Checkpoint, Overrides, scale_of};
use crate::{Error, Result, Tensor, graph::Affine};

/// A tensor of a file, and its use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TensorUse {
    /// Its name in the file.
    pub key: String,
    /// Its use.
    #[serde(flatten)]
    pub usage: Use,
}

/// The use of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "use", content = "why")]
pub enum Use {
    /// A layer uses it.
    Used,
    /// It belongs to a batch norm and was folded into the preceding convolution.
    Folded,
    /// It is not used, for this reason.
    Ignored(String),
}

/// Modules that wrap another without changing its values, at any depth.
const WRAPPERS: [&str; 4] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// The last name components of counters that training and profiling leave in a network, and their
/// descriptions.
const COUNTERS: [(&str, &str); 4] = [
    ("num_batches_tracked", "counters of training batches"),
    ("total_ops", "operation counters of a profiler"),
    ("total_params", "parameter counters of a profiler"),
    ("n_averaged", "counters of averaged copies"),
];

/// Prefixes of words in the names of training state outside the network.
const TRAINING: [&str; 13] = [
    "optim",
    "scheduler",
    "scaler",
    "amp",
    "loop",
    "callback",
    "criterion",
    "loss",
    "rng",
    "hparams",
    "args",
    "config",
    "metric",
];

/// Words in the names of copies that are averaged over training.
const AVERAGED: [&str; 5] = ["ema", "averaged", "average", "swa", "shadow"];

/// Tensor names that identify a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anchor {
    /// The name of its first tensor. The part before it is the prefix of the network.
    pub first: &'static str,
    /// Other tensors under the same prefix. At least one must exist, unless the list is empty.
    pub also: &'static [&'static str],
    /// The library's prefix for these names, if they belong to a separately saved part of a network.
    pub within: &'static str,
}

impl Anchor {
    /// An anchor with the first tensor only.
    pub const fn new(first: &'static str) -> Self {
        Self { first, also: &[], within: "" }
    }
}

/// The tensors of the network in a checkpoint.
pub(crate) struct Tensors<'a> {
    checkpoint: &'a Checkpoint,
    named: BTreeMap<String, Named>,
    /// The prefix of the names in the file.
    root: String,
    /// The library's prefix, if the names in the file lack it.
    within: &'static str,
    /// Notes on the chosen network and stripped prefixes, one sentence each.
    pub notes: Vec<String>,
    /// The quantisation of modules' outputs, in a network that was quantised with torch.
    pub maps: BTreeMap<String, Affine>,
    /// The tensors that `maps` was read from, by their names in the file.
    mapping: Vec<String>,
    left: BTreeMap<String, String>,
    used: RefCell<HashSet<String>>,
}

/// The tensors of a file that make up one tensor of the network.
#[derive(Debug, Clone)]
struct Named {
    /// Its name in the file.
    key: String,
    /// The name of a mask of the same shape, by which it is multiplied.
    mask: Option<String>,
    /// The name of its scales, if it is I8.
    scale: Option<String>,
}

impl<'a> Tensors<'a> {
    /// Finds the network in `checkpoint` by one of `anchors`.
    ///
    /// # Errors
    /// [`Error::File`] if there are several networks and the choice is ambiguous, [`Error::Checkpoint`] for
    /// an unknown tensor outside the network, or one in an unsupported form.
    pub fn new(checkpoint: &'a Checkpoint, anchors: &[Anchor], overrides: &Overrides) -> Result<Self> {
        let config = checkpoint.config.as_ref();
        let ignored = overrides.text(config, "ignore").map(|known| known.value).unwrap_or_default();
        let ignored = ignored.split(',').map(|part| part.trim().to_owned());
        let ignored: Vec<String> = ignored.filter(|part| !part.is_empty()).collect();
        let named = cleaned(checkpoint)?;
        let mut found: BTreeMap<&str, &'static str> = BTreeMap::new();
        for (root, within) in named.keys().filter_map(|name| root(name, &named, anchors)) {
            found.entry(root).or_insert(within);
        }
        let roots: BTreeSet<&str> = found.keys().copied().collect();
        let wanted = overrides.text(config, "root").map(|known| known.value);
        let mut notes = Vec::new();
        let root = choose(checkpoint, &roots, wanted.as_deref(), &mut notes)?;
        let within = found.get(root.as_str()).copied().unwrap_or_default();

        let (mut inside, mut left, mut unknown) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let of_copy = |name: &str| roots.iter().any(|other| *other != root && name.starts_with(other));
        for (name, from) in &named {
            let shape = checkpoint.shape(&from.key).unwrap_or_default();
            let inner = name.strip_prefix(&root);
            let begins = |part: &String| {
                [Some(name.as_str()), Some(&from.key), inner].iter().flatten().any(|n| n.starts_with(part))
            };
            let leftover = COUNTERS.iter().find(|(end, _)| name.rsplit('.').next() == Some(end));
            // A single number outside the network does not belong to a layer.
            let training = || is_training(name) || inner.is_none() && shape.iter().product::<usize>() <= 1;
            let outside = root.is_empty() || inner.is_none();
            let why = if ignored.iter().any(begins) {
                "ignored by a setting"
            } else if let Some((_, why)) = leftover {
                why
            } else if outside && of_copy(name) {
                "of another copy of the network"
            } else if outside && training() {
                "of training state"
            } else if let Some(inner) = inner {
                inside.insert(format!("{within}{inner}"), from.clone());
                continue;
            } else {
                unknown.push(&from.key);
                continue;
            };
            left.insert(from.key.clone(), why.to_owned());
        }
        if let Some(key) = unknown.first() {
            let first = key.split_inclusive('.').next().unwrap_or(key);
            let network = format!("the network under {root}");
            return Err(checkpoint.error(key, not_part_of(&network, unknown.len() - 1, first)));
        }
        let wrapped =
            |name: &&str| inside.values().any(|from: &Named| from.key.split('.').any(|part| part == *name));
        let wrappers: Vec<&str> = WRAPPERS.into_iter().filter(wrapped).collect();
        if !root.is_empty() || !wrappers.is_empty() {
            let root = root.escape_debug().to_string();
            let stripped = std::iter::once(root).chain(wrappers.iter().map(|name| format!("{name}.")));
            let stripped: Vec<String> = stripped.filter(|part| !part.is_empty()).collect();
            notes.push(format!("stripped from the tensors' names: {}", stripped.join(", ")));
        }
        for name in inside.keys() {
            let is = |end: &str| name.ends_with(end);
            let form = if name.contains("parametrizations.")
                || is("weight_g")
                || is("weight_v")
                || is("weight_orig")
            {
                "is a part of a parametrised weight: make it a plain weight with \
                 torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm or remove_spectral_norm"
            } else if is("._packed_params") {
                "is an int8 layer in torch's packed form, which is not supported: save the state_dict of the \
                 converted network with a later torch, or that of the f32 network"
            } else {
                continue;
            };
            return Err(checkpoint.error(&inside[name].key, form));
        }
        let (maps, mapping) = converted(checkpoint, &mut inside)?;
        let used = RefCell::default();
        Ok(Self { checkpoint, named: inside, root, within, notes, maps, mapping, left, used })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.checkpoint
    }

    /// The tensors' names, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Returns whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// Returns whether any tensor's name starts with `prefix`.
    pub fn has(&self, prefix: &str) -> bool {
        self.named.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// The modules directly under `prefix`, which ends in a dot or is empty, sorted by number.
    pub fn children(&self, prefix: &str) -> Vec<&str> {
        let under = self.named.range(prefix.to_owned()..).map(|(name, _)| name.as_str());
        let under = under.map_while(|name| name.strip_prefix(prefix));
        let mut names: Vec<&str> = under.filter_map(|rest| Some(rest.split_once('.')?.0)).collect();
        names.sort_by_key(|name| (name.parse::<usize>().unwrap_or(usize::MAX), *name));
        names.dedup();
        names
    }

    /// The number of modules `prefix0.`, `prefix1.`, ..., up to the first that is missing.
    pub fn count(&self, prefix: &str) -> usize {
        self.count_from(prefix, 0)
    }

    /// As [`Tensors::count`], for modules numbered from `first`.
    pub fn count_from(&self, prefix: &str, first: usize) -> usize {
        (first..).take_while(|i| self.has(&format!("{prefix}{i}."))).count()
    }

    /// The shape of a tensor, if it exists.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.checkpoint.shape(&self.named.get(name)?.key)
    }

    /// Reads a tensor as f32 and checks its shape against the sizes that `shape` gives.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    pub fn tensor(&self, name: &str, shape: &[Option<usize>]) -> Result<Tensor> {
        let Some(Named { key, mask, .. }) = self.named.get(name) else {
            return Err(self.error(name, "is missing"));
        };
        let tensor = self.checkpoint.tensor(key, shape)?;
        self.used.borrow_mut().insert(name.to_owned());
        let Some(mask) = mask else { return Ok(tensor) };
        let exactly: Vec<Option<usize>> = tensor.dims().iter().copied().map(Some).collect();
        let mask = self.checkpoint.tensor(mask, &exactly)?;
        Ok(Tensor::from_fn(tensor.dims(), |i| tensor.data()[i] * mask.data()[i]))
    }

    /// The scales of an int8 weight, one per output; `None` for another weight.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    pub fn scales(&self, name: &str) -> Result<Option<Vec<f32>>> {
        match self.named.get(name) {
            Some(Named { key, mask: None, .. }) => self.checkpoint.scales(key),
            // A masked weight is not treated as int8.
            _ => Ok(None),
        }
    }

    /// An [`Error::Checkpoint`] for a tensor, with its name in the file.
    pub fn error(&self, name: &str, reason: impl Into<String>) -> Error {
        match self.named.get(name) {
            Some(named) => self.checkpoint.error(&named.key, reason),
            None => {
                let name = name.strip_prefix(self.within).unwrap_or(name);
                self.checkpoint.error(&format!("{}{name}", self.root), reason)
            }
        }
    }

    /// The tensors that have not been read yet.
    pub fn unread(&self) -> Vec<&str> {
        let used = self.used.borrow();
        self.keys().filter(|name| !used.contains(*name)).collect()
    }

    /// Removes a tensor that is not read, and records the reason `why`.
    pub fn leave(&mut self, name: &str, why: &str) {
        if let Some(named) = self.named.remove(name) {
            self.left.insert(named.key, why.into());
        }
    }

    /// The use of every tensor in the files.
    pub fn account(&self) -> Vec<TensorUse> {
        let used = self.used.borrow();
        let norm = |name: &str| {
            let (module, _) = name.rsplit_once('.').unwrap_or_default();
            self.contains(&format!("{module}.running_mean"))
        };
        let mut uses = BTreeMap::new();
        for (name, Named { key, mask, scale }) in &self.named {
            let usage = match used.contains(name) {
                true if norm(name) => Use::Folded,
                true => Use::Used,
                false => Use::Ignored("no layer needs it".into()),
            };
            for with in [mask, scale].into_iter().flatten() {
                uses.insert(with.clone(), usage.clone());
            }
            uses.insert(key.clone(), usage);
        }
        uses.extend(self.mapping.iter().map(|key| (key.clone(), Use::Used)));
        uses.extend(self.left.iter().map(|(key, why)| (key.clone(), Use::Ignored(why.clone()))));
        uses.into_iter().map(|(key, usage)| TensorUse { key, usage }).collect()
    }

    /// A sentence on the tensors left out; `None` if they are only batch counts, which every checkpoint has.
    pub fn left_out(&self) -> Option<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for why in self.left.values() {
            *counts.entry(why).or_default() += 1;
        }
        if counts.keys().all(|why| *why == COUNTERS[0].1) {
            return None;
        }
        let total: usize = counts.values().sum();
        let parts: Vec<String> = counts.iter().map(|(why, count)| format!("{count} {why}")).collect();
        Some(format!("{total} tensors are left out: {}", parts.join(", ")))
    }
}

/// The error message for a tensor that is not part of `network`. `others` is the number of further such tensors;
/// `--set ignore` with the prefix `ignore` leaves them all out.
pub(crate) fn not_part_of(network: &str, others: usize, ignore: &str) -> String {
    let others = match others {
        0 => String::new(),
        1 => ", nor is another tensor".to_owned(),
        _ => format!(", nor are {others} other tensors"),
    };
    let ignore = ignore.escape_debug();
    format!("is not part of {network}{others}: --set ignore={ignore} leaves out the tensors with this prefix")
}

/// Torch's names for the parts of an int8 dense layer, and their names in f32.
const PACKED: [[&str; 2]; 4] = [
    ["._packed_params._packed_params.0", ".weight"],
    ["._packed_params._packed_params.1", ".bias"],
    ["._packed_params.weight", ".weight"],
    ["._packed_params.bias", ".bias"],
];

/// The name of a tensor in the f32 network.
fn unpacked(name: String) -> String {
    let known = PACKED.iter().find_map(|[packed, plain]| Some(name.strip_suffix(packed)?.to_owned() + plain));
    known.unwrap_or(name)
}

/// Removes the scales and zero points of modules' outputs from a network that was quantised with torch.
/// Returns them by module, and the names of their tensors.
fn converted(
    checkpoint: &Checkpoint,
    inside: &mut BTreeMap<String, Named>,
) -> Result<(BTreeMap<String, Affine>, Vec<String>)> {
    let ends = [".scale", ".zero_point"];
    let is_converted = inside.keys().any(|name| name.ends_with(ends[1]));
    let module = |name: &String| ends.iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned);
    let modules: BTreeSet<String> = inside.keys().filter(|_| is_converted).filter_map(module).collect();
    let (mut maps, mut mapping) = (BTreeMap::new(), Vec::new());
    for module in modules {
        let [scale, zero] = ends.map(|end| inside.remove(&format!("{module}{end}")).map(|named| named.key));
        // If one is missing, the error gives the name expected next to the other.
        let sibling = |other: &Option<String>, [from, to]: [&str; 2]| {
            let other = other.as_deref().unwrap_or_default();
            other.strip_suffix(from).unwrap_or(other).to_owned() + to
        };
        let (scale, zero) = (
            scale.clone().unwrap_or_else(|| sibling(&zero, [ends[1], ends[0]])),
            zero.unwrap_or_else(|| sibling(&scale, ends)),
        );
        maps.insert(module, checkpoint.affine(&scale, &zero)?);
        mapping.extend([scale, zero]);
    }
    Ok((maps, mapping))
}

/// Every tensor by its name without wrappers, with the parts of pruned and quantised weights combined.
fn cleaned(checkpoint: &Checkpoint) -> Result<BTreeMap<String, Named>> {
    let mut named: BTreeMap<String, Named> = BTreeMap::new();
    for key in checkpoint.keys() {
        let mask = key.strip_suffix("_orig").map(|whole| format!("{whole}_mask"));
        let mask = mask.filter(|mask| checkpoint.contains(mask));
        let orig = key.strip_suffix("_mask").map(|whole| format!("{whole}_orig"));
        if orig.is_some_and(|orig| checkpoint.contains(&orig)) || checkpoint.is_scale(key) {
            continue;
        }
        let scale =
            Some(scale_of(key)).filter(|scale| checkpoint.contains(scale) && checkpoint.is_scale(scale));
        let whole = if mask.is_some() { key.strip_suffix("_orig").unwrap_or(key) } else { key };
        let name: Vec<&str> = whole.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
        let name = unpacked(name.join("."));
        if let Some(other) = named.insert(name, Named { key: key.into(), mask, scale }) {
            let other = other.key.escape_debug();
            return Err(checkpoint.error(key, format!("has the same name as {other} without wrappers")));
        }
    }
    Ok(named)
}

/// The prefix of `name` if it ends with one of `anchors`, and the library's prefix.
fn root<'n>(
    name: &'n str,
    named: &BTreeMap<String, Named>,
    anchors: &[Anchor],
) -> Option<(&'n str, &'static str)> {
    anchors.iter().find_map(|anchor| {
        let before = name.strip_suffix(anchor.first)?;
        let whole = before.is_empty() || before.ends_with('.');
        let also = |also: &&str| named.contains_key(&format!("{before}{also}"));
        let all = whole && (anchor.also.is_empty() || anchor.also.iter().any(also));
        all.then_some((before, anchor.within))
    })
}

/// Chooses the prefix of the network.
fn choose(
    checkpoint: &Checkpoint,
    roots: &BTreeSet<&str>,
    wanted: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<String> {
    let list = |roots: &[&str]| {
        let names = roots.iter().map(|root| if root.is_empty() { "(no prefix)" } else { root });
        names.collect::<Vec<_>>().join(", ").escape_debug().to_string()
    };
    let all: Vec<&str> = roots.iter().copied().collect();
    if let Some(wanted) = wanted {
        let dotted =
            if wanted.is_empty() || wanted.ends_with('.') { wanted.to_owned() } else { format!("{wanted}.") };
        return match roots.contains(dotted.as_str()) {
            true => Ok(dotted),
            false => {
                let reason = format!("root = {}: networks are under {}", wanted.escape_debug(), list(&all));
                Err(Error::file(checkpoint.path(), reason))
            }
        };
    }
    let is_average =
        |root: &&str| root.split(['.', '_']).any(|word| AVERAGED.contains(&word.to_lowercase().as_str()));
    let averaged: Vec<&str> = all.iter().copied().filter(is_average).collect();
    match (&all[..], &averaged[..]) {
        ([], _) => Ok(String::new()),
        ([only], _) => Ok((*only).to_owned()),
        (_, [average]) => {
            let others: Vec<&str> = all.iter().copied().filter(|root| root != average).collect();
            notes.push(format!(
                "uses the average over training (EMA) under {}, not {}: --set root=... selects another",
                average.escape_debug(),
                list(&others)
            ));
            Ok((*average).to_owned())
        }
        _ => Err(Error::file(
            checkpoint.path(),
            format!("contains several networks, under {}: select one with --set root=...", list(&all)),
        )),
    }
}

/// Returns whether a tensor outside the network is training state, by its name.
fn is_training(name: &str) -> bool {
    name.split(['.', '_']).map(str::to_lowercase).any(|word| {
        TRAINING.iter().any(|known| word.starts_with(known))
            || ["hyper", "train", "val", "valid", "test", "best", "acc", "accuracy", "f1", "auroc"]
                .contains(&word.as_str())
    })
}
