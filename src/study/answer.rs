//! The answer at the top of the page: do separable convolutions save time where they save arithmetic?

use super::{
    lab::{Lab, percent, times},
    listed,
};
use crate::measure::{
    Spread,
    report::{Axis, Figure, Kind, Outcome, Point, Report, Series, Style},
};

/// A device realises the saving if its speed-up is at least this fraction of the ratio of MACs.
const REALISED: f64 = 0.75;

/// A speed-up below this counts as no speed-up.
const NOTICEABLE: f64 = 1.05;

/// Separable against standard convolutions, as E1 and E2 measured them.
#[derive(Default)]
pub struct Evidence {
    /// One entry per device.
    pub devices: Vec<Savings>,
    /// The number of layers with a larger speed-up on the CPU than on the GPU, and the number of layers
    /// measured on both.
    pub more_on_cpu: Option<(usize, usize)>,
}

/// The speed-ups of one device.
#[derive(Default)]
pub struct Savings {
    /// V1's blocks, one kernel per layer.
    pub layers: Option<Gain>,
    /// V1's blocks, each as one kernel.
    pub fused: Option<Gain>,
    /// V1 as a whole.
    pub network: Option<Gain>,
}

/// Speed-ups of one or more cases.
#[derive(Clone, Copy)]
pub struct Gain {
    /// The ratios of MACs.
    pub promised: Spread,
    /// The ratios of times.
    pub reached: Spread,
    /// The latter divided by the former, case by case.
    pub share: Spread,
}

impl Gain {
    /// The gains of cases, each with its ratio of MACs and its ratio of times; none without cases.
    pub fn of(cases: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let (promised, reached): (Vec<f64>, Vec<f64>) = cases.unzip();
        let share = promised.iter().zip(&reached).map(|(promised, reached)| reached / promised).collect();
        Some(Self {
            promised: Spread::of(promised)?,
            reached: Spread::of(reached)?,
            share: Spread::of(share)?,
        })
    }
}

/// Writes the answer into the report, as far as it was measured.
pub fn answer(lab: &Lab, report: &mut Report) {
    report.lead = [whole(lab), layers(lab), comparison(lab)].into_iter().flatten().collect();
    report.figure = figure(lab);
}

/// One of a device's gains.
type GainOf = fn(&Savings) -> Option<Gain>;

/// The devices that have this gain, with their names.
fn gains<'a>(lab: &'a Lab, of: GainOf) -> Vec<(&'a str, Gain)> {
    let devices = lab.evidence.devices.iter().enumerate();
    devices.filter_map(|(at, savings)| Some((lab.label(at), of(savings)?))).collect()
}

/// Whether the network is faster by as much as it has fewer MACs.
fn whole(lab: &Lab) -> Option<String> {
    let gains = gains(lab, |savings| savings.network);
    let (_, first) = gains.first()?;
    let answers = gains.iter().map(|(_, gain)| match (gain.share.median, gain.reached.median) {
        (share, _) if share >= REALISED => "Yes",
        (_, reached) if reached >= NOTICEABLE => "In part",
        _ => "No",
    });
    let answers: Vec<&str> = answers.collect();
    let answer = match answers.iter().all(|answer| *answer == answers[0]) {
        true => answers[0],
        false => "It depends on the device",
    };
    let speeds: Vec<String> = gains
        .iter()
        .map(|(label, gain)| {
            let (reached, share) = (times(gain.reached.median), percent(gain.share.median));
            format!("{reached} as fast on the {label} ({share} of that factor)")
        })
        .collect();
    Some(format!(
        "{answer}: with separable instead of standard convolutions MobileNetV1 needs {:.1} times fewer \
         multiply-adds, and is {}.",
        first.promised.median,
        listed(&speeds)
    ))
}

/// The part of the saving that single layers realise.
fn layers(lab: &Lab) -> Option<String> {
    let shares: Vec<String> = lab
        .evidence
        .devices
        .iter()
        .enumerate()
        .filter_map(|(at, savings)| {
            let Spread { median, min, max } = savings.layers?.share;
            let fused = savings.fused.map_or_else(String::new, |fused| {
                format!(", or {} with both layers in one kernel", percent(fused.share.median))
            });
            let label = lab.label(at);
            Some(format!("{} on the {label} ({} to {}){fused}", percent(median), percent(min), percent(max)))
        })
        .collect();
    (!shares.is_empty()).then(|| {
        format!(
            "In single layers, the speed-up is this fraction of the ratio of multiply-adds: {}.",
            shares.join("; ")
        )
    })
}

/// The paper's comparison of CPUs with parallel devices.
fn comparison(lab: &Lab) -> Option<String> {
    const CLAIM: &str =
        "The paper says that CPUs save nearly as much time as arithmetic, but parallel devices do not";
    let Some((more, layers)) = lab.evidence.more_on_cpu else {
        let measured = lab.evidence.devices.iter().any(|savings| savings.layers.is_some());
        return measured.then(|| format!("{CLAIM}; to test this, a graphics adapter and a CPU are needed."));
    };
    let counted = format!("in {more} of {layers} layers the speed-up is larger on the CPU");
    Some(match lab.claim_on_cpu() {
        Outcome::Untested => {
            format!(
                "{CLAIM}; {counted}, but a software adapter computes on the CPU too, so this does not test it."
            )
        }
        outcome => format!("{CLAIM}: {counted}: {outcome}."),
    })
}

/// Speed-ups of single layers and of the network, and the ratios of MACs.
fn figure(lab: &Lab) -> Option<Figure> {
    let kinds: [(&str, GainOf); 3] = [
        ("single layers", |savings| savings.layers),
        ("single layers, as one kernel", |savings| savings.fused),
        ("MobileNetV1", |savings| savings.network),
    ];
    let kinds: Vec<_> = kinds.into_iter().filter(|(_, of)| !gains(lab, *of).is_empty()).collect();
    if kinds.is_empty() {
        return None;
    }
    let promised = kinds.iter().enumerate().filter_map(|(i, (_, of))| {
        let (_, gain) = *gains(lab, *of).first()?;
        Some(Point::from((i as f64, gain.promised.median)))
    });
    let mut series = vec![Series::new("promised by the multiply-adds", Style::Dashed, promised)];
    for (at, savings) in lab.evidence.devices.iter().enumerate() {
        let reached = kinds.iter().enumerate().filter_map(|(i, (_, of))| {
            let Gain { reached, .. } = of(savings)?;
            Some(match reached.min < reached.max {
                true => Point::from((i as f64, reached)),
                false => Point::from((i as f64, reached.median)),
            })
        });
        series.push(Series::new(lab.label(at), Style::Marks, reached.collect::<Vec<_>>()));
    }
    Some(Figure {
        id: "answer".into(),
        title: "Speed-up of separable over standard convolutions".into(),
        caption: "Single layers are V1's blocks: the median, and the range from the least to the largest \
                  speed-up. A bar that reaches the dashed line saves as much time as arithmetic."
            .into(),
        kind: Kind::Bars,
        x: Axis::categories("", kinds.iter().map(|(name, _)| *name)),
        y: Axis::linear("times as fast"),
        series,
    })
}
