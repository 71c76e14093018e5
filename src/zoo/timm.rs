//! timm's names: `blocks.1.0.conv_dw`, `blocks.1.0.bn2`.

use super::{
    builder::Rules,
    checkpoint::Checkpoint,
    config::Config,
    library::Known,
    preprocessing::{
        Centre, Colours, Filter, Grid, HALF, IMAGENET_MEAN, IMAGENET_STD, PerChannel, Preprocessing, Resize,
    },
    skeleton::{Block, Layer, Names, Skeleton, Squeeze},
    table::Table,
    v1, v2, v3, v4,
};
use crate::{Result, graph::Padding};

pub(super) static TABLES: &[&Table] = &[
    &v1::V1,
    &v1::V1_HEAD,
    &v2::V2,
    // Before the published one, which it would otherwise pass for with a bias missing.
    &v3::LARGE_RW,
    &v3::LARGE,
    &v3::SMALL,
    &v3::LARGE_MINIMALISTIC,
    &v3::SMALL_MINIMALISTIC,
    &v4::CONV_SMALL,
    &v4::CONV_MEDIUM,
    &v4::CONV_LARGE,
];

const IMAGENET: [&[f32]; 2] = [&IMAGENET_MEAN, &IMAGENET_STD];
const HALVES: [&[f32]; 2] = [&HALF, &HALF];
/// 0..=1 left as it is.
const UNIT: [&[f32]; 2] = [&[0.0], &[1.0]];

/// Size 224 and a crop share of 0.875.
const BICUBIC: Preprocessing = preset(224, 256, Filter::Bicubic, IMAGENET);
const BILINEAR: Preprocessing = preset(224, 256, Filter::Bilinear, IMAGENET);
const TF: Preprocessing = preset(224, 256, Filter::Bilinear, HALVES);
const MIIL: Preprocessing = preset(224, 256, Filter::Bilinear, UNIT);
const RA4: Preprocessing = preset(224, 256, Filter::Bicubic, HALVES);
/// With shares 0.9 and 0.95, and the latter at size 256.
const RA4_90: Preprocessing = preset(224, 248, Filter::Bicubic, HALVES);
const RA4_95: Preprocessing = preset(224, 235, Filter::Bicubic, HALVES);
const RA4_256: Preprocessing = preset(256, 269, Filter::Bilinear, HALVES);
/// V4's: shares of 0.95 and, at sizes that are not tuned further, 1.
const V4_224: Preprocessing = preset(224, 235, Filter::Bicubic, IMAGENET);
const V4_256: Preprocessing = preset(256, 269, Filter::Bicubic, IMAGENET);
const V4_256_HALVES: Preprocessing = preset(256, 269, Filter::Bicubic, HALVES);
const V4_384: Preprocessing = preset(384, 404, Filter::Bicubic, IMAGENET);
const V4_384_WHOLE: Preprocessing = preset(384, 384, Filter::Bicubic, IMAGENET);

/// `short` is the size over the crop share, rounded down.
const fn preset(size: usize, short: usize, filter: Filter, statistics: [&'static [f32]; 2]) -> Preprocessing {
    Preprocessing {
        resize: Resize::Short(short),
        filter,
        crop: Some([size, size]),
        centre: Centre::HalfToEven,
        grid: Grid::Area,
        colours: Colours::Rgb,
        mean: PerChannel::new(statistics[0]),
        std: PerChannel::new(statistics[1]),
    }
}

const fn known(
    name: &'static str,
    table: &'static Table,
    width: usize,
    presets: &'static [(&'static str, Preprocessing)],
) -> Known {
    Known { name, table, width: Some(width), presets }
}

