//! E9: the networks that a search picks for the GPU and for the CPU.

use super::{
    claim,
    lab::{Lab, number, times},
};
use crate::{
    Result,
    cpu::Cpu,
    demo,
    graph::{ConvKind, Op},
    measure::{
        Spread,
        report::{Axis, Cell, Column, Figure, Kind, Section, Series, Style, Table},
    },
    search::{Found, Latency, Samples, Settings, Trial, measured, search_subnets},
    session::{Device, Precision},
    zoo::{Space, Subnet, Supernet},
};

/// The space to search, and the length of the searches.
struct Extent {
    sizes: Vec<usize>,
    widths: Vec<f64>,
    /// The numbers of search pictures and of held-out pictures.
    pictures: [usize; 2],
    population: usize,
    generations: usize,
    /// One search per seed. Searches differ only in their random choices, and their results give the spread.
    seeds: Vec<u64>,
}

impl Extent {
    fn of(lab: &Lab, whole: &Space) -> Self {
        match lab.quick() {
            true => Self {
                sizes: vec![128],
                widths: vec![0.75, 1.0],
                pictures: [96, 200],
                population: 8,
                generations: 3,
                seeds: vec![1],
            },
            false => Self {
                sizes: whole.sizes.clone(),
                widths: whole.widths.clone(),
                pictures: [256, 1000],
                population: 32,
                generations: 12,
                seeds: vec![1, 2, 3],
            },
        }
    }
}

/// A network that was picked for a device.
struct Picked {
    bench: usize,
    subnet: Subnet,
    accuracy: f64,
    /// Milliseconds on each device, in order; none where timing failed.
    ms: Vec<Option<Spread>>,
    shape: Build,
}

/// The structure of a network, in numbers.
struct Build {
    layers: usize,
    /// The mean number of output channels of the convolutions with maps larger than 1x1.
    width: f64,
    /// The mean kernel size of the depthwise convolutions.
    kernel: f64,
    macs: u64,
}

pub async fn for_devices(lab: &mut Lab<'_>) -> Result<Section> {
    let mut section = Section {
        id: "E9".into(),
        title: "Networks that a search picks for each device".into(),
        claim: claim(
            "An architecture search proposes a series of models, evaluates them and keeps the best. MobileNetV3 was \
             found this way.",
        ),
        theory: "Only wide layers fill a device with many units, and each layer takes a launch there; the \
                 time on a CPU depends mainly on the arithmetic. A search should therefore pick fewer and \
                 wider layers for the GPU."
            .into(),
        method: "The candidates are subnets of the built-in supernet, which classifies shapes; kernels, \
                 expansions, depths, widths, squeeze-excite and picture sizes vary. Every block was timed on \
                 each device. An evolutionary search then looked for the most accurate network within the \
                 same time on each device. A further pick for each device is its fastest candidate with a minimum \
                 accuracy, the same for all devices: the highest that the searches reached on each of them. All \
                 picked networks were timed on \
                 the other device too, from a picture in memory to the result in memory."
            .into(),
        ..Section::default()
    };
    if let Err(error) = measure(lab, &mut section).await {
        lab.failures.push(format!("search: {error}"));
        section.verdict.push("The search failed: see the failures.".into());
    }
    Ok(section)
}

