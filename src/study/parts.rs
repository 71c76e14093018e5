//! E5 and E6: V3's components one at a time, and two kinds of residual blocks.

use super::{
    claim,
    lab::{Case, Lab, Measured, cell, cost, factor, percent, ratio, share, times},
};
use crate::{
    Result, Shape,
    graph::{
        Activation::{Identity, Relu, Relu6},
        Graph,
    },
    measure::report::{Axis, Cell, Column, Figure, Kind, Section, Series, Style, Table},
    plan::Fuse,
    zoo::synthetic::{Builder, Squeeze, Tail, V3Options, v3_large},
};

pub async fn of_v3(lab: &mut Lab<'_>) -> Result<Section> {
    let published = V3Options::default();
    let variants = [
        ("as published", published),
        ("no squeeze-excite", V3Options { squeeze_excite: Squeeze::None, ..published }),
        ("squeeze-excite ratio 1/2", V3Options { squeeze_excite: Squeeze::Ratio(0.5), ..published }),
        ("ReLU instead of h-swish", V3Options { hard_swish: false, ..published }),
        ("stem of 32 filters", V3Options { stem: 32, ..published }),
        ("V2's tail", V3Options { tail: Tail::Plain, ..published }),
    ];
    let shape = Shape::new(1, 3, 224, 224);
    let graphs: Vec<Graph> = variants.iter().map(|(_, options)| v3_large(options)).collect();
    let cases = variants.iter().zip(&graphs);
    let cases: Vec<Case> =
        cases.map(|((name, _), graph)| Case::new(*name, graph, shape, Fuse::Auto)).collect();
    let measured = lab.compare_all(&cases).await;

    let mut columns =
        vec![Column::new("V3-Large", ""), Column::new("MACs", "M"), Column::new("parameters", "M")];
    for at in lab.devices() {
        columns.extend([Column::new(lab.label(at), "ms"), Column::new("time", "% of published")]);
    }
    let costs = graphs.iter().map(|graph| cost(graph, shape)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for (i, (name, _)) in variants.iter().enumerate() {
        let mut row = vec![
            (*name).into(),
            Cell::Number(costs[i].macs as f64 / 1e6, 1),
            Cell::Number(costs[i].parameters as f64 / 1e6, 2),
        ];
        for of_device in &measured {
            let time = ratio(&of_device[i], &of_device[0]);
            row.extend([cell(&of_device[i]), share(time)]);
        }
        rows.push(row);
    }
    let names = variants.map(|(name, _)| name);
    let mut series = vec![Series::new(
        "MACs",
        Style::Dashed,
        costs.iter().enumerate().map(|(i, cost)| (i as f64, 100.0 * cost.macs as f64 / costs[0].macs as f64)),
    )];
    for (at, of_device) in measured.iter().enumerate() {
        let shares = (0..variants.len())
            .filter_map(|i| Some((i as f64, 100.0 * ratio(&of_device[i], &of_device[0])?)));
        series.push(Series::new(lab.label(at), Style::Marks, shares.collect::<Vec<_>>()));
    }
    let figure = Figure {
        id: "components".into(),
        title: "V3-Large with one component changed".into(),
        caption: "Time relative to the published network; the dashed lines are the MACs.".into(),
        kind: Kind::Bars,
        x: Axis::categories("", names),
        y: Axis::linear("% of published"),
        series,
    };
    let mut verdict = Vec::new();
    for (at, of_device) in measured.iter().enumerate() {
        let [published, squeeze, _, swish, stem, tail] = &of_device[..] else { continue };
        let part = |name: &str, without: &Measured| format!("{name} {}", change(published, without));
        verdict.push(format!(
            "Change of V3-Large's time by each component, on the {}: {} (it has {} of the MACs), {}, {}, {}.",
            lab.label(at),
            part("squeeze-excite", squeeze),
            percent(1.0 - costs[1].macs as f64 / costs[0].macs as f64),
            part("h-swish", swish),
            part("a stem of 16 filters", stem),
            part("its tail", tail)
        ));
    }
    Ok(Section {
        id: "E5".into(),
        title: "V3's components, one at a time".into(),
        claim: claim(
            "V3 adds h-swish, and squeeze-excite with a quarter of the channels in its middle. It halves the \
             stem's filters and moves the mean before the last widening convolution. This makes it faster and \
             more accurate.",
        ),
        theory: "Squeeze-excite and V2's tail change the MACs; h-swish does not. Every squeeze-excite \
                 is a step that needs the whole map, and takes three or more launches."
            .into(),
        method: "V3-Large with one component replaced by that of earlier networks, on one picture of \
                 224 x 224."
            .into(),
        figures: vec![figure],
        tables: vec![Table { caption: "V3-Large with one component changed".into(), columns, rows }],
        verdict,
        ..Section::default()
    })
}

/// The change in time from `without` to `with`, in percent, or a text if it is within the measurement noise.
pub fn change(with: &Measured, without: &Measured) -> String {
    let (Ok(with), Ok(without)) = (with, without) else { return "was not measured".into() };
    let (with, without) = (with.ms(), without.ms());
    let share = with.median / without.median - 1.0;
    if !with.differs(without) {
        return "within the noise".into();
    }
    format!("{}{}", if share < 0.0 { "−" } else { "+" }, percent(share.abs()))
}

/// Height and width of the maps, and channels of the inverted residuals.
const SIDE: usize = 14;
const CHANNELS: usize = 64;

/// Channels of a bottleneck with as many MACs as an inverted residual of expansion 6, within 2 %.
const WIDE: usize = 224;

/// The number of consecutive blocks.
const BLOCKS: usize = 4;

pub async fn residuals(lab: &mut Lab<'_>) -> Result<Section> {
    let expansions: &[usize] = if lab.quick() { &[1, 6, 15] } else { &[1, 2, 3, 4, 6, 9, 12, 15] };
    let (narrow, wide) = (Shape::new(1, CHANNELS, SIDE, SIDE), Shape::new(1, WIDE, SIDE, SIDE));
    let graphs: Vec<Graph> = expansions.iter().map(|x| inverted(*x)).collect();
    let rates =
        graphs.iter().map(|graph| Ok(cost(graph, narrow)?.macs as f64)).collect::<Result<Vec<f64>>>()?;
    let bottleneck = bottleneck();
    let (macs, of_bottleneck) =
        (cost(&inverted(6), narrow)?.macs as f64, cost(&bottleneck, wide)?.macs as f64);
    let mut series = Vec::new();
    let mut rows = Vec::new();
    let mut verdict = Vec::new();
    for at in lab.devices() {
        let label = lab.label(at).to_string();
        let mut cases: Vec<Case> = expansions
            .iter()
            .zip(&graphs)
            .map(|(x, graph)| Case::baseline(format!("inverted residuals x{x}"), graph, narrow, Fuse::Auto))
            .collect();
        cases.push(Case::baseline("bottlenecks", &bottleneck, wide, Fuse::Auto));
        let measured = lab.compare(at, &cases).await;
        let [of_expansions @ .., plain] = &measured[..] else { continue };
        let six = expansions.iter().zip(of_expansions).find(|(x, _)| **x == 6);
        let Some((_, inverted)) = six else { continue };
        let points = expansions.iter().zip(of_expansions).zip(&rates).filter_map(|((x, timing), macs)| {
            Some((*x as f64, macs / timing.as_ref().ok()?.ms().median / 1e6))
        });
        let points = points.collect::<Vec<_>>();
        series.push(Series::new(format!("{label}: inverted residuals"), Style::Line, points));
        if let Ok(timing) = plain {
            let rate = of_bottleneck / timing.ms().median / 1e6;
            let ends = [expansions[0], expansions[expansions.len() - 1]].map(|x| (x as f64, rate));
            series.push(Series::new(format!("{label}: bottlenecks"), Style::Dashed, ends));
        }
        rows.push(vec![
            label.clone().into(),
            cell(inverted),
            cell(plain),
            Cell::Number(of_bottleneck / macs, 3),
            factor(ratio(inverted, plain)),
        ]);
        verdict.push(match ratio(inverted, plain) {
            Some(ratio) => format!(
                "With equal MACs, inverted residuals take {} the time of bottlenecks on the {label}.",
                times(ratio)
            ),
            None => format!("On the {label} the two kinds of blocks could not be compared."),
        });
    }
    Ok(Section {
        id: "E6".into(),
        title: "Inverted residuals against bottlenecks".into(),
        claim: claim(
            "V2's residual block widens by six in its middle, where ResNet's narrows by four, and so \
             carries more information with less arithmetic.",
        ),
        theory: format!(
            "{BLOCKS} inverted residuals of {CHANNELS} channels that widen sixfold need {:.1} M MACs on maps of \
             {SIDE} x {SIDE}; {BLOCKS} bottlenecks of {WIDE} channels, with a full 3x3 convolution in the \
             middle, need {:.1} M. The arithmetic is the same, the maps are not: {} values in the middle of \
             an inverted residual, {} in the middle of a bottleneck.",
            macs / 1e6,
            of_bottleneck / 1e6,
            6 * CHANNELS * SIDE * SIDE,
            WIDE / 4 * SIDE * SIDE
        ),
        method:
            "The MACs per second of both, in networks of these blocks only, with the kernels of WebGPU's \
                 baseline; and the same for inverted residuals with other expansions."
                .into(),
        figures: vec![Figure {
            id: "residuals".into(),
            title: "MACs per second of residual blocks".into(),
            caption: "Inverted residuals by expansion; dashed: bottlenecks with the MACs of expansion 6."
                .into(),
            kind: Kind::Points,
            x: Axis::linear("expansion"),
            y: Axis::log("G MACs per second"),
            series,
        }],
        tables: vec![Table {
            caption: "Equal MACs".into(),
            columns: vec![
                Column::new("device", ""),
                Column::new("inverted residuals", "ms"),
                Column::new("bottlenecks", "ms"),
                Column::new("MACs", "ratio"),
                Column::new("time", "ratio"),
            ],
            rows,
        }],
        verdict,
        ..Section::default()
    })
}

fn inverted(expansion: usize) -> Graph {
    let mut b = Builder::new(CHANNELS);
    for i in 0..BLOCKS {
        let input = b.at();
        b.named(format!("block{i}.expand")).pointwise(expansion * CHANNELS, Relu6);
        b.named(format!("block{i}.depthwise")).depthwise(3, 1, Relu6);
        b.named(format!("block{i}.project")).pointwise(CHANNELS, Identity);
        b.named(format!("block{i}")).residual(input);
    }
    b.finish()
}

fn bottleneck() -> Graph {
    let mut b = Builder::new(WIDE);
    for i in 0..BLOCKS {
        let input = b.at();
        b.named(format!("block{i}.narrow")).pointwise(WIDE / 4, Relu);
        b.named(format!("block{i}.conv")).conv(3, WIDE / 4, 1, Relu);
        b.named(format!("block{i}.widen")).pointwise(WIDE, Identity);
        b.named(format!("block{i}")).residual(input);
        b.named(format!("block{i}.relu")).activation(Relu);
    }
    b.finish()
}
