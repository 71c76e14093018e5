//! E4: layers and utilisation: the utilisation of a device by each layer, the cost of many small
//! layers, and the batch size that fills the device.

use super::{
    claim,
    lab::{Case, Lab, cost, number, percent, share},
};
use crate::{
    Result, Shape,
    measure::{
        Peaks, Timing,
        report::{Axis, Cell, Column, Figure, Kind, Outcome, Point, Section, Series, Style, Table},
    },
    plan::Fuse,
};

/// The network whose batch size and width vary.
const NETWORK: &str = "mobilenet_v2";

/// The networks whose layers are listed.
const LAYERED: [(&str, &str); 4] = [
    ("mobilenet_v1", "V1"),
    (NETWORK, "V2"),
    ("mobilenet_v3_large", "V3-Large"),
    ("mobilenet_v3_small", "V3-Small"),
];

/// A batch fills a device if its rate is at least this fraction of the best rate.
const FULL: f64 = 0.9;

pub async fn utilisation(lab: &mut Lab<'_>) -> Result<Section> {
    let mut section = Section {
        id: "E4".into(),
        title: "Layers and utilisation".into(),
        claim: claim(
            "One layer became two, and each uses less of the chip: on parallel devices the number of \
             layers costs more than their arithmetic.",
        ),
        theory:
            "A layer that depends on the preceding one cannot start before that one has ended. A network \
                 of n such steps takes at least n launches, however little it computes; if a layer has \
                 too little work for all units of a device, some are idle."
                .into(),
        method: "V2's layers by MACs and utilisation; networks on 32 x 32 pictures, with almost no \
                 arithmetic, by their number of steps; V2 at several batch sizes and widths. The claim \
                 holds if V2's launches take more of the GPU's time than its arithmetic at the peak rate."
            .into(),
        ..Section::default()
    };
    by_layer(lab, &mut section).await;
    section.figures.push(by_steps(lab, &mut section.verdict).await?);
    batches(lab, &mut section).await?;
    widths(lab, &mut section).await?;
    Ok(section)
}

/// Every layer of every network on each device as tables, V2's utilisation as a figure, and the causes of V2's
/// time.
async fn by_layer(lab: &mut Lab<'_>, section: &mut Section) {
    for at in lab.devices() {
        let Some(peaks) = lab.peaks(at) else { continue };
        let label = lab.label(at).to_string();
        for (name, shown) in LAYERED {
            let Ok(timing) = lab.network(at, name, 1, Fuse::None).await else { continue };
            section.tables.push(layers(format!("{shown}'s layers on the {label}"), &timing, &peaks));
            if name != NETWORK {
                continue;
            }
            section.figures.push(of_layers(&label, lab.backend(at), &timing, &peaks));
            let Some(split) = timing.split(&peaks) else { continue };
            let [arithmetic, bytes, launches, idle] =
                [split.arithmetic, split.bytes, split.launch, split.idle].map(|part| part / split.seconds());
            section.verdict.push(format!(
                "V2's time on the {label}, one kernel per layer: {} arithmetic at the peak rate, {} waiting for \
                 bytes beyond that, {} launches, {} units that wait or are idle.",
                percent(arithmetic),
                percent(bytes),
                percent(launches),
                percent(idle)
            ));
            if lab.is_parallel(at) {
                section.conclude(Outcome::of(usize::from(launches > arithmetic), 1));
            }
        }
    }
}

/// The utilisation of each of V2's layers.
fn of_layers(label: &str, backend: &str, timing: &Timing, peaks: &Peaks) -> Figure {
    let of = |kind: &str, wanted: fn(&str) -> bool| {
        let steps = timing.steps.iter().filter(|step| wanted(step.summary.kernel) && step.needed.macs > 0);
        let points =
            steps.filter_map(|step| Some((step.needed.macs as f64 / 1e6, 100.0 * step.utilisation(peaks)?)));
        Series::new(kind, Style::Marks, points.collect::<Vec<_>>())
    };
    Figure {
        id: format!("layers {backend}"),
        title: format!("V2's layers on the {label}"),
        caption: "One mark per layer: its MACs, and its utilisation of the device.".into(),
        kind: Kind::Points,
        x: Axis::log("M MACs"),
        y: Axis::log("utilisation, %"),
        series: vec![
            of("depthwise", |kernel| kernel == "depthwise"),
            of("pointwise", |kernel| kernel.starts_with("pointwise") || kernel == "connected"),
            of("standard", |kernel| kernel == "dense"),
        ],
    }
}

