//! transformers' names: `mobilenet_v1.layer.3.convolution`, `mobilenet_v2.layer.3.conv_3x3`.

use super::{
    builder::{Dilated, Rules},
    checkpoint::Checkpoint,
    config::Config,
    library::Known,
    preprocessing::{Centre, Colours, Filter, Grid, HALF, PerChannel, Preprocessing, Resize},
    skeleton::{Block, Layer, Names, Skeleton},
    table::Table,
    v1, v2,
};
use crate::{
    Result,
    graph::{Activation, Padding},
};

pub(super) static TABLES: &[&Table] = &[&v1::V1, &v2::V2];

/// The image processors' defaults.
const PRESET: Preprocessing = Preprocessing {
    resize: Resize::Short(256),
    filter: Filter::Bilinear,
    crop: Some([224, 224]),
    centre: Centre::Down,
    grid: Grid::Area,
    colours: Colours::Rgb,
    mean: PerChannel::new(&HALF),
    std: PerChannel::new(&HALF),
};

pub(super) static KNOWN: &[Known] = &[
    Known { name: "mobilenet_v1", table: &v1::V1, width: None, presets: &[("default", PRESET)] },
    Known { name: "mobilenet_v2", table: &v2::V2, width: None, presets: &[("default", PRESET)] },
];

/// Whether a checkpoint is named like this.
pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
    checkpoint.has("mobilenet_v1.") || checkpoint.has("mobilenet_v2.")
}

/// TensorFlow's padding and epsilon, unless `config.json` says otherwise.
pub(super) fn rules(config: Option<&Config>) -> Result<Rules> {
    let mut rules = Rules { padding: Padding::Same, epsilon: 1e-3, activation: None, dilated: None };
    let Some(config) = config else { return Ok(rules) };
    if config.flag("tf_padding")? == Some(false) {
        rules.padding = Padding::Symmetric;
    }
    if let Some(epsilon) = config.number("layer_norm_eps")? {
        if epsilon < 0.0 {
            return Err(config.error("layer_norm_eps", format!("cannot be negative: {epsilon}")));
        }
        rules.epsilon = epsilon;
    }
    rules.activation = match config.text("hidden_act")? {
        None => None,
        Some("relu6") => Some(Activation::Relu6),
        Some("relu") => Some(Activation::Relu),
        Some("hardswish") => Some(Activation::HardSwish),
        Some("sigmoid") => Some(Activation::Sigmoid),
        Some("linear") => Some(Activation::Identity),
        Some(other) => return Err(config.error("hidden_act", format!("{other:?} is not supported"))),
    };
    rules.dilated = config.count("output_stride")?.map(|stride| Dilated { stride, at_once: false });
    Ok(rules)
}

/// What `preprocessor_config.json` says, with the image processors' defaults for what it
/// leaves out.
pub(super) fn preprocessing(config: &Config) -> Result<Preprocessing> {
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
    // Pillow's numbers.
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
        return Err(config.error("do_center_crop", "false leaves the input's size open"));
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

/// A size as the processors write it: rows and columns, a shorter side, or, in older files, a
/// number, which is a shorter side or that of a square.
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

/// The classes' names in `config.json`, unless they are the placeholders that transformers
/// fills in.
pub(super) fn labels(config: &Config) -> Result<Option<Vec<String>>> {
    let Some(names) = config.section("id2label")? else { return Ok(None) };
    let count = names.fields().count();
    let names: Option<Vec<String>> =
        (0..count).map(|i| names.get(&i.to_string())?.as_str().map(String::from)).collect();
    let names = names.ok_or_else(|| config.error("id2label", "expected a text for each of 0, 1, 2 ..."))?;
    let placeholders = names.iter().enumerate().all(|(i, name)| *name == format!("LABEL_{i}"));
    Ok((!placeholders).then_some(names))
}

/// The modules that the keys show.
pub(super) fn skeleton(checkpoint: &Checkpoint) -> std::result::Result<Skeleton, String> {
    let v1 = checkpoint.has("mobilenet_v1.");
    let root = if v1 { "mobilenet_v1" } else { "mobilenet_v2" };
    let layers = checkpoint.count(&format!("{root}.layer."));
    let at = |i: usize| format!("{root}.layer.{i}");
    let stem = format!("{root}.conv_stem");
    let blocks = if v1 {
        if !layers.is_multiple_of(2) {
            return Err(format!("{layers} layers are not pairs of depthwise and pointwise ones"));
        }
        let pair = |i| Block {
            windowed: Some(layer(&at(i))),
            project: Some(layer(&at(i + 1))),
            feature: at(i + 1),
            ..Block::default()
        };
        (0..layers).step_by(2).map(pair).collect()
    } else {
        // The stem holds the first block as well, which never adds.
        let first = Block { sum: None, ..block(checkpoint, stem.clone()) };
        std::iter::once(first).chain((0..layers).map(|i| block(checkpoint, at(i)))).collect()
    };
    let stem = if v1 { stem } else { format!("{stem}.first_conv") };
    let head = (!v1).then(|| format!("{root}.conv_1x1"));
    Ok(Skeleton {
        stem: layer(&stem),
        stem_feature: stem,
        blocks,
        stages: None,
        collapses: false,
        head: head.iter().map(|name| layer(name)).collect(),
        head_feature: head,
        top: Names::Classifier {
            pool: format!("{root}.pooler"),
            hidden: None,
            classifier: Layer { conv: "classifier".into(), linear: true, ..Layer::default() },
        },
    })
}

fn layer(prefix: &str) -> Layer {
    Layer {
        conv: format!("{prefix}.convolution"),
        linear: false,
        norm: Some(format!("{prefix}.normalization")),
        activation: Some(format!("{prefix}.activation")),
    }
}

fn block(checkpoint: &Checkpoint, name: String) -> Block {
    let part = |part: &str| layer(&format!("{name}.{part}"));
    Block {
        expand: checkpoint.has(&format!("{name}.expand_1x1.")).then(|| part("expand_1x1")),
        windowed: Some(part("conv_3x3")),
        project: Some(part("reduce_1x1")),
        feature: name.clone(),
        sum: Some(name),
        ..Block::default()
    }
}
