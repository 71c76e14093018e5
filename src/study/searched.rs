//! E9: what a search picks for the GPU and for the CPU.

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
    search::{Found, Latency, Samples, Settings, Trial, measured, seek},
    session::{Device, Precision},
    zoo::{Space, Subnet, Supernet},
};

/// What is searched, and for how long.
struct Extent {
    sizes: Vec<usize>,
    widths: Vec<f64>,
    pictures: [usize; 2],
    population: usize,
    generations: usize,
    /// Searches that differ in their random choices alone: how far they differ is the spread.
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
    /// Milliseconds on each device, in their order; none where it could not be timed.
    ms: Vec<Option<Spread>>,
    shape: Build,
}

/// What a network is built of.
struct Build {
    layers: usize,
    /// Output channels of the convolutions over maps, in the mean.
    width: f64,
    /// Sides of depthwise windows, in the mean.
    kernel: f64,
    macs: u64,
}

pub fn for_devices(lab: &mut Lab) -> Result<Section> {
    let mut section = Section {
        id: "E9".into(),
        title: "What a search picks for each device".into(),
        claim: claim(
            "An architecture search presets a series of models, evaluates them and keeps the best; so MobileNetV3 was \
             found.",
        ),
        theory: "A device with many units is filled by few, wide layers, and pays for each launch; a CPU pays for \
                 arithmetic. So a search should pick fewer and wider layers for the GPU."
            .into(),
        method: "Networks of the built-in supernet, whose kernels, expansions, depths, widths, squeeze-excite and \
                 picture sizes are free, told shapes apart. On each device every block was timed, and evolution looked for the \
                 most accurate network within the same time; then, of all that were judged, for the quickest that is as \
                 accurate as the least accurate winner. Each winner was timed on the other device too, from a \
                 picture in memory to the answer in memory."
            .into(),
        ..Section::default()
    };
    if let Err(error) = measure(lab, &mut section) {
        lab.failures.push(format!("the search: {error}"));
        section.verdict.push("The search failed: see what failed.".into());
    }
    Ok(section)
}

fn measure(lab: &mut Lab, section: &mut Section) -> Result<()> {
    let whole = demo::supernet()?;
    let extent = Extent::of(lab, whole.space());
    let space = Space { sizes: extent.sizes.clone(), widths: extent.widths.clone(), ..whole.space().clone() };
    let supernet = whole.within(space)?;
    lab.say("scenes to search by");
    let [search, check] = extent.pictures;
    let mut trial = Trial::new(&supernet, Cpu::new(None)?, Samples::scenes(search, check)?)?;
    let mut latencies = Vec::new();
    for at in lab.devices() {
        let (device, label) = (lab.benches[at].device.clone(), lab.label(at).to_owned());
        latencies.push(Latency::measure(&supernet, &device, Precision::F32, |done, of| {
            lab.say(&format!("blocks on the {label}, {done} of {of}"));
        })?);
    }
    let (limits, together) = limits(&supernet, &latencies);
    let mut same_time = Vec::new();
    let mut found: Vec<Vec<Found>> = lab.devices().map(|_| Vec::new()).collect();
    for at in lab.devices() {
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
            let hear = |_: &Found, count| lab.say(&format!("candidates for the {label}, {count}"));
            let outcome = seek(&mut trial, &device, Precision::F32, latency, settings, hear)?;
            if let Some(best) = outcome.finalists.first() {
                same_time.push(picked(lab, &supernet, at, best.subnet.clone(), best.accuracy)?);
            }
            found[at].extend(outcome.found);
        }
    }
    // The best that each found, by the pictures that it was searched by; the least of those is what all reach.
    let best = |found: &Vec<Found>| found.iter().map(|found| found.accuracy).fold(0.0, f64::max);
    let reached = found.iter().map(best).fold(1.0, f64::min);
    let mut same_accuracy = Vec::new();
    for (at, found) in found.iter().enumerate() {
        let good = found.iter().filter(|found| found.accuracy >= reached);
        let Some(quickest) = good.min_by(|a, b| a.predicted_ms.total_cmp(&b.predicted_ms)) else { continue };
        lab.say("the quickest of the good");
        let (_, _, accuracy) = trial.finish(&quickest.subnet)?;
        same_accuracy.push(picked(lab, &supernet, at, quickest.subnet.clone(), accuracy)?);
    }
    let within = limits.iter().map(|ms| format!("{ms:.2} ms")).collect::<Vec<_>>();
    let caption = match together {
        true => format!("The most accurate within {}", within[0]),
        false => format!(
            "The most accurate within {}: their times do not overlap, so each has the middle of its own",
            within.join(" and ")
        ),
    };
    section.tables.push(table(lab, caption, &same_time));
    let caption = format!("The quickest that has {:.1} % of the searched pictures right", 100.0 * reached);
    section.tables.push(table(lab, caption, &same_accuracy));
    section.figures.push(figure(lab, &found));
    section.verdict = verdict(lab, &same_time, extent.seeds.len());
    Ok(())
}

