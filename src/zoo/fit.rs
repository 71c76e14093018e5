//! Identifies the network: its family and name, from the keys, the shapes and the given name.

use super::{
    known::{Arch, Known},
    library::Library,
    registry,
    skeleton::{Mismatch, Skeleton},
    table::{Family, Table},
};
use crate::{
    Error, Result,
    checkpoint::{Source, Sourced, Tensors},
};

/// The network that a checkpoint's keys match.
pub(super) struct Fitted {
    pub table: &'static Table,
    /// Blocks in each stage.
    pub repeats: Vec<usize>,
    /// Its name; none if the library has no network of this width.
    pub arch: Option<Arch>,
}

/// Finds the network that the keys fit. If `named` is given, it must be that one, but a name taken from the
/// file name is only a hint.
///
/// # Errors
/// [`Error::UnknownNetwork`] if the keys fit no network, or fit several whose outputs differ; [`Error::File`]
/// if they fit another network than `named`.
pub(super) fn fit(
    tensors: &Tensors,
    library: &'static Library,
    skeleton: &Skeleton,
    named: Option<&mut Sourced<Arch>>,
    warnings: &mut Vec<String>,
) -> Result<Fitted> {
    if let Some(module) = skeleton.top.last().filter(|module| !tensors.has(&format!("{module}."))) {
        let found = describe_keys(tensors);
        let reason = format!("its tensors are named as in {}, but it has no {module}: {found}", library.name);
        return Err(unknown(tensors, &reason));
    }
    let fitting = fitting(tensors, library, skeleton)?;
    let width = skeleton.width(tensors);
    let of_width = |known: &Known| known.width.is_none() || width.is_none() || known.last_channels() == width;
    if let Some(named) = named {
        let arch = named.value;
        let same = |known: &Known| (known.library, known.name) == (arch.known.library, arch.known.name);
        if let Some((known, repeats)) = fitting.iter().find(|(known, _)| same(known) && of_width(known)) {
            let arch = Arch { known, ..arch };
            // Several structures can share one name.
            named.value = arch;
            return Ok(Fitted { table: known.table, repeats: repeats.clone(), arch: Some(arch) });
        }
        let (known, _) = fitting.iter().find(|(known, _)| of_width(known)).unwrap_or(&fitting[0]);
        let found = match fitting.iter().any(|(known, _)| same(known)) {
            true => {
                let other = if of_width(known) {
                    format!("{}/{}", library.name, known.name)
                } else {
                    "another width".into()
                };
                let [has, expected] = [width, arch.known.last_channels()].map(Option::unwrap_or_default);
                format!("{other}: the last block has {has} channels, not {expected}")
            }
            false => format!("{}, such as {}/{}", known.table.family, library.name, known.name),
        };
        if !matches!(named.from, Source::File(_)) {
            let reason = format!("opened as {arch}, but its tensors are those of {found}");
            return Err(Error::file(tensors.checkpoint().path(), reason));
        }
        warnings.push(format!("{} says {arch}, but the tensors are those of {found}", named.from));
    }

    let candidates: Vec<&(&Known, Vec<usize>)> =
        fitting.iter().filter(|(known, _)| of_width(known)).collect();
    let Some((first, repeats)) = candidates.first() else {
        let (known, repeats) = &fitting[0];
        warnings.push(format!(
            "{} has no network of this width: assuming its usual padding and epsilon, and the preprocessing \
             of {}; change them with --set",
            library.name, known.name
        ));
        return Ok(Fitted { table: known.table, repeats: repeats.clone(), arch: None });
    };
    let rules = |known: &Known| {
        let rules = (library.rules)(known.name, known.table, tensors, None)?;
        Ok::<_, Error>((rules.padding.value, rules.epsilon.value, rules.antialias.value))
    };
    let mut ambiguous = Vec::new();
    for (known, _) in candidates.iter().filter(|_| width.is_some()) {
        if rules(known)? != rules(first)? {
            ambiguous.push(known.name);
        }
    }
    if !ambiguous.is_empty() {
        let names: Vec<String> = std::iter::once(first.name)
            .chain(ambiguous)
            .map(|name| format!("{}/{name}", library.name))
            .collect();
        return Err(unknown(
            tensors,
            &format!("the keys fit {}, whose outputs differ: choose one with --arch", names.join(" and ")),
        ));
    }
    let arch = Arch { known: first, preset: None };
    Ok(Fitted { table: first.table, repeats: repeats.clone(), arch: Some(arch) })
}

/// The networks of a library whose structure fits the skeleton, of any width.
fn fitting(
    tensors: &Tensors,
    library: &'static Library,
    skeleton: &Skeleton,
) -> Result<Vec<(&'static Known, Vec<usize>)>> {
    // Compares ResNets only with ResNets, and only networks with the same kind of head.
    let residual = skeleton.blocks.iter().any(|block| block.shortcut.is_some());
    let mut closest: Option<(Family, Mismatch)> = None;
    let mut found = Vec::new();
    for table in registry::tables(library.name) {
        if table.stem_pool != residual || !skeleton.top.matches(&table.top) {
            continue;
        }
        match skeleton.fit(table, tensors) {
            Ok(repeats) => {
                let of_table = registry::known(library.name).filter(|known| std::ptr::eq(known.table, table));
                found.extend(of_table.map(|known| (known, repeats.clone())));
            }
            Err(m) if closest.as_ref().is_none_or(|(_, n)| m.agreed > n.agreed) => {
                closest = Some((table.family, m))
            }
            Err(_) => {}
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let (family, mismatch) =
        closest.map_or((String::new(), String::new()), |(f, m)| (f.to_string(), m.reason));
    let sort = if residual { "ResNet" } else { "MobileNet" };
    let name = library.name;
    Err(unknown(
        tensors,
        &format!(
            "its tensors are named as in {name}, but fit no {sort}. The closest is {family}, from which this file \
             differs: {mismatch}"
        ),
    ))
}

/// Summarises the keys for an error: their number and first components.
pub(super) fn describe_keys(tensors: &Tensors) -> String {
    let mut first: Vec<&str> = tensors.keys().filter_map(|key| key.split('.').next()).collect();
    let count = first.len();
    first.dedup();
    let more = if first.len() > 6 { " ..." } else { "" };
    first.truncate(6);
    format!("found {count} tensors under {}{more}", first.join(", ").escape_debug())
}

pub(super) fn unknown(tensors: &Tensors, reason: &str) -> Error {
    Error::UnknownNetwork(format!("{}: {reason}", tensors.checkpoint().path().display()))
}
