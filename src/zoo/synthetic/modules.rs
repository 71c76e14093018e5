//! Builds a skeleton with simple names from a table, as a library's `skeleton` does from a checkpoint's keys.

use crate::zoo::{
    known::Known,
    skeleton::{Block, Dense, DenseActivation, Layer, Shortcut, Skeleton, Squeeze, TopModules},
    table::{Antialias, Row, Table, Top},
};

/// Builds the skeleton, with names like `stem`, `block1.expand`, `block1.depthwise`, `head`, `hidden`,
/// `classifier`.
pub(super) fn skeleton(known: &Known, rows: &[Row]) -> Skeleton {
    let table = known.table;
    let blocks = rows.iter().enumerate().map(|(i, row)| block(format!("block{}", i + 1), row, table));
    let heads = if table.head.is_some() { known.heads } else { 0 };
    let head = |i: usize| if i == 0 { layer("head") } else { layer(&format!("head{}", i + 1)) };
    let head: Vec<Layer> = (0..heads).map(head).collect();
    Skeleton {
        stem: layer("stem"),
        stem_feature: "stem".into(),
        blocks: blocks.collect(),
        stages: None,
        expand_optional: false,
        hidden_in_classifier: false,
        head_feature: head.last().map(|layer| layer.conv.clone()),
        head,
        top: top(&table.top),
    }
}

fn top(top: &Top) -> TopModules {
    match top {
        Top::Classifier(hidden) => TopModules::Classifier {
            pool: "pool".into(),
            hidden: hidden.as_ref().map(|hidden| match hidden.norm {
                true => layer("hidden"),
                false => Layer { norm: None, ..layer("hidden") },
            }),
            dense: vec![Dense { conv: "classifier".into(), norm: None, followed_by: DenseActivation::None }],
        },
        Top::LrAspp => TopModules::LrAspp,
        Top::DeepLabV3 => TopModules::DeepLabV3,
        Top::DeepLabV3Plus => TopModules::DeepLabV3Plus,
        Top::SsdLite => TopModules::SsdLite,
    }
}

fn block(name: String, row: &Row, table: &Table) -> Block {
    let stage = row.stage;
    let part = |part: &str| layer(&format!("{name}.{part}"));
    let spatial = |kernel: usize, name: &str| {
        let layer = part(name);
        let filter = (table.antialias != Antialias::None).then(|| format!("{}.filter", layer.conv));
        (kernel > 0).then_some(Layer { filter, ..layer })
    };
    Block {
        // In a ResNet, the activation after the sum has the block's name, as it is the block's output.
        sum: Some(if table.stem_pool { format!("{name}.sum") } else { name.clone() }),
        start: spatial(stage.start, "start"),
        expand: stage.expand.then(|| part("expand")),
        spatial: spatial(stage.kernel, if stage.dense { "conv" } else { "depthwise" }),
        squeeze: stage.squeeze.then(|| squeeze(format!("{name}.squeeze_excite"))),
        project: stage.project.then(|| part("project")),
        shortcut: table.stem_pool.then(|| Shortcut { layer: part("shortcut"), activation: name.clone() }),
        feature: name.clone(),
    }
}

/// A convolution with its batch norm and its activation.
fn layer(name: &str) -> Layer {
    Layer {
        conv: name.into(),
        norm: Some(format!("{name}.norm")),
        activation: Some(format!("{name}.activation")),
        ..Layer::default()
    }
}

fn squeeze(name: String) -> Squeeze {
    Squeeze {
        pool: format!("{name}.pool"),
        reduce: format!("{name}.reduce"),
        activation: format!("{name}.reduce.activation"),
        expand: format!("{name}.expand"),
        gate: format!("{name}.expand.activation"),
        whole: name,
    }
}
