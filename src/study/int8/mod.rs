//! E8: the error, speed and size of int8 networks, with three activations and from V1 to V3.

mod rounded;
mod shown;
mod subjects;

use super::{
    claim,
    lab::{Case, Lab, Measured, percent, ratio, times},
    parts::change,
};
use crate::{
    Result,
    measure::{
        Spread,
        report::{Outcome, Section},
    },
    plan::Fuse,
    quantize::DEFAULT_MAX_NOISE,
};
use subjects::{Group, SHAPE, Sizes, Subject, TRAINED};

/// A verdict, and the outcomes of the parts of the claim that it tests.
type Finding = (String, Vec<Outcome>);

/// A network's times in f32 and in int8.
type Times = [Measured; 2];

pub async fn costs_and_gains(lab: &mut Lab<'_>) -> Result<Section> {
    let sizes = Sizes::new(lab.quick());
    let subjects = subjects::all(lab, &sizes)?;
    let mut measured = Vec::new();
    for at in lab.devices() {
        measured.push(timed(lab, at, &subjects).await);
    }
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(swish_error(&subjects));
    findings.extend(trained_error(&subjects));
    for (at, times) in measured.iter().enumerate() {
        findings.extend(speed_up(lab.label(at), &subjects, times));
        findings.extend(activation_times(lab.label(at), &subjects, times));
    }
    let (mut verdict, outcomes): (Vec<String>, Vec<Vec<Outcome>>) = findings.into_iter().unzip();
    verdict.extend(sizes_of_weights(&subjects));
    if verdict.is_empty() {
        verdict.push("No network was measured in int8.".into());
    }
    let mut section = Section {
        id: "E8".into(),
        title: "The costs and gains of int8".into(),
        claim: claim(
            "h-swish replaces swish, whose sigmoid is costly and loses precision in fixed point. \
             MobileNetV3 suits 8 bits, which make networks smaller and faster with little loss of accuracy.",
        ),
        theory: "An int8 weight takes a quarter of the bytes, and an instruction multiplies four times as \
                 many values. In int8 an activation other than a clamp is a lookup in a table of 4096 \
                 entries, so that a sigmoid costs as much as any other. A map has 255 steps over its range; \
                 the rounding errors add up from layer to layer."
            .into(),
        method: format!(
            "All layers are int8; ranges are measured on {} scenes, errors on {} others. The error is \
             relative: the norm of the difference between the int8 and the f32 output, divided by the norm \
             of the f32 output. Three networks with the structure of {} use one activation everywhere \
             outside squeeze-excite, with {} draws of random weights; their batch norms, and those of V1 to \
             V3, are scaled so that values keep their magnitude from layer to layer. Random weights show \
             how errors compare, not how large those of trained networks are.\n\nThe trained network is the \
             demo's classifier, a V3-Small for pictures of 128 x 128 ({} scenes for ranges, {} others). It \
             is measured twice: as trained, and with swish in place of h-swish but the same weights. Times are for \
             one picture, with f32 and int8 runs alternating; every device computes int8 networks in integers.",
            sizes.random[0], sizes.random[1], sizes.shape.1, sizes.draws, sizes.trained[0], sizes.trained[1]
        ),
        figures: shown::figures(lab, &subjects, &measured),
        tables: shown::tables(lab, &subjects, &measured, sizes.trained[1]),
        verdict,
        ..Section::default()
    };
    section.conclude(outcomes.into_iter().flatten().collect());
    Ok(section)
}

/// Times each network in f32 and in int8; the runs of one group alternate.
async fn timed(lab: &mut Lab<'_>, at: usize, subjects: &[Subject]) -> Vec<Times> {
    let mut measured = Vec::new();
    for group in subjects.chunk_by(|a, b| a.group == b.group) {
        let mut cases = Vec::new();
        for Subject { name, rounded, .. } in group {
            for (graph, way) in [(&rounded.float, "f32"), (&rounded.int8, "int8")] {
                cases.push(Case::new(format!("{name} in {way}"), graph, rounded.input, Fuse::Auto));
            }
        }
        let mut times = lab.compare(at, &cases).await.into_iter();
        while let (Some(float), Some(int8)) = (times.next(), times.next()) {
            measured.push([float, int8]);
        }
    }
    measured
}

fn find<'a>(subjects: &'a [Subject], name: &str) -> Option<(usize, &'a Subject)> {
    subjects.iter().enumerate().find(|(_, subject)| subject.name == name)
}

