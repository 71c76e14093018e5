//! E1 and E2: standard against depthwise-separable convolutions, in single layers and in a whole network.

use super::{
    answer::Gain,
    claim,
    lab::{Case, Lab, Measured, cell, cost, factor, percent, ratio, share, times},
};
use crate::{
    Result, Shape,
    graph::{Activation::Relu6, Graph},
    measure::report::{Axis, Column, Figure, Kind, Outcome, Section, Series, Style, Table},
    plan::Fuse,
    zoo::synthetic::Builder,
};

/// V1's distinct blocks: input channels, output channels, stride, and input height and width.
const V1: [(usize, usize, usize, usize); 9] = [
    (32, 64, 1, 112),
    (64, 128, 2, 112),
    (128, 128, 1, 56),
    (128, 256, 2, 56),
    (256, 256, 1, 28),
    (256, 512, 2, 28),
    (512, 512, 1, 14),
    (512, 1024, 2, 14),
    (1024, 1024, 1, 7),
];

/// The least fraction of the time that the paper says V1 saves.
const SAVED: f64 = 0.8;

/// One of V1's blocks with a standard and with a separable convolution, on one device.
struct Pair {
    standard: Measured,
    /// One kernel per layer.
    unfused: Measured,
    /// One kernel for both layers; none on the CPU, which has no such kernels.
    fused: Option<Measured>,
}

impl Pair {
    /// The speed-up of the separable over the standard convolution.
    fn gain(&self) -> Option<f64> {
        ratio(&self.standard, &self.unfused)
    }

    fn fused_gain(&self) -> Option<f64> {
        ratio(&self.standard, self.fused.as_ref()?)
    }
}

