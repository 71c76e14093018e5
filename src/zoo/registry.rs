//! The supported libraries, and their networks by family.

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

/// All libraries. The first one that recognises the tensor names is used.
pub(super) static LIBRARIES: [&Library; 4] =
    [&torchvision::LIBRARY, &timm::LIBRARY, &transformers::LIBRARY, &ofa::LIBRARY];

/// The libraries' networks by family. If keys fit several, the first is used.
static FAMILIES: [&[Known]; 5] = [v1::KNOWN, v2::KNOWN, v3::KNOWN, v4::KNOWN, resnet::KNOWN];

/// The anchors of all libraries.
pub(super) fn anchors() -> Vec<Anchor> {
    LIBRARIES.iter().flat_map(|library| library.anchors).copied().collect()
}

/// The library that recognises the tensors' names.
pub(super) fn library(tensors: &Tensors) -> Option<&'static Library> {
    LIBRARIES.into_iter().find(|library| (library.recognises)(tensors))
}

/// The named networks of a library.
pub(super) fn known(library: &'static str) -> impl Iterator<Item = &'static Known> + Clone {
    FAMILIES.into_iter().flatten().filter(move |known| known.library == library)
}

/// The tables of a library's networks, without duplicates.
pub(super) fn tables(library: &'static str) -> Vec<&'static Table> {
    let mut tables: Vec<&'static Table> = Vec::new();
    for known in known(library) {
        if !tables.iter().any(|table| std::ptr::eq(*table, known.table)) {
            tables.push(known.table);
        }
    }
    tables
}

/// Parses a library's network name, with an optional tag after a dot.
///
/// # Errors
/// [`Error::UnknownNetwork`] with the known names or tags.
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
            "{library} has no supported network {name}; the supported ones are {}",
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
                    "{library}/{name} has no tag {tag}; the known tags are {tags}"
                )));
            }
        },
    };
    Ok(Arch { known: found, preset })
}

/// Parses `library/name` or `library/name.tag`.
///
/// # Errors
/// As [`arch_of`].
pub(super) fn arch(text: &str) -> Result<Arch> {
    let (library, name) = text.split_once('/').unwrap_or(("", text));
    match LIBRARIES.into_iter().find(|known| known.name == library) {
        Some(library) => arch_of(library.name, name),
        None => Err(Error::UnknownNetwork(format!(
            "{} is not a known library/name, such as torchvision/mobilenet_v2, timm/mobilenetv3_large_100 or \
             transformers/mobilenet_v1",
            text.escape_debug()
        ))),
    }
}

/// The network of `library` whose name is part of a file name; the longest name if several are. Published
/// files are named this way, and end in a hash that identifies the preset.
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

/// Explains why a well-known network is not supported.
pub(crate) fn outside(name: &str) -> Option<&'static str> {
    let kinds: [(&str, &str); 7] = [
        ("mobilenetv4_hybrid", "is MobileNetV4 Hybrid, which has attention: not supported"),
        ("mobilenet_edgetpu", "is MobileNet-EdgeTPU, which has other blocks: not supported"),
        ("mobilenetv5", "is MobileNetV5, which has attention: not supported"),
        ("efficientnet", "is EfficientNet, which has other blocks: not supported"),
        ("mobilevit", "is MobileViT, which has attention: not supported"),
        ("ghostnet", "is GhostNet, which has other blocks: not supported"),
        ("fbnet", "is FBNet, which has other blocks: not supported"),
    ];
    kinds.into_iter().find(|(start, _)| name.trim_start_matches("tf_").starts_with(start)).map(|(_, why)| why)
}