async fn measure(lab: &mut Lab<'_>, section: &mut Section) -> Result<()> {
    let whole = demo::supernet()?;
    let extent = Extent::of(lab, whole.space());
    let space = Space { sizes: extent.sizes.clone(), widths: extent.widths.clone(), ..whole.space().clone() };
    let supernet = whole.restrict(space)?;
    lab.announce("scenes for the search").await;
    let [search, held_out] = extent.pictures;
    let mut trial = Trial::new(&supernet, Cpu::new(None)?, Samples::scenes(search, held_out)?)?;
    let mut latencies = Vec::new();
    for at in lab.devices() {
        let (device, label) = (lab.benches[at].device.clone(), lab.label(at).to_owned());
        latencies.push(Latency::measure(&supernet, &device, Precision::F32, |done, of| {
            lab.announce_now(&format!("blocks on the {label}, {done} of {of}"));
        })?);
    }
    let (limits, together) = limits(&supernet, &latencies);
    let (mut same_time, mut missed) = (Vec::new(), Vec::new());
    let mut found: Vec<Vec<Found>> = lab.devices().map(|_| Vec::new()).collect();
    for at in lab.devices() {
        let mut fastest_ms = f64::INFINITY;
        for &seed in &extent.seeds {
            if lab.is_stopped() {
                return Ok(());
            }
            let (device, label) = (lab.benches[at].device.clone(), lab.label(at).to_owned());
            let settings = Settings {
                within_ms: limits[at],
                population: extent.population,
                generations: extent.generations,
                seed,
            };
            let latency = &latencies[at];
            let evaluated =
                |_: &Found, count| lab.announce_now(&format!("candidates for the {label}, {count}"));
            let outcome = search_subnets(&mut trial, &device, Precision::F32, latency, settings, evaluated)?;
            if let Some(best) = outcome.finalists.first() {
                same_time
                    .push(picked(lab, &supernet, at, best.subnet.clone(), best.held_out_accuracy).await?);
            }
            fastest_ms = fastest_ms.min(outcome.fastest_ms);
            found[at].extend(outcome.found);
        }
        if same_time.iter().all(|picked: &Picked| picked.bench != at) {
            let (label, limit) = (lab.label(at), limits[at]);
            missed.push(format!(
                "No timed candidate for the {label} ran within {limit:.2} ms; the fastest took {fastest_ms:.2} ms."
            ));
        }
    }
    // The best accuracy of each device's searches on the search pictures; all devices reach the lowest of
    // these.
    let best = |found: &Vec<Found>| found.iter().map(|found| found.search_accuracy).fold(0.0, f64::max);
    let reached = found.iter().map(best).fold(1.0, f64::min);
    let mut same_accuracy = Vec::new();
    for (at, found) in found.iter().enumerate() {
        let good = found.iter().filter(|found| found.search_accuracy >= reached);
        let Some(fastest) = good.min_by(|a, b| a.predicted_ms.total_cmp(&b.predicted_ms)) else { continue };
        lab.announce("the fastest of the accurate candidates").await;
        let (_, _, accuracy) = trial.finish(&fastest.subnet)?;
        same_accuracy.push(picked(lab, &supernet, at, fastest.subnet.clone(), accuracy).await?);
    }
    let within = limits.iter().map(|ms| format!("{ms:.2} ms")).collect::<Vec<_>>();
    let caption = match together {
        true => format!("The most accurate within {}", within[0]),
        false => format!(
            "The most accurate within {}: the devices' times hardly overlap, so that each has its own limit",
            within.join(" and ")
        ),
    };
    section.tables.push(table(lab, caption, &same_time));
    let caption =
        format!("The fastest with an accuracy of at least {:.1} % on the search pictures", 100.0 * reached);
    section.tables.push(table(lab, caption, &same_accuracy));
    section.figures.push(figure(lab, &found));
    section.verdict = missed;
    section.verdict.extend(verdict(lab, &same_time, extent.seeds.len()));
    Ok(())
}

/// The time limit on each device, in milliseconds: the geometric middle of the range of times that all
/// devices have in common or, if that is too narrow, of each device's own range. True if the limit is common.
fn limits(supernet: &Supernet, latencies: &[Latency]) -> (Vec<f64>, bool) {
    let ends = latencies
        .iter()
        .map(|latency| [supernet.smallest(), supernet.largest()].map(|subnet| latency.predict(&subnet)));
    let ends: Vec<[f64; 2]> = ends.collect();
    let low = ends.iter().map(|[low, _]| *low).fold(0.0, f64::max);
    let high = ends.iter().map(|[_, high]| *high).fold(f64::INFINITY, f64::min);
    // A narrower common range has hardly any networks to choose from.
    const ROOM: f64 = 1.5;
    match high > ROOM * low {
        true => (vec![(low * high).sqrt(); ends.len()], true),
        false => (ends.iter().map(|[low, high]| (low * high).sqrt()).collect(), false),
    }
}

