//! E3 and the overview: the generations of networks, and the roofline of all their layers.

use super::{
    claim,
    lab::{Case, Lab, Measured, cell, cost, factor, number, percent, ratio, share, times},
};
use crate::{
    Result, Shape,
    graph::Cost,
    measure::{
        Split,
        report::{Axis, Cell, Column, Figure, Kind, Outcome, Point, Section, Series, Style, Table},
    },
    plan::Fuse,
};

/// The networks, oldest first, with their names in figures.
pub const NETWORKS: [(&str, &str); 6] = [
    ("resnet18", "ResNet-18"),
    ("resnet50", "ResNet-50"),
    ("mobilenet_v1", "V1"),
    ("mobilenet_v2", "V2"),
    ("mobilenet_v3_large", "V3-Large"),
    ("mobilenet_v3_small", "V3-Small"),
];

/// Three quarters of the order of magnitude that the paper claims between ResNets and MobileNets.
const MAGNITUDE: f64 = 7.5;

/// The steps between generations, as indices into [`NETWORKS`].
const STEPS: [(usize, usize); 5] = [(1, 2), (1, 3), (2, 3), (3, 4), (4, 5)];

pub async fn generations(lab: &mut Lab<'_>) -> Result<Section> {
    let shape = Shape::new(1, 3, 224, 224);
    let mut graphs = Vec::new();
    for (name, _) in NETWORKS {
        graphs.push(lab.graph(name)?);
    }
    let costs = graphs.iter().map(|graph| cost(graph, shape)).collect::<Result<Vec<Cost>>>()?;
    let cases = NETWORKS.iter().zip(&graphs);
    let cases: Vec<Case> =
        cases.map(|((name, _), graph)| Case::baseline(*name, graph, shape, Fuse::Auto)).collect();
    let measured = lab.compare_all(&cases).await;
    let names = NETWORKS.map(|(_, name)| name);
    let rate =
        |timing: &Measured, cost: &Cost| Some(cost.macs as f64 / timing.as_ref().ok()?.ms().median / 1e6);

    let mut columns =
        vec![Column::new("network", ""), Column::new("MACs", "M"), Column::new("parameters", "M")];
    for at in lab.devices() {
        columns.extend([Column::new(lab.label(at), "ms"), Column::new("rate", "G MACs/s")]);
    }
    let rows = (0..NETWORKS.len()).map(|i| {
        let mut row = vec![
            names[i].into(),
            Cell::Number(costs[i].macs as f64 / 1e6, 0),
            Cell::Number(costs[i].parameters as f64 / 1e6, 2),
        ];
        for of_device in &measured {
            row.push(cell(&of_device[i]));
            row.push(number(rate(&of_device[i], &costs[i]), 1));
        }
        row
    });
    let networks = Table { caption: "One picture of 224 × 224".into(), columns, rows: rows.collect() };

    let mut columns = vec![Column::new("from, to", ""), Column::new("MACs", "ratio")];
    for at in lab.devices() {
        columns.extend([Column::new(format!("time on the {}", lab.label(at)), "ratio")]);
    }
    let macs = |from: usize, to: usize| costs[from].macs as f64 / costs[to].macs as f64;
    let steps = STEPS.map(|(from, to)| {
        let mut row = vec![format!("{} to {}", names[from], names[to]).into(), factor(Some(macs(from, to)))];
        row.extend(measured.iter().map(|of_device| factor(ratio(&of_device[from], &of_device[to]))));
        row
    });
    let steps = Table { caption: "Ratios between generations".into(), columns, rows: steps.to_vec() };

    let series = measured.iter().enumerate().map(|(at, of_device)| {
        let rates = of_device.iter().zip(&costs).enumerate();
        let points = rates.filter_map(|(i, (timing, cost))| Some((i as f64, rate(timing, cost)?)));
        Series::new(lab.label(at), Style::Marks, points.collect::<Vec<_>>())
    });
    let rates = Figure {
        id: "rates".into(),
        title: "MACs per second of each network".into(),
        caption: "MACs divided by the time, for one picture of 224 × 224.".into(),
        kind: Kind::Bars,
        x: Axis::categories("", names),
        y: Axis::linear("G MACs per second"),
        series: series.collect(),
    };

    let cut = 1.0 - 1.0 / macs(2, 3);
    let (mut verdict, mut outcomes) = (Vec::new(), Vec::new());
    for (at, of_device) in measured.iter().enumerate() {
        let Some(gain) = ratio(&of_device[1], &of_device[3]) else {
            verdict.push(format!("On the {} ResNet-50 and V2 could not be compared.", lab.label(at)));
            continue;
        };
        outcomes.push(Outcome::of(usize::from(gain >= MAGNITUDE), 1));
        verdict.push(format!(
            "ResNet-50 has {:.1} times the MACs of V2; on the {} V2 is {} as fast, which is {} of that \
             factor.",
            macs(1, 3),
            lab.label(at),
            times(gain),
            percent(gain / macs(1, 3))
        ));
    }
    for (at, of_device) in measured.iter().enumerate() {
        if let Some(gain) = ratio(&of_device[2], &of_device[3]) {
            verdict.push(format!(
                "From V1 to V2 the MACs fall by {}, not by the paper's two fifths; on the {} V2 takes {} of \
                 V1's time.",
                percent(cut),
                lab.label(at),
                percent(1.0 / gain)
            ));
        }
    }
    let mut section = Section {
        id: "E3".into(),
        title: "Generations: ResNet, V1, V2, V3".into(),
        claim: claim(
            "From V1 to V2 the arithmetic was reduced by two fifths, and V3 reduced it again. The networks need \
             an order of magnitude less than ResNets.",
        ),
        theory: format!(
            "V2 needs {} fewer MACs than V1, and ResNet-50 needs {:.1} times as many as V2.",
            percent(cut),
            macs(1, 3)
        ),
        method: "Whole networks as the planner schedules them with the kernels of WebGPU's baseline, on one \
                 picture of 224 x 224. If time followed the MACs, all bars of a device would be equally high. The \
                 claim holds in time on a device on which V2 is at least 7.5 times as fast as ResNet-50: \
                 three quarters of an order of magnitude."
            .into(),
        figures: vec![rates],
        tables: vec![networks, steps],
        verdict,
        ..Section::default()
    };
    section.conclude(outcomes.into_iter().collect());
    Ok(section)
}

