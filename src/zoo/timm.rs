//! timm's names: `blocks.1.0.conv_dw`, `blocks.1.0.bn2`.

use super::{
    known::{Known, Preset},
    library::Library,
    preprocessing::{
        Centre, Colours, Filter, Grid, HALF, IMAGENET_MEAN, IMAGENET_STD, PerChannel, Preprocessing, Resize,
    },
    rules::{Dilated, Rules},
    skeleton::{Block, Layer, Skeleton, Squeeze, TopModules, dense},
    table::{Antialias, Table},
    task::ScoreKind,
};
use crate::{
    Result,
    checkpoint::{Anchor, Config, Sourced, Tensors},
    graph::{Activation, Padding},
};

const NAME: &str = "timm";

pub(super) static LIBRARY: Library = Library {
    name: NAME,
    anchors: &[Anchor::new("conv_stem.weight")],
    recognises,
    skeleton,
    rules,
    preprocessing,
    labels,
    scores,
};

const IMAGENET: [&[f32]; 2] = [&IMAGENET_MEAN, &IMAGENET_STD];
const HALVES: [&[f32]; 2] = [&HALF, &HALF];
/// Leaves 0..=1 unchanged.
const UNIT: [&[f32]; 2] = [&[0.0], &[1.0]];

/// Size 224 and a crop fraction of 0.875.
pub(super) const BICUBIC: Preprocessing = preset(224, 256, Filter::Bicubic, IMAGENET);
pub(super) const BILINEAR: Preprocessing = preset(224, 256, Filter::Bilinear, IMAGENET);
pub(super) const TF: Preprocessing = preset(224, 256, Filter::Bilinear, HALVES);
pub(super) const MIIL: Preprocessing = preset(224, 256, Filter::Bilinear, UNIT);
pub(super) const RA4: Preprocessing = preset(224, 256, Filter::Bicubic, HALVES);
/// The crop fraction is 0.9, and 0.95 in the next two.
pub(super) const RA4_90: Preprocessing = preset(224, 248, Filter::Bicubic, HALVES);
pub(super) const RA4_95: Preprocessing = preset(224, 235, Filter::Bicubic, HALVES);
pub(super) const RA4_256: Preprocessing = preset(256, 269, Filter::Bilinear, HALVES);
/// V4's crop fraction is 0.95, and 1 in `V4_384_WHOLE`.
pub(super) const V4_224: Preprocessing = preset(224, 235, Filter::Bicubic, IMAGENET);
pub(super) const V4_256: Preprocessing = preset(256, 269, Filter::Bicubic, IMAGENET);
pub(super) const V4_256_HALVES: Preprocessing = preset(256, 269, Filter::Bicubic, HALVES);
pub(super) const V4_384: Preprocessing = preset(384, 404, Filter::Bicubic, IMAGENET);
pub(super) const V4_448: Preprocessing = preset(448, 471, Filter::Bicubic, IMAGENET);
pub(super) const V4_384_WHOLE: Preprocessing = preset(384, 384, Filter::Bicubic, IMAGENET);

/// `short` is the size divided by the crop fraction, rounded down.
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

/// A network of timm 1.0.31, with its width multiplier.
pub(super) const fn known(
    name: &'static str,
    table: &'static Table,
    width: f64,
    presets: &'static [Preset],
) -> Known {
    Known { width: Some(width), ..Known::new(NAME, name, table, presets) }
}

fn recognises(tensors: &Tensors) -> bool {
    tensors.has("blocks.") && (tensors.has("conv_stem.") || tensors.has("bn1."))
}

