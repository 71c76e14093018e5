//! E7: fusing layers into one kernel.

use std::time::Duration;

use super::lab::{Case, Lab, Measured, cell, number, percent, ratio, share};
use crate::{
    Result, Shape, Tensor,
    gpu::Executor,
    graph::Graph,
    measure::{
        self, Spread,
        report::{Axis, Cell, Column, Figure, Kind, Point, Section, Series, Style, Table},
    },
    plan::{self, Fuse, Plan},
    session::Device,
    tensor::Element,
};

const NETWORKS: [(&str, &str); 4] = [
    ("mobilenet_v1", "V1"),
    ("mobilenet_v2", "V2"),
    ("mobilenet_v3_large", "V3-Large"),
    ("mobilenet_v3_small", "V3-Small"),
];

/// The tuning time of each network, and the timed runs of the tuned plan.
const TUNING: Duration = Duration::from_secs(30);
const RUNS: usize = 20;

const WAYS: [(Fuse, &str); 4] = [
    (Fuse::None, "one kernel per layer"),
    (Fuse::Pair, "pairs of layers"),
    (Fuse::Block, "whole blocks"),
    (Fuse::Auto, "the planner's choice"),
];

pub async fn gains(lab: &mut Lab<'_>) -> Result<Section> {
    let mut section = Section {
        id: "E7".into(),
        title: "The gains of fusing layers".into(),
        theory: "A kernel that computes several layers takes one launch for all of them and keeps the \
                 intermediate maps out of memory. In return, overlapping tiles compute some values again, \
                 and there may be too few tiles to fill the device."
            .into(),
        method:
            "Each network is timed with one kernel per layer, with pairs of a block's layers fused, with \
                 whole blocks fused, with the planner's choice among these, and with the tuner's choice."
                .into(),
        ..Section::default()
    };
    let Some(at) = lab.gpu() else {
        section.verdict.push("Without a graphics adapter there is nothing to fuse.".into());
        return Ok(section);
    };
    let peaks = lab.peaks(at);
    let mut series: Vec<Series> =
        WAYS.iter().map(|(_, way)| Series::new(*way, Style::Marks, Vec::<(f64, f64)>::new())).collect();
    let mut tuned_series = Series::new("tuned", Style::Marks, Vec::<(f64, f64)>::new());
    let mut rows = Vec::new();
    for (i, (name, shown)) in NETWORKS.into_iter().enumerate() {
        let graph = lab.graph(name)?;
        let shape = Shape::new(1, 3, 224, 224);
        let cases = WAYS.map(|(fuse, _)| Case::new(name, &graph, shape, fuse));
        let ways = lab.compare(at, &cases).await;
        let idle = |measured: &Measured| {
            let split = measured.as_ref().ok()?.split(&peaks?)?;
            Some(split.idle / split.seconds())
        };
        for ((measured, (_, way)), series) in ways.iter().zip(WAYS).zip(&mut series) {
            if let Ok(timing) = measured {
                series.points.push((i as f64, timing.ms()).into());
            }
            let timing = measured.as_ref().ok();
            let bytes = |bytes: u64| bytes as f64 / 1e6;
            rows.push(vec![
                format!("{shown}, {way}").into(),
                number(timing.map(|timing| timing.steps.len() as f64), 0),
                number(
                    timing.map(|timing| bytes(timing.steps.iter().map(|step| step.needed.bytes).sum())),
                    1,
                ),
                cell(measured),
                share(idle(measured)),
            ]);
        }
        let [none_of, _, blocks, auto_of] = &ways[..] else { continue };
        let tuned = tuned(lab, at, &graph, shape).await;
        let of_tuned = |cell: fn(&Tuned) -> Cell| match &tuned {
            Ok(tuned) => cell(tuned),
            Err(reason) => Cell::missing(reason.clone()),
        };
        rows.push(vec![
            format!("{shown}, tuned").into(),
            of_tuned(|tuned| Cell::Number(tuned.launches as f64, 0)),
            of_tuned(|tuned| Cell::Number(tuned.bytes as f64 / 1e6, 1)),
            of_tuned(|tuned| tuned.ms.into()),
            Cell::missing("not measured"),
        ]);
        tuned_series.points.extend(tuned.iter().map(|tuned| Point::from((i as f64, tuned.ms))));
        let fewest = ways.iter().flatten().map(|timing| timing.steps.len()).min();
        if let (Some(gain), Ok(none), Ok(auto), Some(fewest)) =
            (ratio(none_of, auto_of), none_of, auto_of, fewest)
        {
            let chosen = match auto.steps.len() == none.steps.len() {
                true => "is one kernel per layer too".to_string(),
                false => format!(
                    "takes {} of the time, with {} launches instead of {}",
                    percent(1.0 / gain),
                    auto.steps.len(),
                    none.steps.len()
                ),
            };
            let whole = ratio(blocks, none_of).map_or_else(|| "an unknown part".into(), percent);
            section.verdict.push(format!(
                "{shown}, compared with one kernel per layer: the planner's choice {chosen}; whole blocks \
                 take {whole} of the time, with {fewest} launches."
            ));
        }
    }
    series.push(tuned_series);
    section.figures.push(Figure {
        id: "fusing".into(),
        title: format!("Fusing on the {}", lab.label(at)),
        caption: "One picture of 224 × 224.".into(),
        kind: Kind::Bars,
        x: Axis::categories("", NETWORKS.map(|(_, shown)| shown)),
        y: Axis::linear("ms"),
        series,
    });
    section.tables.push(Table {
        caption: format!("Launches, bytes and idle units on the {}", lab.label(at)),
        columns: vec![
            Column::new("network", ""),
            Column::new("launches", ""),
            Column::new("bytes", "MB"),
            Column::new("time", "ms"),
            Column::new("idle units", "%"),
        ],
        rows,
    });
    Ok(section)
}

/// The tuned plan of a network.
struct Tuned {
    launches: usize,
    bytes: u64,
    ms: Spread,
}

/// Tunes a network and times the tuned plan; in full mode only.
async fn tuned(lab: &mut Lab<'_>, at: usize, graph: &Graph, input: Shape) -> Result<Tuned, String> {
    if lab.quick() {
        return Err("quick mode does not tune".into());
    }
    if lab.is_stopped() {
        return Err("interrupted".into());
    }
    let Device::Gpu(gpu) = &lab.benches[at].device else { return Err("no graphics adapter".into()) };
    let measured = async || {
        let inputs = [Tensor::wave(input, 0.37)];
        let tuning = measure::tune_async(gpu, graph, graph, &inputs, Element::F32, TUNING, |_| {}).await?;
        let options = plan::Options { tuned: tuning.winners, ..plan::Options::default() };
        let plan = Plan::new(graph, input, gpu.machine(Element::F32), &options)?;
        let mut executor = Executor::new(gpu, &plan, |_, _| {}).await?;
        let picture = Tensor::wave(input, 0.37);
        executor.run_async(&picture).await?;
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            times.push(executor.gpu_time_async(&picture).await? / 1e6);
        }
        Ok((plan, Spread::of(times)))
    };
    let (plan, ms) = measured().await.map_err(|e: crate::Error| e.to_string())?;
    Ok(Tuned {
        launches: plan.steps.len(),
        bytes: plan.steps.iter().map(|step| step.work.bytes).sum(),
        ms: ms.ok_or("nothing was timed")?,
    })
}