pub async fn rooflines(lab: &mut Lab<'_>) -> Result<Section> {
    let mut section = Section {
        id: "R".into(),
        title: "The roofline of every layer, and time by cause".into(),
        theory: "Two bounds limit a step's rate: the device's peak rate, and the rate at which its bytes \
                 arrive. Together they form the dashed roof. The x axis is a layer's arithmetic intensity, \
                 its MACs per byte."
            .into(),
        method: "Every step of every network as the planner schedules it, on one picture. Time beyond the \
                 lower bound counts as launch, up to the time of an empty launch; the rest counts as units \
                 that wait or are idle."
            .into(),
        ..Section::default()
    };
    for at in lab.devices() {
        let label = lab.label(at).to_string();
        let Some(peaks) = lab.peaks(at) else {
            section
                .verdict
                .push(format!("There is no roofline of the {label}: its peaks were not measured."));
            continue;
        };
        let mut series = Vec::new();
        let mut splits: Vec<(&str, Split)> = Vec::new();
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        for (name, shown) in NETWORKS {
            let Ok(timing) = lab.network(at, name, 1, Fuse::Auto).await else { continue };
            let points: Vec<Point> = timing
                .steps
                .iter()
                .filter(|step| step.needed.macs > 0)
                .filter_map(|step| {
                    let intensity = step.needed.macs as f64 / step.needed.bytes as f64;
                    let rate = step.needed.macs as f64 / step.seconds()? / 1e9;
                    (low, high) = (low.min(intensity), high.max(intensity));
                    Some(Point::from((intensity, rate)))
                })
                .collect();
            series.push(Series::new(shown, Style::Marks, points));
            splits.extend(timing.split(&peaks).map(|split| (shown, split)));
        }
        let ridge = peaks.macs / peaks.bytes;
        let roof = |intensity: f64| (peaks.bytes * intensity).min(peaks.macs) / 1e9;
        let corners = [low, ridge.clamp(low, high.max(low)), high].map(|x| (x, roof(x)));
        series.push(Series::new("roof", Style::Dashed, corners));
        section.figures.push(Figure {
            id: format!("roofline {}", lab.backend(at)),
            title: format!("Roofline of the {label}"),
            caption: format!(
                "One mark per layer. Bandwidth bounds layers left of {ridge:.1} MACs per byte, arithmetic \
                 those right of it."
            ),
            kind: Kind::Points,
            x: Axis::log("MACs per byte"),
            y: Axis::log("G MACs per second"),
            series,
        });
        let part = |name: &str, of: fn(&Split) -> f64| {
            let shares = splits.iter().enumerate();
            let shares = shares.map(|(i, (_, split))| (i as f64, 100.0 * of(split) / split.seconds()));
            Series::new(name, Style::Marks, shares.collect::<Vec<_>>())
        };
        section.figures.push(Figure {
            id: format!("causes {}", lab.backend(at)),
            title: format!("Time by cause on the {label}"),
            caption: "Fractions of the steps' time: arithmetic at the peak rate, the additional time of \
                      bytes, launches, and units that wait or are idle."
                .into(),
            kind: Kind::StackedBars,
            x: Axis::categories("", splits.iter().map(|(name, _)| *name)),
            y: Axis::linear("% of the time"),
            series: vec![
                part("arithmetic", |split| split.arithmetic),
                part("bytes", |split| split.bytes),
                part("launches", |split| split.launch),
                part("idle units", |split| split.idle),
            ],
        });
        section.tables.push(Table {
            caption: format!("Time by cause on the {label}"),
            columns: ["arithmetic", "bytes", "launches", "idle units"].iter().fold(
                vec![Column::new("network", "")],
                |mut columns, part| {
                    columns.push(Column::new(*part, "%"));
                    columns
                },
            ),
            rows: splits
                .iter()
                .map(|(name, split)| {
                    let parts = [split.arithmetic, split.bytes, split.launch, split.idle];
                    let shares = parts.map(|part| share(Some(part / split.seconds())));
                    [Cell::from(*name)].into_iter().chain(shares).collect()
                })
                .collect(),
        });
        let useful = |split: &Split| (split.arithmetic + split.bytes) / split.seconds();
        let of =
            |network: &str| splits.iter().find(|(name, _)| *name == network).map(|(_, split)| useful(split));
        if let (Some(v2), Some(resnet)) = (of("V2"), of("ResNet-50")) {
            section.verdict.push(format!(
                "On the {label} the lower bound (arithmetic and bytes) is {} of V2's time, and {} of \
                 ResNet-50's.",
                percent(v2),
                percent(resnet)
            ));
        }
    }
    Ok(section)
}