/// The milliseconds that networks may take on each device: the same where both have quicker and slower ones, in the middle of
/// what they share; else the middle of each one's own.
fn limits(supernet: &Supernet, latencies: &[Latency]) -> (Vec<f64>, bool) {
    let ends = latencies
        .iter()
        .map(|latency| [supernet.smallest(), supernet.largest()].map(|subnet| latency.predict(&subnet)));
    let ends: Vec<[f64; 2]> = ends.collect();
    let low = ends.iter().map(|[low, _]| *low).fold(0.0, f64::max);
    let high = ends.iter().map(|[_, high]| *high).fold(f64::INFINITY, f64::min);
    // Below this there is nearly nothing to choose from.
    const ROOM: f64 = 1.5;
    match high > ROOM * low {
        true => (vec![(low * high).sqrt(); ends.len()], true),
        false => (ends.iter().map(|[low, high]| (low * high).sqrt()).collect(), false),
    }
}

fn picked(lab: &mut Lab, supernet: &Supernet, bench: usize, subnet: Subnet, accuracy: f64) -> Result<Picked> {
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
        lab.say(&format!("a winner on the {label}"));
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
        Column::new("right", "%"),
        Column::new("layers", ""),
        Column::new("mean width", "channels"),
        Column::new("mean kernel", ""),
        Column::new("MACs", "M"),
        Column::new("rate there", "GMACs/s"),
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
        let points = found.iter().map(|found| (found.predicted_ms, 100.0 * found.accuracy));
        Series::new(format!("candidates for the {}", lab.label(at)), Style::Marks, points.collect::<Vec<_>>())
    });
    Figure {
        title: "Candidates of the searches".into(),
        caption: "Shares of the searched pictures over predicted times, each on its own device.".into(),
        kind: Kind::Points,
        x: Axis::log("ms, from a tensor to the answer"),
        y: Axis::linear("% right"),
        series: series.collect(),
    }
}

/// Whether the GPU's winners have fewer and wider layers than the CPU's, beyond what seeds make of it.
fn verdict(lab: &Lab, picked: &[Picked], seeds: usize) -> Vec<String> {
    let of = |wants_gpu: bool| -> Vec<&Picked> {
        let is = |picked: &&Picked| matches!(lab.benches[picked.bench].device, Device::Gpu(_)) == wants_gpu;
        picked.iter().filter(is).collect()
    };
    let (gpu, cpu) = (of(true), of(false));
    let (Some(on_gpu), Some(on_cpu)) = (gpu.first(), cpu.first()) else {
        let only =
            "Without a graphics adapter and a CPU that each have a winner there is nothing to compare.";
        return vec![only.into()];
    };
    let compared = |what: &str, wanted: &str, of: fn(&Build) -> f64, fewer: bool| {
        let values = |picked: &[&Picked]| Spread::of(picked.iter().map(|picked| of(&picked.shape)).collect());
        let (Some(gpu), Some(cpu)) = (values(&gpu), values(&cpu)) else { return String::new() };
        let apart = if fewer { gpu.max < cpu.min } else { gpu.min > cpu.max };
        let against = if fewer { gpu.min > cpu.max } else { gpu.max < cpu.min };
        let judged = match (apart, against, seeds) {
            (true, _, 1) => format!("{wanted}, as expected, in one search each"),
            (true, ..) => format!("{wanted}, as expected, in all of {seeds} searches each"),
            (_, true, _) => format!("not {wanted}, against the expectation"),
            _ => "no clear difference".into(),
        };
        let shown = |spread: Spread| match spread.min == spread.max {
            true => format!("{:.0}", spread.median),
            false => format!("{:.0} ({:.0} to {:.0})", spread.median, spread.min, spread.max),
        };
        format!("{what}: {} for the GPU, {} for the CPU: {judged}.", shown(gpu), shown(cpu))
    };
    let mut verdict = vec![
        compared("Layers within the same time", "fewer", |build| build.layers as f64, true),
        compared("Channels of a layer, in the mean", "wider", |build| build.width, false),
    ];
    let swapped = |own: &Picked, other: &Picked| {
        let at = own.bench;
        Some(other.ms[at]?.median / own.ms[at]?.median)
    };
    if let (Some(gpu), Some(cpu)) = (swapped(on_gpu, on_cpu), swapped(on_cpu, on_gpu)) {
        verdict.push(format!(
            "On the GPU the CPU's winner takes {} as long as its own, on the CPU the GPU's winner {}.",
            times(gpu),
            times(cpu)
        ));
    }
    verdict
}