/// By default symmetric padding and PyTorch's epsilon. Networks ported from TensorFlow have TensorFlow's
/// padding and epsilon; `mobilenetv3_rw` has only TensorFlow's epsilon.
fn rules(name: &str, table: &Table, _: &Tensors, config: Option<&Config>) -> Result<Rules> {
    let tf = name.starts_with("tf_");
    let epsilon = if tf || name == "mobilenetv3_rw" { 1e-3 } else { 1e-5 };
    let mut rules = Rules::new(NAME, table, epsilon);
    if tf {
        rules.padding.value = Padding::Same;
    }
    let Some(config) = config else { return Ok(rules) };
    if let Some(args) = config.section("model_args")? {
        apply_model_args(&mut rules, &args)?;
    }
    match config.text("global_pool")? {
        None | Some("avg" | "") => Ok(rules),
        Some(other) => Err(config.error("global_pool", format!("{other:?} is not supported"))),
    }
}

/// Applies `model_args`: those arguments of the network's creation that differ from the defaults of its name.
fn apply_model_args(rules: &mut Rules, args: &Config) -> Result<()> {
    const HARMLESS: [&str; 11] = [
        "num_classes",
        "in_chans",
        "drop_rate",
        "drop_path_rate",
        "img_size",
        "features_only",
        "out_indices",
        "pretrained",
        "scriptable",
        "exportable",
        "checkpoint_path",
    ];
    for (field, value) in args.fields().filter(|(field, value)| !value.is_null() && !HARMLESS.contains(field))
    {
        let unsupported = || Err(args.error("model_args", format!("{field} = {value} is not supported")));
        let from = args.source(&format!("model_args.{field}"));
        match (field, value.as_str(), value.as_f64()) {
            ("global_pool", Some("avg" | ""), _) => {}
            ("output_stride", _, Some(stride)) if [2.0, 4.0, 8.0, 16.0, 32.0].contains(&stride) => {
                let dilated = Dilated { stride: stride as usize, dilates_first_block: false };
                rules.dilated = Sourced::new(Some(dilated), from);
            }
            ("act_layer", Some(name), _) => match activation(name) {
                Some(activation) => rules.activation = Some(Sourced::new(activation, from)),
                None => return unsupported(),
            },
            ("pad_type", Some(kind), _) => match kind {
                "" | "symmetric" => rules.padding = Sourced::new(Padding::Symmetric, from),
                "same" => rules.padding = Sourced::new(Padding::Same, from),
                _ => return unsupported(),
            },
            ("aa_layer", Some(kind), _) => match kind {
                "avg" | "avgpool" => rules.antialias = Sourced::new(Antialias::Average, from),
                "blurpc" => rules.antialias = Sourced::new(Antialias::Blur, from),
                _ => return unsupported(),
            },
            ("bn_eps", _, Some(epsilon)) if (0.0..1.0).contains(&epsilon) => {
                rules.epsilon = Sourced::new(epsilon, from);
            }
            ("bn_tf", ..) if value == true => rules.epsilon = Sourced::new(1e-3, from),
            ("bn_tf", ..) if value == false => {}
            _ => return unsupported(),
        }
    }
    Ok(())
}

/// Parses timm's name of an activation.
fn activation(name: &str) -> Option<Activation> {
    match name {
        "hard_swish" | "hardswish" => Some(Activation::HardSwish),
        "hard_sigmoid" | "hardsigmoid" => Some(Activation::HardSigmoid),
        other => Activation::parse(other),
    }
}

fn preprocessing(config: Option<&Config>, _: Option<&Config>) -> Result<Option<Preprocessing>> {
    config.map(read_preprocessing).transpose()
}

/// Reads transformers' `problem_type`, since timm has no such field.
fn scores(config: &Config) -> Result<Option<ScoreKind>> {
    problem_type(config)
}

/// Parses transformers' `problem_type`.
pub(super) fn problem_type(config: &Config) -> Result<Option<ScoreKind>> {
    match config.text("problem_type")? {
        None => Ok(None),
        Some("single_label_classification") => Ok(Some(ScoreKind::Softmax)),
        Some("multi_label_classification") => Ok(Some(ScoreKind::Sigmoid)),
        Some("regression") => Ok(Some(ScoreKind::None)),
        Some(other) => Err(config.error("problem_type", format!("{other:?} is not known"))),
    }
}