async fn picked(
    lab: &mut Lab<'_>,
    supernet: &Supernet,
    bench: usize,
    subnet: Subnet,
    accuracy: f64,
) -> Result<Picked> {
    let network = supernet.slice(&subnet)?.network()?;
    let shapes = network.graph.shapes(network.input_shape(1))?;
    let costs = network.graph.costs(&shapes);
    let (mut layers, mut widths, mut kernels) = (0, Vec::new(), Vec::new());
    for (id, node) in network.graph.nodes() {
        let Op::Conv(conv) = &node.op else { continue };
        layers += 1;
        let shape = shapes[id.index()];
        if shape.h * shape.w > 1 {
            widths.push(conv.outputs() as f64);
        }
        if conv.kind() == Some(ConvKind::Depthwise) {
            kernels.push(conv.kernel() as f64);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let macs = costs.iter().map(|cost| cost.macs).sum();
    let shape = Build { layers, width: mean(&widths), kernel: mean(&kernels), macs };
    let mut ms = Vec::new();
    for at in lab.devices() {
        let (device, label): (Device, String) = (lab.benches[at].device.clone(), lab.label(at).to_owned());
        lab.announce(&format!("a winner on the {label}")).await;
        let timing = measured(supernet, &device, Precision::F32, &subnet);
        let timing =
            timing.inspect_err(|error| lab.failures.push(format!("{subnet} on the {label}: {error}")));
        ms.push(timing.ok().map(|timing| timing.wall_ms));
    }
    Ok(Picked { bench, subnet, accuracy, ms, shape })
}

fn table(lab: &Lab, caption: String, picked: &[Picked]) -> Table {
    let mut columns = vec![
        Column::new("picked for", ""),
        Column::new("accuracy", "%"),
        Column::new("layers", ""),
        Column::new("mean width", "channels"),
        Column::new("mean kernel", ""),
        Column::new("MACs", "M"),
        Column::new("rate on that device", "G MACs/s"),
    ];
    columns.extend(lab.devices().map(|at| Column::new(format!("on the {}", lab.label(at)), "ms")));
    columns.push(Column::new("network", ""));
    let rows = picked.iter().map(|picked| {
        let Picked { bench, subnet, accuracy, ms, shape } = picked;
        let rate = ms[*bench].map(|ms| shape.macs as f64 / ms.median / 1e6);
        let mut row: Vec<Cell> = vec![
            lab.label(*bench).into(),
            Cell::Number(100.0 * accuracy, 1),
            Cell::Number(shape.layers as f64, 0),
            Cell::Number(shape.width, 0),
            Cell::Number(shape.kernel, 1),
            Cell::Number(shape.macs as f64 / 1e6, 1),
            number(rate, 1),
        ];
        row.extend(ms.iter().map(|ms| ms.map_or_else(|| Cell::missing("not timed"), Cell::from)));
        row.push(subnet.to_string().into());
        row
    });
    Table { caption, columns, rows: rows.collect() }
}

fn figure(lab: &Lab, found: &[Vec<Found>]) -> Figure {
    let series = found.iter().enumerate().map(|(at, found)| {
        let points = found.iter().map(|found| (found.predicted_ms, 100.0 * found.search_accuracy));
        Series::new(format!("candidates for the {}", lab.label(at)), Style::Marks, points.collect::<Vec<_>>())
    });
    Figure {
        id: "candidates".into(),
        title: "Candidates of the searches".into(),
        caption: "Accuracy on the search pictures over predicted time, each on its own device.".into(),
        kind: Kind::Points,
        x: Axis::log("predicted ms"),
        y: Axis::linear("accuracy, %"),
        series: series.collect(),
    }
}

/// Compares the winners' layers; those for the GPU are expected to be fewer and wider. A difference counts if
/// the ranges over the seeds do not overlap.
fn verdict(lab: &Lab, picked: &[Picked], seeds: usize) -> Vec<String> {
    let of = |gpu: bool| -> Vec<&Picked> {
        let is = |picked: &&Picked| matches!(lab.benches[picked.bench].device, Device::Gpu(_)) == gpu;
        picked.iter().filter(is).collect()
    };
    let (gpu, cpu) = (of(true), of(false));
    let (Some(on_gpu), Some(on_cpu)) = (gpu.first(), cpu.first()) else {
        let only = "There is nothing to compare without a winner on a graphics adapter and one on a CPU.";
        return vec![only.into()];
    };
    let compared = |what: &str, expected: &str, of: fn(&Build) -> f64, fewer: bool| {
        let values = |picked: &[&Picked]| Spread::of(picked.iter().map(|picked| of(&picked.shape)).collect());
        let (Some(gpu), Some(cpu)) = (values(&gpu), values(&cpu)) else { return String::new() };
        let apart = if fewer { gpu.max < cpu.min } else { gpu.min > cpu.max };
        let against = if fewer { gpu.min > cpu.max } else { gpu.max < cpu.min };
        let conclusion = match (apart, against, seeds) {
            (true, _, 1) => format!("{expected}, as expected, in one search each"),
            (true, ..) => format!("{expected}, as expected, in all {seeds} searches each"),
            (_, true, _) => format!("not {expected}, contrary to the expectation"),
            _ => "no clear difference".into(),
        };
        let shown = |spread: Spread| match spread.min == spread.max {
            true => format!("{:.0}", spread.median),
            false => format!("{:.0} ({:.0} to {:.0})", spread.median, spread.min, spread.max),
        };
        format!("{what}: {} for the GPU, {} for the CPU: {conclusion}.", shown(gpu), shown(cpu))
    };
    let mut verdict = vec![
        compared("Layers within the same time", "fewer", |build| build.layers as f64, true),
        compared("Mean channels per layer", "wider", |build| build.width, false),
    ];
    let swapped = |own: &Picked, other: &Picked| {
        let at = own.bench;
        Some(other.ms[at]?.median / own.ms[at]?.median)
    };
    if let (Some(gpu), Some(cpu)) = (swapped(on_gpu, on_cpu), swapped(on_cpu, on_gpu)) {
        verdict.push(format!(
            "On the GPU, the CPU's winner takes {} as long as the GPU's; on the CPU, the GPU's winner takes \
             {} as long as the CPU's.",
            times(gpu),
            times(cpu)
        ));
    }
    verdict
}