/// timm 1.0.31's networks, the channels of their last block, and what each tag wants of a
/// picture, the default tag first. Where keys fit two names, the first is assumed.
pub(super) static KNOWN: &[Known] = &[
    known("mobilenetv1_100", &v1::V1, 1024, &[("ra4_e3600_r224_in1k", RA4)]),
    known("mobilenetv1_100h", &v1::V1_HEAD, 1024, &[("ra4_e3600_r224_in1k", RA4)]),
    known("mobilenetv1_125", &v1::V1, 1280, &[("ra4_e3600_r224_in1k", RA4_90)]),
    known("mobilenetv2_035", &v2::V2, 112, &[("untrained", BICUBIC)]),
    known("mobilenetv2_050", &v2::V2, 160, &[("lamb_in1k", BICUBIC)]),
    known("mobilenetv2_075", &v2::V2, 240, &[("untrained", BICUBIC)]),
    known("mobilenetv2_100", &v2::V2, 320, &[("ra_in1k", BICUBIC)]),
    known("mobilenetv2_110d", &v2::V2, 352, &[("ra_in1k", BICUBIC)]),
    known("mobilenetv2_120d", &v2::V2, 384, &[("ra_in1k", BICUBIC)]),
    known("mobilenetv2_140", &v2::V2, 448, &[("ra_in1k", BICUBIC)]),
    known("mobilenetv3_large_075", &v3::LARGE, 120, &[("untrained", BILINEAR)]),
    known(
        "mobilenetv3_large_100",
        &v3::LARGE,
        160,
        &[
            ("ra_in1k", BICUBIC),
            ("ra4_e3600_r224_in1k", RA4_95),
            ("miil_in21k_ft_in1k", MIIL),
            ("miil_in21k", MIIL),
        ],
    ),
    known("mobilenetv3_large_150d", &v3::LARGE, 240, &[("ra4_e3600_r256_in1k", RA4_256)]),
    known("mobilenetv3_small_050", &v3::SMALL, 48, &[("lamb_in1k", BICUBIC)]),
    known("mobilenetv3_small_075", &v3::SMALL, 72, &[("lamb_in1k", BICUBIC)]),
    known("mobilenetv3_small_100", &v3::SMALL, 96, &[("lamb_in1k", BICUBIC)]),
    known("mobilenetv3_rw", &v3::LARGE_RW, 160, &[("rmsp_in1k", BICUBIC)]),
    known("mobilenetv4_conv_small_035", &v4::CONV_SMALL, 48, &[("untrained", RA4)]),
    known("mobilenetv4_conv_small_050", &v4::CONV_SMALL, 64, &[("e3000_r224_in1k", RA4)]),
    known(
        "mobilenetv4_conv_small",
        &v4::CONV_SMALL,
        128,
        &[("e2400_r224_in1k", BICUBIC), ("e1200_r224_in1k", BICUBIC), ("e3600_r256_in1k", V4_256_HALVES)],
    ),
    known(
        "mobilenetv4_conv_medium",
        &v4::CONV_MEDIUM,
        256,
        &[
            ("e500_r256_in1k", V4_256),
            ("e500_r224_in1k", V4_224),
            ("e250_r384_in12k_ft_in1k", V4_384),
            ("e180_r384_in12k", V4_384_WHOLE),
            ("e180_ad_r384_in12k", V4_384_WHOLE),
            ("e250_r384_in12k", V4_384_WHOLE),
        ],
    ),
    known(
        "mobilenetv4_conv_large",
        &v4::CONV_LARGE,
        512,
        &[("e600_r384_in1k", V4_384), ("e500_r256_in1k", V4_256)],
    ),
    known("tf_mobilenetv3_large_075", &v3::LARGE, 120, &[("in1k", TF)]),
    known("tf_mobilenetv3_large_100", &v3::LARGE, 160, &[("in1k", TF)]),
    known("tf_mobilenetv3_large_minimal_100", &v3::LARGE_MINIMALISTIC, 160, &[("in1k", TF)]),
    known("tf_mobilenetv3_small_075", &v3::SMALL, 72, &[("in1k", TF)]),
    known("tf_mobilenetv3_small_100", &v3::SMALL, 96, &[("in1k", TF)]),
    known("tf_mobilenetv3_small_minimal_100", &v3::SMALL_MINIMALISTIC, 96, &[("in1k", TF)]),
];

/// Whether a checkpoint is named like this.
pub(super) fn recognises(checkpoint: &Checkpoint) -> bool {
    checkpoint.has("blocks.") && (checkpoint.has("conv_stem.") || checkpoint.has("bn1."))
}