/// Compares the errors of swish and h-swish.
fn swish_error(subjects: &[Subject]) -> Option<Finding> {
    let of = |name| Some(find(subjects, name)?.1);
    let (hard, soft) = (of(SHAPE[1].1)?, of(SHAPE[2].1)?);
    let ratios: Vec<f64> =
        soft.medians().iter().zip(hard.medians()).map(|(soft, hard)| soft / hard).collect();
    let ratio = Spread::of(ratios)?;
    let (more, all) = count_larger(soft, hard);
    // If the draws of weights contradict each other, the result is inconclusive for any number of scenes.
    let agreed = ratio.min > 1.0 || ratio.max < 1.0;
    let outcome = if agreed { Outcome::of(more, all) } else { Outcome::Undecided };
    let mut outcomes = vec![outcome];
    let mut text = format!(
        "In int8 swish's errors are {} h-swish's with random weights ({:.2} to {:.2} over the draws, larger \
         on {more} of {all} scenes): {outcome}",
        times(ratio.median),
        ratio.min,
        ratio.max
    );
    if let (Some(hard), Some(soft)) = (of(TRAINED[0].1), of(TRAINED[1].1)) {
        let ratio = soft.error()?.median / hard.error()?.median;
        let (more, all) = count_larger(soft, hard);
        let outcome = Outcome::of(more, all);
        outcomes.push(outcome);
        text +=
            &format!("; {} with trained weights, larger on {more} of {all} scenes: {outcome}", times(ratio));
    }
    Some((text + ".", outcomes))
}

/// Counts the scenes on which `one` has the larger error, and all scenes, over all draws.
fn count_larger(one: &Subject, other: &Subject) -> (usize, usize) {
    let draws = one.draws.iter().zip(&other.draws);
    let pairs = draws.flat_map(|(one, other)| one.iter().zip(other));
    pairs.fold((0, 0), |(more, all), (one, other)| (more + usize::from(one > other), all + 1))
}

/// Compares the trained network's errors with the default limit of `goldcrest quantize`.
fn trained_error(subjects: &[Subject]) -> Option<Finding> {
    let (_, trained) = find(subjects, TRAINED[0].1)?;
    let (errors, limit) = (&trained.rounded.errors, DEFAULT_MAX_NOISE.sqrt());
    let within = errors.iter().filter(|error| **error <= limit).count();
    let outcome = Outcome::of(within, errors.len());
    let text = format!(
        "The trained V3-Small's outputs have an error of {:.1}\u{a0}% in int8, at most {} (the default limit \
         of `quantize`) on {within} of {} scenes, and a different most likely class on {}: {outcome}.",
        100.0 * trained.error()?.median,
        percent(limit),
        errors.len(),
        trained.rounded.changed
    );
    Some((text, vec![outcome]))
}

/// The speed-up of int8 over f32, from V1 to V3.
fn speed_up(label: &str, subjects: &[Subject], measured: &[Times]) -> Option<Finding> {
    let (mut parts, mut faster, mut slower) = (Vec::new(), 0, 0);
    for (subject, [float, int8]) in
        subjects.iter().zip(measured).filter(|(subject, _)| subject.group == Group::Generations)
    {
        let Some(gain) = ratio(float, int8) else { continue };
        let (Ok(float), Ok(int8)) = (float, int8) else { continue };
        let decided = float.ms().differs(int8.ms());
        faster += usize::from(decided && gain > 1.0);
        slower += usize::from(decided && gain < 1.0);
        let doubt = if decided { "" } else { " (within the noise)" };
        parts.push(format!("{} {gain:.2}{doubt}", subject.name));
    }
    let outcome = match (faster, slower, parts.len()) {
        (_, _, 0) => return None,
        (faster, _, all) if faster == all => Outcome::Agrees,
        (0, slower, all) if slower == all => Outcome::Contradicts,
        (0, ..) => Outcome::Undecided,
        _ => Outcome::Partly,
    };
    let text = format!("Speed-up of int8 over f32 on the {label}: {}: {outcome}.", parts.join(", "));
    Some((text, vec![outcome]))
}

/// Compares the times of the activations.
fn activation_times(label: &str, subjects: &[Subject], measured: &[Times]) -> Option<Finding> {
    let of = |name| measured.get(find(subjects, name)?.0);
    let [plain, hard, soft] = [of(SHAPE[0].1)?, of(SHAPE[1].1)?, of(SHAPE[2].1)?];
    let outcomes = [0, 1].map(|way| match (&soft[way], &hard[way]) {
        (Ok(soft), Ok(hard)) if !soft.ms().differs(hard.ms()) => Outcome::Undecided,
        (Ok(soft), Ok(hard)) if soft.ms().median > hard.ms().median => Outcome::Agrees,
        (Ok(_), Ok(_)) => Outcome::Contradicts,
        _ => Outcome::Untested,
    });
    let [float, int8] = [0, 1].map(|way| format!("{}: {}", change(&soft[way], &hard[way]), outcomes[way]));
    let text = format!(
        "Change in time from h-swish to swish on the {label}: in f32 {float}; in int8 {int8}. From ReLU6 to \
         h-swish: in f32 {}, in int8 {}.",
        change(&hard[0], &plain[0]),
        change(&hard[1], &plain[1])
    );
    Some((text, outcomes.to_vec()))
}

/// The size of int8 weights and biases relative to f32, from V1 to V3.
fn sizes_of_weights(subjects: &[Subject]) -> Option<String> {
    let part = |subject: &Subject| {
        let [before, after] = subject.rounded.bytes;
        (subject.group == Group::Generations)
            .then(|| format!("{} {}", subject.name, percent(after as f64 / before as f64)))
    };
    let parts: Vec<String> = subjects.iter().filter_map(part).collect();
    (!parts.is_empty())
        .then(|| format!("Size of int8 weights and biases relative to f32: {}.", parts.join(", ")))
}
