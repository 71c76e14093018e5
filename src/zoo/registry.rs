//! Every library and every family: a line each.

use super::{
    known::{Arch, Known},
    library::Library,
    ofa, resnet,
    table::Table,
    timm, torchvision, transformers, v1, v2, v3, v4,
};
use crate::{
    Error, Result,
    checkpoint::{Anchor, Tensors},
};

/// Asked in this order whose names a checkpoint has.
pub(super) static LIBRARIES: [&Library; 4] =
    [&torchvision::LIBRARY, &timm::LIBRARY, &transformers::LIBRARY, &ofa::LIBRARY];

/// Their networks, a family's together. Where keys fit two, the first is taken.
static FAMILIES: [&[Known]; 5] = [v1::KNOWN, v2::KNOWN, v3::KNOWN, v4::KNOWN, resnet::KNOWN];

/// The tensors that networks begin with, in all libraries.
pub(super) fn anchors() -> Vec<Anchor> {
    LIBRARIES.iter().flat_map(|library| library.anchors).copied().collect()
}

/// The library whose names the tensors have.
pub(super) fn library(tensors: &Tensors) -> Option<&'static Library> {
    LIBRARIES.into_iter().find(|library| (library.recognises)(tensors))
}

/// The networks that a library knows by name.
pub(super) fn known(library: &'static str) -> impl Iterator<Item = &'static Known> + Clone {
    FAMILIES.into_iter().flatten().filter(move |known| known.library == library)
}

/// The structures that a library has, each once.
pub(super) fn tables(library: &'static str) -> Vec<&'static Table> {
    let mut tables: Vec<&'static Table> = Vec::new();
    for known in known(library) {
        if !tables.iter().any(|table| std::ptr::eq(*table, known.table)) {
            tables.push(known.table);
        }
    }
    tables
}

/// The network of a library's name, with or without a tag behind a dot.
///
/// # Errors
/// [`Error::UnknownNetwork`] naming those that there are.
pub(super) fn arch_of(library: &'static str, name: &str) -> Result<Arch> {
    let (name, tag) = name.split_once('.').map_or((name, None), |(name, tag)| (name, Some(tag)));
    let Some(found) = known(library).find(|known| known.name == name) else {
        if let Some(why) = outside(name) {
            return Err(Error::UnknownNetwork(format!("{library}/{} {why}", name.escape_debug())));
        }
        let mut names: Vec<&str> = known(library).map(|known| known.name).collect();
        names.dedup();
        let name = name.escape_debug();
        return Err(Error::UnknownNetwork(format!(
            "{library} has no {name} here; known are {}",
            names.join(", ")
        )));
    };
    let preset = match tag {
        None | Some("DEFAULT") => None,
        Some(tag) => match found.presets.iter().find(|preset| preset.tag == tag) {
            Some(preset) => Some(preset),
            None => {
                let tags: Vec<&str> = found.presets.iter().map(|preset| preset.tag).collect();
                let (tag, tags) = (tag.escape_debug(), tags.join(", "));
                return Err(Error::UnknownNetwork(format!(
                    "{library}/{name} has no tag {tag}; known are {tags}"
                )));
            }
        },
    };
    Ok(Arch { known: found, preset })
}

/// Takes `library/name` or `library/name.tag` apart.
///
/// # Errors
/// As [`arch_of`].
pub(super) fn arch(text: &str) -> Result<Arch> {
    let (library, name) = text.split_once('/').unwrap_or(("", text));
    match LIBRARIES.into_iter().find(|known| known.name == library) {
        Some(library) => arch_of(library.name, name),
        None => Err(Error::UnknownNetwork(format!(
            "{} is no name like torchvision/mobilenet_v2, timm/mobilenetv3_large_100 or transformers/mobilenet_v1",
            text.escape_debug()
        ))),
    }
}

/// The network of `library`'s that a file's name speaks of, the longest of several: published files are
/// named so, and end in a hash that tells which of several trainings they are.
pub(super) fn in_file_name(library: &'static str, stem: &str) -> Option<Arch> {
    let bounded = |name: &str| {
        stem.match_indices(name).any(|(at, _)| {
            let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
            edge(stem[..at].chars().next_back()) && edge(stem[at + name.len()..].chars().next())
        })
    };
    let found = known(library).filter(|known| bounded(known.name)).max_by_key(|known| known.name.len())?;
    let end = stem.rsplit(['-', '_']).next().unwrap_or_default();
    let tagged = stem.split_once(found.name).and_then(|(_, rest)| rest.strip_prefix('.'));
    let preset = found.presets.iter().find(|p| p.hashes.contains(&end) || tagged == Some(p.tag));
    Some(Arch { known: found, preset })
}

/// Why a name that people know has no network here.
pub(crate) fn outside(name: &str) -> Option<&'static str> {
    let kinds: [(&str, &str); 7] = [
        ("mobilenetv4_hybrid", "is MobileNetV4 Hybrid, which has attention: it is not run here"),
        ("mobilenet_edgetpu", "is MobileNet-EdgeTPU, of other blocks: it is not run here"),
        ("mobilenetv5", "is MobileNetV5, which has attention: it is not run here"),
        ("efficientnet", "is EfficientNet, of other blocks: it is not run here"),
        ("mobilevit", "is MobileViT, which has attention: it is not run here"),
        ("ghostnet", "is GhostNet, of other blocks: it is not run here"),
        ("fbnet", "is FBNet, of other blocks: it is not run here"),
    ];
    kinds.into_iter().find(|(start, _)| name.trim_start_matches("tf_").starts_with(start)).map(|(_, why)| why)
}