/// Symmetric padding and PyTorch's epsilon, but TensorFlow's of both in networks ported from
/// there; `mobilenetv3_rw` has the epsilon alone.
pub(super) fn rules(name: &str, config: Option<&Config>) -> Result<Rules> {
    let tf = name.starts_with("tf_");
    let rules = Rules {
        padding: if tf { Padding::Same } else { Padding::Symmetric },
        epsilon: if tf || name == "mobilenetv3_rw" { 1e-3 } else { 1e-5 },
        activation: None,
        dilated: None,
    };
    let Some(config) = config else { return Ok(rules) };
    // What the network was made with, where that is not what its name alone gives.
    for (field, value) in config.section("model_args")?.iter().flat_map(Config::fields) {
        let harmless = ["num_classes", "in_chans", "drop_rate", "drop_path_rate", "img_size"];
        if !harmless.contains(&field) && (field, value) != ("global_pool", &"avg".into()) {
            return Err(config.error("model_args", format!("{field} = {value} is not supported")));
        }
    }
    match config.text("global_pool")? {
        None | Some("avg") => Ok(rules),
        Some(other) => Err(config.error("global_pool", format!("{other:?} is not supported"))),
    }
}

/// What a hub's `config.json` says of pictures, with timm's defaults for what it leaves out.
pub(super) fn preprocessing(config: &Config) -> Result<Preprocessing> {
    // Older files hold these fields themselves.
    let config = &config.section("pretrained_cfg")?.unwrap_or_else(|| config.clone());
    let size = config.counts::<3>("input_size")?.map_or([224, 224], |[_, rows, columns]| [rows, columns]);
    let filter = match config.text("interpolation")?.unwrap_or("bicubic") {
        "nearest" => Filter::Nearest,
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        "lanczos" => Filter::Lanczos,
        other => return Err(config.error("interpolation", format!("{other:?} is not supported"))),
    };
    let share = config.number("crop_pct")?.filter(|share| *share != 0.0).unwrap_or(0.875);
    if !(0.01..=1.0).contains(&share) {
        return Err(config.error("crop_pct", format!("expected a share of 1, found {share}")));
    }
    let [rows, columns] = size.map(|n| (n as f64 / share).floor() as usize);
    let resize = match config.text("crop_mode")?.unwrap_or("center") {
        "center" if rows == columns => Resize::Short(rows),
        "center" => return Err(config.error("input_size", "a size that is not square is not supported")),
        "squash" => Resize::Exact([rows, columns]),
        other => return Err(config.error("crop_mode", format!("{other:?} is not supported"))),
    };
    Ok(Preprocessing {
        resize,
        filter,
        // What is scaled to the size itself has nothing to cut.
        crop: (resize != Resize::Exact(size)).then_some(size),
        centre: Centre::HalfToEven,
        grid: Grid::Area,
        colours: Colours::Rgb,
        mean: config.numbers("mean")?.map_or(PerChannel::new(&IMAGENET_MEAN), |v| PerChannel::new(&v)),
        std: config.numbers("std")?.map_or(PerChannel::new(&IMAGENET_STD), |v| PerChannel::new(&v)),
    })
}

/// The classes' names in a hub's `config.json`: the descriptions where there are some.
pub(super) fn labels(config: &Config) -> Result<Option<Vec<String>>> {
    let inner = config.section("pretrained_cfg")?;
    let field = |name: &str| config.get(name).or_else(|| inner.as_ref().and_then(|inner| inner.get(name)));
    let Some(names) = field("label_names") else { return Ok(None) };
    let names: Option<Vec<String>> =
        names.as_array().and_then(|names| names.iter().map(|v| v.as_str().map(String::from)).collect());
    let names = names.ok_or_else(|| config.error("label_names", "expected a list of texts"))?;
    let descriptions = field("label_descriptions").and_then(|v| v.as_object());
    let describe = |name: String| match descriptions.and_then(|d| d.get(&name)?.as_str()) {
        Some(text) => text.into(),
        None => name,
    };
    Ok(Some(names.into_iter().map(describe).collect()))
}

