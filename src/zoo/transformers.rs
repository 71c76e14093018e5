//! transformers' names: `mobilenet_v1.layer.3.convolution`, `mobilenet_v2.layer.3.conv_3x3`.

use super::{
    known::{Known, Preset},
    library::Library,
    preprocessing::{Centre, Colours, Filter, Grid, HALF, PerChannel, Preprocessing, Resize},
    rules::{Dilated, Rules},
    skeleton::{Block, Layer, Skeleton, TopModules, dense},
    table::Table,
    task::ScoreKind,
    timm,
};
use crate::{
    Result,
    checkpoint::{Anchor, Config, Sourced, Tensors},
    graph::{Activation, Padding},
};

const NAME: &str = "transformers";

pub(super) static LIBRARY: Library = Library {
    name: NAME,
    // A base model, without a head, has no prefix.
    anchors: &[
        Anchor::new("mobilenet_v1.conv_stem.convolution.weight"),
        Anchor::new("mobilenet_v2.conv_stem.first_conv.convolution.weight"),
        Anchor::new("conv_stem.convolution.weight"),
        Anchor::new("conv_stem.first_conv.convolution.weight"),
    ],
    recognises,
    skeleton,
    rules,
    preprocessing,
    labels,
    scores,
};

/// A network of transformers.
pub(super) const fn known(name: &'static str, table: &'static Table, presets: &'static [Preset]) -> Known {
    Known::new(NAME, name, table, presets)
}

/// The defaults of transformers' image processors.
pub(super) const PRESET: Preprocessing = Preprocessing {
    resize: Resize::Short(256),
    filter: Filter::Bilinear,
    crop: Some([224, 224]),
    centre: Centre::Down,
    grid: Grid::Area,
    colours: Colours::Rgb,
    mean: PerChannel::new(&HALF),
    std: PerChannel::new(&HALF),
};

/// The preprocessing of Google's segmenter. A label map is not cropped.
pub(super) const SEGMENTING: Preprocessing =
    Preprocessing { resize: Resize::Short(513), crop: None, ..PRESET };

fn recognises(tensors: &Tensors) -> bool {
    ROOTS
        .iter()
        .any(|(root, _)| tensors.has(&format!("{root}conv_stem.")) && tensors.has(&format!("{root}layer.0.")))
}

/// Prefixes of a network's modules, and true for V1. Base models have no prefix.
const ROOTS: [(&str, Option<bool>); 3] =
    [("mobilenet_v1.", Some(true)), ("mobilenet_v2.", Some(false)), ("", None)];

/// TensorFlow's padding and epsilon, unless `config.json` overrides them.
fn rules(_: &str, table: &Table, _: &Tensors, config: Option<&Config>) -> Result<Rules> {
    let mut rules = Rules::new(NAME, table, 1e-3);
    rules.padding.value = Padding::Same;
    let Some(config) = config else { return Ok(rules) };
    if let Some(same) = config.flag("tf_padding")? {
        let padding = if same { Padding::Same } else { Padding::Symmetric };
        rules.padding = Sourced::new(padding, config.source("tf_padding"));
    }
    rules.epsilon_of(config, "layer_norm_eps")?;
    if let Some(name) = config.text("hidden_act")? {
        let activation = match name {
            "hardswish" => Some(Activation::HardSwish),
            "linear" => Some(Activation::Identity),
            other => Activation::parse(other),
        };
        let Some(activation) = activation else {
            return Err(config.error("hidden_act", format!("{name:?} is not supported")));
        };
        rules.activation = Some(Sourced::new(activation, config.source("hidden_act")));
    }
    if let Some(stride) = config.count("output_stride")? {
        let dilated = Some(Dilated { stride, dilates_first_block: false });
        rules.dilated = Sourced::new(dilated, config.source("output_stride"));
    }
    Ok(rules)
}

fn scores(config: &Config) -> Result<Option<ScoreKind>> {
    timm::problem_type(config)
}

fn preprocessing(_: Option<&Config>, preprocessor: Option<&Config>) -> Result<Option<Preprocessing>> {
    preprocessor.map(read_preprocessing).transpose()
}

/// Reads `preprocessor_config.json`, with the image processors' defaults for missing fields.
fn read_preprocessing(config: &Config) -> Result<Preprocessing> {
    let flag = |field: &str, default| Ok::<_, crate::Error>(config.flag(field)?.unwrap_or(default));
    for unwanted in ["do_pad", "do_flip_channel_order"] {
        if flag(unwanted, false)? {
            return Err(config.error(unwanted, "is not supported"));
        }
    }
    for needed in ["do_resize", "do_rescale"] {
        if !flag(needed, true)? {
            return Err(config.error(needed, "false is not supported"));
        }
    }
    let scale = config.number("rescale_factor")?.unwrap_or(1.0 / 255.0);
    if (scale * 255.0 - 1.0).abs() > 1e-6 {
        return Err(config.error("rescale_factor", format!("{scale} is not supported, only 1/255")));
    }
    // Pillow's constants.
    let filter = match config.get("resample").map(|v| v.as_u64()) {
        None | Some(Some(2)) => Filter::Bilinear,
        Some(Some(0)) => Filter::Nearest,
        Some(Some(1)) => Filter::Lanczos,
        Some(Some(3)) => Filter::Bicubic,
        Some(_) => return Err(config.error("resample", "expected 0, 1, 2 or 3")),
    };
    let crop = flag("do_center_crop", true)?.then(|| size(config, "crop_size")).transpose()?;
    let crop = crop.map(|size| match size {
        None => [224, 224],
        Some(Resize::Short(side)) => [side, side],
        Some(Resize::Exact(size)) => size,
    });
    let resize = size(config, "size")?.unwrap_or(Resize::Short(256));
    if crop.is_none() && matches!(resize, Resize::Short(_)) {
        return Err(config.error("do_center_crop", "false leaves the input size undefined"));
    }
    let normal = flag("do_normalize", true)?;
    let colour = |field, otherwise| match normal {
        true => Ok(config.numbers(field)?.map_or(PerChannel::new(&HALF), |v| PerChannel::new(&v))),
        false => Ok::<_, crate::Error>(PerChannel::new(&[otherwise])),
    };
    let (mean, std) = (colour("image_mean", 0.0)?, colour("image_std", 1.0)?);
    let (grid, colours) = (Grid::Area, Colours::Rgb);
    Ok(Preprocessing { resize, filter, grid, crop, centre: Centre::Down, colours, mean, std })
}