pub async fn layers(lab: &mut Lab<'_>) -> Result<Section> {
    let blocks: Vec<_> = V1.into_iter().step_by(if lab.quick() { 2 } else { 1 }).collect();
    let mut names = Vec::new();
    let mut theory = Vec::new();
    let mut pairs: Vec<Vec<Pair>> = lab.devices().map(|_| Vec::new()).collect();
    for &(inputs, outputs, stride, side) in &blocks {
        let shape = Shape::new(1, inputs, side, side);
        let (standard, separable) = (standard(inputs, outputs, stride), separable(inputs, outputs, stride));
        let name = format!("{side} × {side}, {inputs} to {outputs}");
        theory.push(cost(&standard, shape)?.macs as f64 / cost(&separable, shape)?.macs as f64);
        for (at, pairs) in pairs.iter_mut().enumerate() {
            let split = format!("separable {name}");
            let mut cases = vec![
                Case::baseline(format!("standard {name}"), &standard, shape, Fuse::None),
                Case::baseline(split.clone(), &separable, shape, Fuse::None),
            ];
            if lab.gpu() == Some(at) {
                cases.push(Case::baseline(split, &separable, shape, Fuse::Block));
            }
            let mut measured = lab.compare(at, &cases).await.into_iter();
            if let (Some(standard), Some(unfused)) = (measured.next(), measured.next()) {
                pairs.push(Pair { standard, unfused, fused: measured.next() });
            }
        }
        names.push(name);
    }

    let mut section = Section {
        id: "E1".into(),
        title: "One layer: standard against depthwise-separable".into(),
        claim: claim(
            "A depthwise-separable convolution needs about a ninth of a standard 3x3 convolution's \
             arithmetic. CPUs save nearly as much time; devices that compute in parallel do not.",
        ),
        theory: "A standard convolution needs 9 C D MACs per pixel for C inputs and D outputs, a separable \
                 one 9 C + C D. The ratio is 9 D / (9 + D): 7.9 for 64 outputs, 8.9 for 1024."
            .into(),
        method: "Each of MobileNetV1's blocks as one standard 3x3 convolution, as a depthwise and a \
                 pointwise kernel, and on a GPU also as both in one kernel. Bars are speed-ups over the \
                 standard convolution; the dashed lines are the ratios of MACs. The claim holds if the speed-up is \
                 larger on the CPU than on a GPU in three quarters of the layers."
            .into(),
        ..Section::default()
    };
    let mut series = vec![Series::new("ratio of MACs", Style::Dashed, indexed(&theory))];
    let gains = |of: fn(&Pair) -> Option<f64>, pairs: &[Pair]| {
        indexed(&pairs.iter().map(|pair| of(pair).unwrap_or(f64::NAN)).collect::<Vec<_>>())
    };
    for (at, pairs) in pairs.iter().enumerate() {
        series.push(Series::new(lab.label(at), Style::Marks, gains(Pair::gain, pairs)));
    }
    if let Some(at) = lab.gpu() {
        let name = format!("{}, as one kernel", lab.label(at));
        series.push(Series::new(name, Style::Marks, gains(Pair::fused_gain, &pairs[at])));
    }
    section.figures.push(Figure {
        id: "layers".into(),
        title: "Speed-up of separable convolutions".into(),
        caption: "Speed-up over the standard convolution, for each of V1's blocks.".into(),
        kind: Kind::Bars,
        x: Axis::categories("input size, input and output channels", names.clone()),
        y: Axis::linear("speed-up"),
        series,
    });
    for (at, pairs) in pairs.iter().enumerate() {
        let label = lab.label(at).to_string();
        let gpu = lab.gpu() == Some(at);
        let mut columns = vec![
            Column::new("block", ""),
            Column::new("standard", "ms"),
            Column::new("separable", "ms"),
            Column::new("MACs", "ratio"),
            Column::new("time", "ratio"),
            Column::new("of theory", "%"),
        ];
        if gpu {
            columns.extend([Column::new("fused", "ms"), Column::new("of theory", "%")]);
        }
        let rows = pairs.iter().zip(&theory).zip(&names).map(|((pair, &theory), name)| {
            let mut row = vec![
                // No-break spaces keep the name on one line.
                name.replace(' ', "\u{a0}").into(),
                cell(&pair.standard),
                cell(&pair.unfused),
                factor(Some(theory)),
                factor(pair.gain()),
                share(pair.gain().map(|gain| gain / theory)),
            ];
            if let Some(fused) = &pair.fused {
                row.extend([cell(fused), share(pair.fused_gain().map(|gain| gain / theory))]);
            }
            row
        });
        section.tables.push(Table {
            caption: format!("V1's blocks on the {label}"),
            rows: rows.collect(),
            columns,
        });
        let gain = |gain: fn(&Pair) -> Option<f64>| {
            Gain::of(pairs.iter().zip(&theory).filter_map(|(pair, theory)| Some((*theory, gain(pair)?))))
        };
        let (unfused, fused) = (gain(Pair::gain), gain(Pair::fused_gain));
        let savings = &mut lab.evidence.devices[at];
        (savings.layers, savings.fused) = (unfused, fused);
        let Some(Gain { share: unfused, .. }) = unfused else {
            section.verdict.push(format!("On the {label} no layer could be measured."));
            continue;
        };
        let fused = fused.map(|fused| fused.share);
        let fused = fused.map_or_else(String::new, |fused| {
            format!(
                "; as one kernel, {} ({} to {})",
                percent(fused.median),
                percent(fused.min),
                percent(fused.max)
            )
        });
        section.verdict.push(format!(
            "In single layers, the {label} reaches {} of the speed-up that the MACs promise ({} to {}){fused}.",
            percent(unfused.median),
            percent(unfused.min),
            percent(unfused.max)
        ));
    }
    if let [of_gpu, of_cpu] = &pairs[..] {
        let gains = of_gpu.iter().zip(of_cpu).filter_map(|(gpu, cpu)| Some((gpu.gain()?, cpu.gain()?)));
        let (more_on_cpu, layers) =
            gains.fold((0, 0), |(more, all), (gpu, cpu)| (more + usize::from(cpu > gpu), all + 1));
        lab.evidence.more_on_cpu = (layers > 0).then_some((more_on_cpu, layers));
        let outcome = lab.claim_on_cpu();
        section.verdict.push(format!(
            "In {more_on_cpu} of {layers} layers the speed-up is larger on the {} than on the {}: {outcome}.",
            lab.label(1),
            lab.label(0)
        ));
        section.conclude(outcome);
    }
    Ok(section)
}