/// The modules that the keys show.
pub(super) fn skeleton(checkpoint: &Checkpoint) -> Result<Skeleton, String> {
    let (mut blocks, mut stages, mut head) = (Vec::new(), Vec::new(), Vec::new());
    let mut head_feature = None;
    let count = checkpoint.count("blocks.");
    for s in 0..count {
        let repeats = checkpoint.count(&format!("blocks.{s}."));
        let has = |child: &str| checkpoint.has(&format!("blocks.{s}.0.{child}."));
        let plain = has("conv") || (has("bn1") && !has("bn2") && !has("conv_exp"));
        let stage = || format!("blocks.{s}");
        for r in 0..repeats {
            let name = format!("blocks.{s}.{r}");
            let whole = || layer(&format!("{name}.conv"), &format!("{name}.bn1"));
            match plain {
                true if s + 1 == count => {
                    head.push(whole());
                    head_feature = Some(stage());
                }
                true => {
                    let windowed = Some(whole());
                    blocks.push(Block { windowed, sum: Some(name), feature: stage(), ..Block::default() });
                }
                false => blocks.push(Block { feature: stage(), ..block(checkpoint, name)? }),
            }
        }
        if !plain || s + 1 < count {
            stages.push(repeats);
        }
    }
    // V1 and V2 have their last convolution before the pool, V3 and V4 behind it.
    let conv_head = checkpoint.has("conv_head.");
    let early = checkpoint.has("bn2.");
    if early {
        head.push(layer("conv_head", "bn2"));
    }
    // V4's stages hold blocks of many kinds: its table says how many of each.
    let v4 = checkpoint.has("norm_head.") || blocks.iter().any(|block| block.start.is_some());
    let late = match v4 {
        true => layer("conv_head", "norm_head"),
        false => Layer { conv: "conv_head".into(), activation: Some("act2".into()), ..Layer::default() },
    };
    Ok(Skeleton {
        stem: layer("conv_stem", "bn1"),
        stem_feature: "bn1".into(),
        blocks,
        stages: (!v4).then_some(stages),
        collapses: false,
        head,
        head_feature,
        top: Names::Classifier {
            pool: "global_pool".into(),
            hidden: (conv_head && !early).then_some(late),
            classifier: Layer { conv: "classifier".into(), linear: true, ..Layer::default() },
        },
    })
}

/// A convolution and a batch norm that contains the activation.
fn layer(conv: &str, norm: &str) -> Layer {
    Layer { conv: conv.into(), linear: false, norm: Some(norm.into()), activation: None }
}

fn block(checkpoint: &Checkpoint, name: String) -> Result<Block, String> {
    let has = |child: &str| checkpoint.has(&format!("{name}.{child}."));
    let part = |conv: &str, norm: &str| layer(&format!("{name}.{conv}"), &format!("{name}.{norm}"));
    if has("pw_exp") || has("pw_proj") {
        let part = |child: &str| layer(&format!("{name}.{child}.conv"), &format!("{name}.{child}.bn"));
        let windowed = |child: &str| has(child).then(|| part(child));
        return Ok(Block {
            start: windowed("dw_start"),
            expand: Some(part("pw_exp")),
            windowed: windowed("dw_mid"),
            project: Some(part("pw_proj")),
            sum: Some(name),
            ..Block::default()
        });
    }
    if has("conv_exp") {
        return Ok(Block {
            windowed: Some(part("conv_exp", "bn1")),
            project: Some(part("conv_pwl", "bn2")),
            sum: Some(name),
            ..Block::default()
        });
    }
    let inverted = has("conv_pwl") || has("bn3");
    if !inverted && !has("conv_dw") && !has("conv_pw") {
        return Err(format!("{name} is no depthwise-separable block and no inverted residual"));
    }
    let squeeze = has("se").then(|| Squeeze {
        pool: format!("{name}.se.pool"),
        reduce: format!("{name}.se.conv_reduce"),
        activation: format!("{name}.se.act1"),
        expand: format!("{name}.se.conv_expand"),
        gate: format!("{name}.se.gate"),
        whole: format!("{name}.se"),
    });
    let (expand, depthwise, project) = match inverted {
        true => (Some(part("conv_pw", "bn1")), part("conv_dw", "bn2"), part("conv_pwl", "bn3")),
        false => (None, part("conv_dw", "bn1"), part("conv_pw", "bn2")),
    };
    Ok(Block {
        sum: Some(name),
        expand,
        windowed: Some(depthwise),
        squeeze,
        project: Some(project),
        ..Block::default()
    })
}