/// Reads the preprocessing from the hub's `config.json`, with timm's defaults for missing fields.
pub(super) fn read_preprocessing(config: &Config) -> Result<Preprocessing> {
    // Older files have these fields at the top level.
    let config = &config.section("pretrained_cfg")?.unwrap_or_else(|| config.clone());
    let size = config.counts::<3>("input_size")?.map_or([224, 224], |[_, rows, columns]| [rows, columns]);
    let colours = match config.text("input_img_mode")? {
        None | Some("RGB") => Colours::Rgb,
        Some("L") => Colours::Grey,
        Some(other) => return Err(config.error("input_img_mode", format!("{other:?} is not supported"))),
    };
    let filter = match config.text("interpolation")?.unwrap_or("bicubic") {
        "nearest" => Filter::Nearest,
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        "lanczos" => Filter::Lanczos,
        other => return Err(config.error("interpolation", format!("{other:?} is not supported"))),
    };
    let fraction = config.number("crop_pct")?.filter(|fraction| *fraction != 0.0).unwrap_or(0.875);
    if !(0.01..=1.0).contains(&fraction) {
        return Err(config.error("crop_pct", format!("expected a fraction from 0.01 to 1, found {fraction}")));
    }
    let [rows, columns] = size.map(|n| (n as f64 / fraction).floor() as usize);
    let resize = match config.text("crop_mode")?.unwrap_or("center") {
        "center" if rows == columns => Resize::Short(rows),
        "center" => return Err(config.error("input_size", "only square sizes are supported")),
        "squash" => Resize::Exact([rows, columns]),
        other => return Err(config.error("crop_mode", format!("{other:?} is not supported"))),
    };
    Ok(Preprocessing {
        resize,
        filter,
        // No crop if the picture is resized to exactly this size.
        crop: (resize != Resize::Exact(size)).then_some(size),
        centre: Centre::HalfToEven,
        grid: Grid::Area,
        colours,
        mean: config.numbers("mean")?.map_or(PerChannel::new(&IMAGENET_MEAN), |v| PerChannel::new(&v)),
        std: config.numbers("std")?.map_or(PerChannel::new(&IMAGENET_STD), |v| PerChannel::new(&v)),
    })
}

/// Reads the class names from the hub's `config.json`, or their descriptions if there are any.
fn labels(config: &Config) -> Result<Option<Vec<String>>> {
    let inner = config.section("pretrained_cfg")?;
    let field = |name: &str| config.get(name).or_else(|| inner.as_ref().and_then(|inner| inner.get(name)));
    let Some(names) = field("label_names") else { return Ok(None) };
    let names: Option<Vec<String>> =
        names.as_array().and_then(|names| names.iter().map(|v| v.as_str().map(String::from)).collect());
    let names = names.ok_or_else(|| config.error("label_names", "expected a list of strings"))?;
    let descriptions = field("label_descriptions").and_then(|v| v.as_object());
    let describe = |name: String| match descriptions.and_then(|d| d.get(&name)?.as_str()) {
        Some(text) => text.into(),
        None => name,
    };
    Ok(Some(names.into_iter().map(describe).collect()))
}