/// A network's layers, with the largest part of each one's time.
fn layers(caption: String, timing: &Timing, peaks: &Peaks) -> Table {
    let columns = [("layer", ""), ("kernel", ""), ("MACs", "M"), ("bytes", "kB"), ("time", "ms")];
    let mut columns = columns.map(|(title, unit)| Column::new(title, unit)).to_vec();
    columns.extend([Column::new("utilisation", "%"), Column::new("largest part", "")]);
    let rows = timing.steps.iter().map(|step| {
        let bound = step.split(peaks).map(|split| split.bound().to_string());
        vec![
            step.summary.name().into(),
            step.summary.kernel.into(),
            Cell::Number(step.needed.macs as f64 / 1e6, 2),
            Cell::Number(step.needed.bytes as f64 / 1e3, 0),
            number(step.ms.map(|ms| ms.median), 4),
            share(step.utilisation(peaks)),
            bound.map_or_else(|| Cell::missing("not measured"), Cell::from),
        ]
    });
    Table { caption, columns, rows: rows.collect() }
}

/// Networks on small pictures, by their number of steps.
async fn by_steps(lab: &mut Lab<'_>, verdict: &mut Vec<String>) -> Result<Figure> {
    let networks: &[(&str, &str)] = &[
        ("resnet18", "ResNet-18"),
        ("mobilenet_v1", "V1"),
        ("mobilenet_v2", "V2"),
        ("mobilenet_v3_small", "V3-Small"),
        ("mobilenet_v3_large", "V3-Large"),
    ];
    let mut graphs = Vec::new();
    for (name, _) in networks {
        graphs.push(lab.graph(name)?);
    }
    let cases = networks.iter().zip(&graphs);
    let cases: Vec<Case> = cases
        .map(|((name, _), graph)| Case::new(*name, graph, Shape::new(1, 3, 32, 32), Fuse::None))
        .collect();
    let mut series = Vec::new();
    for at in lab.devices() {
        let mut points: Vec<Point> = Vec::new();
        let mut smallest: Option<(f64, f64)> = None;
        for (measured, (name, shown)) in lab.compare(at, &cases).await.iter().zip(networks) {
            let Ok(timing) = measured else { continue };
            let (steps, us) = (timing.steps.len() as f64, timing.ms().times(1e3));
            points.push(Point::from((steps, us)).labelled(*shown));
            if *name == "mobilenet_v3_small" {
                smallest = Some((steps, us.median));
            }
        }
        let last = points.iter().map(|point| point.x).fold(0.0, f64::max);
        series.push(Series::new(lab.label(at), Style::Marks, points));
        if let Some(peaks) = lab.peaks(at) {
            let launches = [1.0, last].map(|steps| (steps, 1e6 * peaks.launch * steps));
            series.push(Series::new(format!("{}: empty launches", lab.label(at)), Style::Dashed, launches));
            if let Some((steps, us)) = smallest {
                let launches = 1e6 * peaks.launch * steps;
                verdict.push(format!(
                    "On a picture of 32 x 32, V3-Small's {steps:.0} steps take {us:.0} µs on the {}; empty \
                     launches would take {launches:.0} µs, {} of that.",
                    lab.label(at),
                    percent(launches / us)
                ));
            }
        }
    }
    Ok(Figure {
        id: "steps".into(),
        title: "The cost of steps with almost nothing to compute".into(),
        caption: "Networks on one picture of 32 × 32, one kernel per layer. The dashed lines are empty \
                  launches, as measured with kernels that do nothing."
            .into(),
        kind: Kind::Points,
        x: Axis::log("dependent steps"),
        y: Axis::log("µs"),
        series,
    })
}