pub async fn whole(lab: &mut Lab<'_>) -> Result<Section> {
    let shape = Shape::new(1, 3, 224, 224);
    let graphs = [lab.graph("mobilenet_v1_full")?, lab.graph("mobilenet_v1")?];
    let (full, separable) = (cost(&graphs[0], shape)?, cost(&graphs[1], shape)?);
    let theory = full.macs as f64 / separable.macs as f64;
    let mut section = Section {
        id: "E2".into(),
        title: "A whole network: V1 against V1 with standard convolutions".into(),
        claim: claim("MobileNetV1 saves eight to nine tenths of the time of V1 with standard convolutions."),
        theory: format!(
            "With standard convolutions V1 needs {:.1} times the MACs ({:.0} M against {:.0} M) and {:.1} \
             times the parameters, in about half as many layers.",
            theory,
            full.macs as f64 / 1e6,
            separable.macs as f64 / 1e6,
            full.parameters as f64 / separable.parameters as f64
        ),
        method: "Both networks on one picture of 224 x 224, as the planner schedules them with the kernels \
                 of WebGPU's baseline. The claim holds on a device that saves at least eight tenths."
            .into(),
        ..Section::default()
    };
    let (mut rows, mut outcomes, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for at in lab.devices() {
        let cases = ["mobilenet_v1_full", "mobilenet_v1"].iter().zip(&graphs);
        let cases: Vec<Case> =
            cases.map(|(name, graph)| Case::baseline(*name, graph, shape, Fuse::Auto)).collect();
        let measured = lab.compare(at, &cases).await;
        let [standard, separable] = &measured[..] else { continue };
        let gain = ratio(standard, separable);
        lab.evidence.devices[at].network = Gain::of(gain.map(|gain| (theory, gain)).into_iter());
        shares.extend(gain.map(|gain| (at as f64, 100.0 / gain)));
        outcomes.extend(gain.map(|gain| Outcome::of(usize::from(1.0 - 1.0 / gain >= SAVED), 1)));
        let label = lab.label(at).to_string();
        rows.push(vec![
            label.clone().into(),
            cell(standard),
            cell(separable),
            factor(Some(theory)),
            factor(gain),
            share(gain.map(|gain| gain / theory)),
        ]);
        section.verdict.push(match gain {
            Some(gain) => format!(
                "V1 is {} as fast as V1 with standard convolutions on the {label}: {} of the \
                 {theory:.2} times that the MACs promise. It saves {} of the time.",
                times(gain),
                percent(gain / theory),
                percent(1.0 - 1.0 / gain)
            ),
            None => format!("On the {label} the whole networks could not be compared."),
        });
    }
    section.conclude(outcomes.into_iter().collect());
    let level = |name: &str, percent: f64| {
        Series::new(name, Style::Dashed, lab.devices().map(|at| (at as f64, percent)))
    };
    section.figures.push(Figure {
        id: "network".into(),
        title: "V1's time and MACs, relative to V1 with standard convolutions".into(),
        caption: "One picture of 224 × 224.".into(),
        kind: Kind::Bars,
        x: Axis::categories("", lab.devices().map(|at| lab.label(at))),
        y: Axis::linear("% of V1 with standard convolutions"),
        series: vec![
            level("MACs", 100.0 / theory),
            level("the paper's two tenths", 100.0 * (1.0 - SAVED)),
            Series::new("time", Style::Marks, shares),
        ],
    });
    section.tables.push(Table {
        caption: "V1 with standard and with separable convolutions".into(),
        columns: vec![
            Column::new("device", ""),
            Column::new("standard", "ms"),
            Column::new("separable", "ms"),
            Column::new("MACs", "ratio"),
            Column::new("time", "ratio"),
            Column::new("of theory", "%"),
        ],
        rows,
    });
    Ok(section)
}

/// Pairs each value with its index.
fn indexed(values: &[f64]) -> Vec<(f64, f64)> {
    values.iter().enumerate().map(|(i, value)| (i as f64, *value)).collect()
}

fn standard(inputs: usize, outputs: usize, stride: usize) -> Graph {
    let mut b = Builder::new(inputs);
    b.named("conv").conv(3, outputs, stride, Relu6);
    b.finish()
}

fn separable(inputs: usize, outputs: usize, stride: usize) -> Graph {
    let mut b = Builder::new(inputs);
    b.named("depthwise").depthwise(3, stride, Relu6);
    b.named("pointwise").pointwise(outputs, Relu6);
    b.finish()
}