fn skeleton(tensors: &Tensors) -> Result<Skeleton, String> {
    if let Some(key) = tensors.keys().find(|key| key.contains(".attn.")) {
        return Err(format!("has attention ({key}), as in MobileNetV4 Hybrid, which is not supported"));
    }
    let (mut blocks, mut stages, mut head) = (Vec::new(), Vec::new(), Vec::new());
    let mut head_feature = None;
    let count = tensors.count("blocks.");
    for s in 0..count {
        let repeats = tensors.count(&format!("blocks.{s}."));
        let has = |child: &str| tensors.has(&format!("blocks.{s}.0.{child}."));
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
                    let spatial = Some(Layer { filter: Some(format!("{name}.aa")), ..whole() });
                    blocks.push(Block { spatial, sum: Some(name), feature: stage(), ..Block::default() });
                }
                false => blocks.push(Block { feature: stage(), ..block(tensors, name)? }),
            }
        }
        if !plain || s + 1 < count {
            stages.push(repeats);
        }
    }
    // V4's stages contain several kinds of blocks, which its table lists.
    let part = |part: &str| tensors.keys().any(|key| key.contains(part));
    let v4 = tensors.has("norm_head.") || part(".pw_exp.") || part(".pw_proj.");
    if !v4 && blocks.iter().filter(|block| is_fused(block)).count() > 1 {
        return Err(
            "has fused inverted bottlenecks in several stages, as in MobileNet-EdgeTPU: not supported".into(),
        );
    }
    // V1 and V2 have their last convolution before the pool. V3 and V4 have it after the pool, and one more
    // among the blocks.
    let conv_head = tensors.has("conv_head.") || tensors.has("bn2.");
    let early = conv_head && head.is_empty();
    if early {
        head.push(layer("conv_head", "bn2"));
    }
    let late = match v4 {
        true => layer("conv_head", "norm_head"),
        false => Layer { conv: "conv_head".into(), activation: Some("act2".into()), ..Layer::default() },
    };
    Ok(Skeleton {
        stem: layer("conv_stem", "bn1"),
        stem_feature: "bn1".into(),
        blocks,
        stages: (!v4).then_some(stages),
        expand_optional: false,
        hidden_in_classifier: false,
        head,
        head_feature,
        top: TopModules::Classifier {
            pool: "global_pool".into(),
            hidden: (conv_head && !early).then_some(late),
            dense: dense(tensors, "classifier", None)?,
        },
    })
}

/// True for a dense expansion convolution with a pointwise projection.
fn is_fused(block: &Block) -> bool {
    block.spatial.as_ref().is_some_and(|layer| layer.conv.ends_with(".conv_exp"))
}

/// A convolution, and a batch norm that contains the activation.
fn layer(conv: &str, norm: &str) -> Layer {
    Layer { conv: conv.into(), norm: Some(norm.into()), ..Layer::default() }
}

fn block(tensors: &Tensors, name: String) -> Result<Block, String> {
    let has = |child: &str| tensors.has(&format!("{name}.{child}."));
    let part = |conv: &str, norm: &str| layer(&format!("{name}.{conv}"), &format!("{name}.{norm}"));
    let filtered = |layer: Layer, module: String| Layer { filter: Some(format!("{module}.aa")), ..layer };
    if has("pw_exp") || has("pw_proj") {
        let part = |child: &str| layer(&format!("{name}.{child}.conv"), &format!("{name}.{child}.bn"));
        let spatial = |child: &str| has(child).then(|| filtered(part(child), format!("{name}.{child}")));
        return Ok(Block {
            start: spatial("dw_start"),
            expand: Some(part("pw_exp")),
            spatial: spatial("dw_mid"),
            project: Some(part("pw_proj")),
            sum: Some(name),
            ..Block::default()
        });
    }
    if has("conv_exp") {
        return Ok(Block {
            spatial: Some(filtered(part("conv_exp", "bn1"), name.clone())),
            project: Some(part("conv_pwl", "bn2")),
            sum: Some(name),
            ..Block::default()
        });
    }
    let inverted = has("conv_pwl") || has("bn3");
    if !inverted && !has("conv_dw") && !has("conv_pw") {
        return Err(format!("{name} is not a depthwise-separable block or an inverted residual"));
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
    let depthwise = filtered(depthwise, name.clone());
    Ok(Block {
        sum: Some(name),
        expand,
        spatial: Some(depthwise),
        squeeze,
        project: Some(project),
        ..Block::default()
    })
}
