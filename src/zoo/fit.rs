//! Which network it is: the family and the name that keys, shapes and what was said agree on.

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

/// What a checkpoint's keys were found to be.
pub(super) struct Fitted {
    pub table: &'static Table,
    /// Blocks in each of its stages.
    pub repeats: Vec<usize>,
    /// Its name; none if no network of the library's has this width.
    pub arch: Option<Arch>,
}

/// The network that the keys fit, which must be the one that is named, if there is one: of a file's name
/// alone that is only a hint.
///
/// # Errors
/// [`Error::UnknownNetwork`] if they fit none, or several whose answers differ; [`Error::File`] if they fit
/// another than is named.
pub(super) fn fit(
    tensors: &Tensors,
    library: &'static Library,
    skeleton: &Skeleton,
    named: Option<&mut Sourced<Arch>>,
    warnings: &mut Vec<String>,
) -> Result<Fitted> {
    if let Some(module) = skeleton.top.last().filter(|module| !tensors.has(&format!("{module}."))) {
        let saw = seen(tensors);
        return Err(unknown(tensors, &format!("{}'s names, but no {module}: {saw}", library.name)));
    }
    let fitting = fitting(tensors, library, skeleton)?;
    let width = skeleton.width(tensors);
    let of_width = |known: &Known| known.width.is_none() || width.is_none() || known.last_channels() == width;
    if let Some(named) = named {
        let arch = named.value;
        let same = |known: &Known| (known.library, known.name) == (arch.known.library, arch.known.name);
        if let Some((known, repeats)) = fitting.iter().find(|(known, _)| same(known) && of_width(known)) {
            let arch = Arch { known, ..arch };
            // The same name may stand for several structures.
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
                let [has, wants] = [width, arch.known.last_channels()].map(Option::unwrap_or_default);
                format!("{other}: the last block has {has} channels, not {wants}")
            }
            false => format!("{}, as {}/{} is", known.table.family, library.name, known.name),
        };
        if !matches!(named.from, Source::File(_)) {
            let reason = format!("said to be {arch}, but its tensors are those of {found}");
            return Err(Error::file(tensors.checkpoint().path(), reason));
        }
        warnings.push(format!("{} speaks of {arch}, but the tensors are those of {found}", named.from));
    }

    let candidates: Vec<&(&Known, Vec<usize>)> =
        fitting.iter().filter(|(known, _)| of_width(known)).collect();
    let Some((first, repeats)) = candidates.first() else {
        let (known, repeats) = &fitting[0];
        warnings.push(format!(
            "no network of {}'s has this width: assumed what most of them want, and those of the name {}; \
             padding, epsilon and pictures can be set",
            library.name, known.name
        ));
        return Ok(Fitted { table: known.table, repeats: repeats.clone(), arch: None });
    };
    let rules = |known: &Known| {
        let rules = (library.rules)(known.name, known.table, tensors, None)?;
        Ok::<_, Error>((rules.padding.value, rules.epsilon.value, rules.antialias.value))
    };
    let mut alike = Vec::new();
    for (known, _) in candidates.iter().filter(|_| width.is_some()) {
        if rules(known)? != rules(first)? {
            alike.push(known.name);
        }
    }
    if !alike.is_empty() {
        let names: Vec<String> =
            std::iter::once(first.name).chain(alike).map(|name| format!("{}/{name}", library.name)).collect();
        return Err(unknown(
            tensors,
            &format!("the keys fit {}, whose answers differ: --arch says which it is", names.join(" and ")),
        ));
    }
    let arch = Arch { known: first, preset: None };
    Ok(Fitted { table: first.table, repeats: repeats.clone(), arch: Some(arch) })
}

/// The networks of a library whose structure is the skeleton's, whatever their width.
fn fitting(
    tensors: &Tensors,
    library: &'static Library,
    skeleton: &Skeleton,
) -> Result<Vec<(&'static Known, Vec<usize>)>> {
    // A ResNet is compared with ResNets alone, and what segments with what segments as it does.
    let residual = skeleton.blocks.iter().any(|block| block.shortcut.is_some());
    let mut nearest: Option<(Family, Mismatch)> = None;
    let mut found = Vec::new();
    for table in registry::tables(library.name) {
        if table.stem_pool != residual || !skeleton.top.are(&table.top) {
            continue;
        }
        match skeleton.fit(table, tensors) {
            Ok(repeats) => {
                let of_table = registry::known(library.name).filter(|known| std::ptr::eq(known.table, table));
                found.extend(of_table.map(|known| (known, repeats.clone())));
            }
            Err(m) if nearest.as_ref().is_none_or(|(_, n)| m.agreed > n.agreed) => {
                nearest = Some((table.family, m))
            }
            Err(_) => {}
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let (family, mismatch) =
        nearest.map_or((String::new(), String::new()), |(f, m)| (f.to_string(), m.reason));
    let sort = if residual { "ResNet" } else { "MobileNet" };
    let name = library.name;
    Err(unknown(
        tensors,
        &format!("{name}'s names, but no {sort}: {mismatch}, unlike in {family}, the nearest"),
    ))
}

/// The beginnings of the keys.
pub(super) fn seen(tensors: &Tensors) -> String {
    let mut first: Vec<&str> = tensors.keys().filter_map(|key| key.split('.').next()).collect();
    let count = first.len();
    first.dedup();
    let more = if first.len() > 6 { " ..." } else { "" };
    first.truncate(6);
    format!("saw {count} tensors under {}{more}", first.join(", ").escape_debug())
}

pub(super) fn unknown(tensors: &Tensors, reason: &str) -> Error {
    Error::UnknownNetwork(format!("{}: {reason}", tensors.checkpoint().path().display()))
}