async fn batches(lab: &mut Lab<'_>, section: &mut Section) -> Result<()> {
    let batches: &[usize] = if lab.quick() { &[1, 2, 4] } else { &[1, 2, 4, 8, 16, 32, 64, 128, 256] };
    let graph = lab.graph(NETWORK)?;
    let shape = |batch: &usize| Shape::new(*batch, 3, 224, 224);
    let cases: Vec<Case> =
        batches.iter().map(|batch| Case::new(NETWORK, &graph, shape(batch), Fuse::Auto)).collect();
    let mut series = Vec::new();
    let mut columns = vec![Column::new("batch", "")];
    let mut rows: Vec<Vec<Cell>> = batches.iter().map(|batch| vec![batch.to_string().into()]).collect();
    for at in lab.devices() {
        let rates: Vec<Option<f64>> = lab
            .compare(at, &cases)
            .await
            .iter()
            .zip(batches)
            .map(|(timing, batch)| Some(1e3 * *batch as f64 / timing.as_ref().ok()?.ms().median))
            .collect();
        columns.push(Column::new(lab.label(at), "pictures/s"));
        for (row, rate) in rows.iter_mut().zip(&rates) {
            row.push(number(*rate, 1));
        }
        let points = batches.iter().zip(&rates).filter_map(|(&batch, rate)| Some((batch as f64, (*rate)?)));
        series.push(Series::new(lab.label(at), Style::Line, points.collect::<Vec<_>>()));
        let best = rates.iter().flatten().copied().fold(0.0, f64::max);
        let full = batches.iter().zip(&rates).find(|(_, rate)| rate.is_some_and(|rate| rate >= FULL * best));
        if let (Some((batch, _)), Some(Some(one))) = (full, rates.first()) {
            section.verdict.push(format!(
                "V2 fills the {} with a batch of {batch}: its rate is within a tenth of the best rate of \
                 batches up to {}. A single picture reaches {} of the best rate.",
                lab.label(at),
                batches[batches.len() - 1],
                percent(one / best)
            ));
        }
    }
    section.figures.push(Figure {
        id: "batches".into(),
        title: "V2 by batch size".into(),
        caption: "Where the line is flat, the device is full.".into(),
        kind: Kind::Points,
        x: Axis::log("batch size"),
        y: Axis::log("pictures per second"),
        series,
    });
    section.tables.push(Table { caption: "V2 by batch size".into(), columns, rows });
    Ok(())
}

async fn widths(lab: &mut Lab<'_>, section: &mut Section) -> Result<()> {
    let widths: &[&str] = if lab.quick() { &["0.35", "1"] } else { &["0.35", "0.5", "0.75", "1", "1.4"] };
    let names: Vec<String> = widths.iter().map(|width| format!("{NETWORK}@{width}")).collect();
    let graphs = names.iter().map(|name| lab.graph(name)).collect::<Result<Vec<_>>>()?;
    let shape = Shape::new(1, 3, 224, 224);
    let cases = names.iter().zip(&graphs);
    let cases: Vec<Case> = cases.map(|(name, graph)| Case::new(name, graph, shape, Fuse::Auto)).collect();
    let mut series = Vec::new();
    for at in lab.devices() {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (timing, graph) in lab.compare(at, &cases).await.iter().zip(&graphs) {
            if let Ok(timing) = timing {
                points.push((cost(graph, shape)?.macs as f64 / 1e6, timing.ms().median));
            }
        }
        if let ([(small, few), ..], [.., (large, many)]) = (&points[..], &points[..]) {
            section.verdict.push(format!(
                "From width {} to {} V2's MACs grow by a factor of {:.1}, its time on the {} by a factor of {:.1}.",
                widths[0],
                widths[widths.len() - 1],
                large / small,
                lab.label(at),
                many / few
            ));
        }
        series.push(Series::new(lab.label(at), Style::Line, points));
    }
    section.figures.push(Figure {
        id: "widths".into(),
        title: "V2 by width".into(),
        caption: format!(
            "Widths {}. Where the line is flat, more arithmetic takes no more time.",
            widths.join(", ")
        ),
        kind: Kind::Points,
        x: Axis::log("M MACs"),
        y: Axis::log("ms"),
        series,
    });
    Ok(())
}