/// Parses a size: rows and columns, or the shorter side. Older files have a single number for the shorter
/// side or for both sides of a square.
fn size(config: &Config, field: &str) -> Result<Option<Resize>> {
    if config.get(field).is_some_and(|v| v.is_number()) {
        return Ok(config.count(field)?.map(Resize::Short));
    }
    let Some(size) = config.section(field)? else { return Ok(None) };
    if let Some(other) =
        size.fields().find(|(name, v)| !v.is_null() && !["height", "width", "shortest_edge"].contains(name))
    {
        return Err(config.error(field, format!("{} is not supported", other.0)));
    }
    match (size.count("shortest_edge")?, size.count("height")?, size.count("width")?) {
        (Some(side), None, None) => Ok(Some(Resize::Short(side))),
        (None, Some(rows), Some(columns)) => Ok(Some(Resize::Exact([rows, columns]))),
        _ => Err(config.error(field, "expected shortest_edge, or height and width")),
    }
}

/// Reads the class names from `config.json`, unless they are transformers' placeholders.
fn labels(config: &Config) -> Result<Option<Vec<String>>> {
    let Some(names) = config.section("id2label")? else { return Ok(None) };
    let count = names.fields().count();
    let names: Option<Vec<String>> =
        (0..count).map(|i| names.get(&i.to_string())?.as_str().map(String::from)).collect();
    let names = names.ok_or_else(|| config.error("id2label", "expected a string for each of 0, 1, 2 ..."))?;
    let placeholders = names.iter().enumerate().all(|(i, name)| *name == format!("LABEL_{i}"));
    Ok((!placeholders).then_some(names))
}

/// The modules that the keys show.
fn skeleton(tensors: &Tensors) -> std::result::Result<Skeleton, String> {
    let (root, v1) =
        ROOTS.into_iter().find(|(root, _)| tensors.has(&format!("{root}conv_stem."))).unwrap_or(ROOTS[2]);
    let v1 = v1.unwrap_or_else(|| tensors.has("conv_stem.convolution."));
    let layers = tensors.count(&format!("{root}layer."));
    let at = |i: usize| format!("{root}layer.{i}");
    let stem = format!("{root}conv_stem");
    let blocks = if v1 {
        if !layers.is_multiple_of(2) {
            return Err(format!("{layers} layers do not form pairs of depthwise and pointwise layers"));
        }
        let pair = |i| Block {
            spatial: Some(layer(&at(i))),
            project: Some(layer(&at(i + 1))),
            feature: at(i + 1),
            ..Block::default()
        };
        (0..layers).step_by(2).map(pair).collect()
    } else {
        // The stem module also contains the first block, which never adds.
        let first = Block { sum: None, ..block(tensors, stem.clone()) };
        std::iter::once(first).chain((0..layers).map(|i| block(tensors, at(i)))).collect()
    };
    let stem = if v1 { stem } else { format!("{stem}.first_conv") };
    let head = (!v1).then(|| format!("{root}conv_1x1"));
    Ok(Skeleton {
        stem: layer(&stem),
        stem_feature: stem,
        blocks,
        stages: None,
        expand_optional: false,
        hidden_in_classifier: false,
        head: head.iter().map(|name| layer(name)).collect(),
        head_feature: head,
        top: if tensors.has("segmentation_head.") {
            TopModules::DeepLabV3Plus
        } else {
            TopModules::Classifier {
                pool: format!("{root}pooler"),
                hidden: None,
                dense: dense(tensors, "classifier", None)?,
            }
        },
    })
}

pub(super) fn layer(prefix: &str) -> Layer {
    Layer {
        conv: format!("{prefix}.convolution"),
        norm: Some(format!("{prefix}.normalization")),
        activation: Some(format!("{prefix}.activation")),
        ..Layer::default()
    }
}

fn block(tensors: &Tensors, name: String) -> Block {
    let part = |part: &str| layer(&format!("{name}.{part}"));
    Block {
        expand: tensors.has(&format!("{name}.expand_1x1.")).then(|| part("expand_1x1")),
        spatial: Some(part("conv_3x3")),
        project: Some(part("reduce_1x1")),
        feature: name.clone(),
        sum: Some(name),
        ..Block::default()
    }
}
