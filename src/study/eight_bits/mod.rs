//! E8: what 8 bits cost in error and gain in time, with three activations and from V1 to V3.

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
    measure::{Spread, report::Section},
    plan::Fuse,
    quantize::WITHIN,
};
use subjects::{Group, SHAPE, Sizes, Subject, TRAINED};

/// A network's times in f32 and in 8 bits.
type Both = [Measured; 2];

pub fn costs_and_gains(lab: &mut Lab) -> Result<Section> {
    let sizes = Sizes::new(lab.quick());
    let subjects = subjects::all(lab, &sizes)?;
    let measured: Vec<Vec<Both>> = lab.devices().map(|at| timed(lab, at, &subjects)).collect();
    let mut verdict = Vec::new();
    verdict.extend(activations_lose(&subjects));
    verdict.extend(trained_loses(&subjects));
    for (at, times) in measured.iter().enumerate() {
        verdict.extend(gained(lab.label(at), &subjects, times));
        verdict.extend(activations_take(lab.label(at), &subjects, times));
    }
    verdict.extend(smaller(&subjects));
    if verdict.is_empty() {
        verdict.push("No network was measured in 8 bits.".into());
    }
    Ok(Section {
        id: "E8".into(),
        title: "Eight bits: what they cost and what they gain".into(),
        claim: claim(
            "h-swish takes the place of swish, whose sigmoid is costly and loses precision in fixed point. \
             MobileNetV3 is fit for 8 bits, which make networks smaller and quicker at little loss.",
        ),
        theory: "A weight of 8 bits takes a quarter of the bytes, and an instruction multiplies four times \
                 as many. In 8 bits an activation that is not a mere clamp is looked up in a table of 4096 \
                 entries, so that a sigmoid costs as much as any other. A map has 255 steps over its range; \
                 what is lost to them adds up from layer to layer."
            .into(),
        method: format!(
            "All layers in 8 bits, with ranges from {} scenes and errors on {} others. The error is \
             relative: the length of what an answer is off, over the answer's length. Three networks of \
             {}'s shape have one activation everywhere outside of squeeze-excite, and {} draws of random \
             weights; their batch norms, and those of V1 to V3, are scaled so that values keep their size \
             from layer to layer. Random weights tell how errors compare, not how large those of trained \
             networks are.\n\nThe trained network is the demo's classifier, a V3-Small for pictures of 128 x \
             128 ({} scenes for ranges, {} others), as trained and with swish in place of h-swish, without \
             further training. Times are of one picture, f32 and 8 bits in turns; every device computes in \
             integers.",
            sizes.random[0], sizes.random[1], sizes.shape.1, sizes.draws, sizes.trained[0], sizes.trained[1]
        ),
        figures: shown::figures(lab, &subjects, &measured),
        tables: shown::tables(lab, &subjects, &measured, sizes.trained[1]),
        verdict,
        ..Section::default()
    })
}

/// What each takes both ways; those of one group take turns.
fn timed(lab: &mut Lab, at: usize, subjects: &[Subject]) -> Vec<Both> {
    let mut measured = Vec::new();
    for group in subjects.chunk_by(|a, b| a.group == b.group) {
        let mut cases = Vec::new();
        for Subject { name, rounded, .. } in group {
            for (graph, way) in [(&rounded.float, "f32"), (&rounded.eight, "8 bits")] {
                cases.push(Case::new(format!("{name} in {way}"), graph, rounded.input, Fuse::Auto));
            }
        }
        let mut times = lab.compare(at, &cases).into_iter();
        while let (Some(float), Some(eight)) = (times.next(), times.next()) {
            measured.push([float, eight]);
        }
    }
    measured
}

fn find<'a>(subjects: &'a [Subject], name: &str) -> Option<(usize, &'a Subject)> {
    subjects.iter().enumerate().find(|(_, subject)| subject.name == name)
}

const UNDECIDED: &str = "that does not decide it";

/// What so many of so many say of a sentence of the paper.
fn judged(for_it: usize, all: usize) -> &'static str {
    match (4 * for_it, all) {
        (_, 0) => "that says nothing",
        (least, all) if least >= 3 * all => "as the paper says",
        (most, all) if most <= all => "not what the paper says",
        _ => UNDECIDED,
    }
}

/// Whether swish loses more than h-swish.
fn activations_lose(subjects: &[Subject]) -> Option<String> {
    let of = |name| Some(find(subjects, name)?.1);
    let (hard, soft) = (of(SHAPE[1].1)?, of(SHAPE[2].1)?);
    let ratios: Vec<f64> =
        soft.medians().iter().zip(hard.medians()).map(|(soft, hard)| soft / hard).collect();
    let ratio = Spread::of(ratios)?;
    let (more, all) = more(soft, hard);
    // Draws differ by themselves: where they contradict one another, scenes decide nothing.
    let agreed = ratio.min > 1.0 || ratio.max < 1.0;
    let mut text = format!(
        "In 8 bits swish's errors are {} h-swish's with random weights ({:.2} to {:.2} by the draw, more on \
         {more} of {all} scenes): {}",
        times(ratio.median),
        ratio.min,
        ratio.max,
        if agreed { judged(more, all) } else { UNDECIDED }
    );
    if let (Some(hard), Some(soft)) = (of(TRAINED[0].1), of(TRAINED[1].1)) {
        let ratio = soft.error()?.median / hard.error()?.median;
        let (more, all) = self::more(soft, hard);
        let judged = judged(more, all);
        text += &format!("; {} with trained ones, more on {more} of {all} scenes: {judged}", times(ratio));
    }
    Some(text + ".")
}

/// On how many scenes one network's error is more than another's, and of how many, over all draws.
fn more(one: &Subject, other: &Subject) -> (usize, usize) {
    let draws = one.draws.iter().zip(&other.draws);
    let pairs = draws.flat_map(|(one, other)| one.iter().zip(other));
    pairs.fold((0, 0), |(more, all), (one, other)| (more + usize::from(one > other), all + 1))
}

/// Whether the trained network loses little: no more than `goldcrest quantize` allows by itself.
fn trained_loses(subjects: &[Subject]) -> Option<String> {
    let (_, trained) = find(subjects, TRAINED[0].1)?;
    let (errors, little) = (&trained.rounded.errors, WITHIN.sqrt());
    let within = errors.iter().filter(|error| **error <= little).count();
    Some(format!(
        "The trained V3-Small's answers are {:.1}\u{a0}% off in 8 bits, at most {} (what `quantize` allows) on \
         {within} of {} scenes, and its best class is another on {}: {}.",
        100.0 * trained.error()?.median,
        percent(little),
        errors.len(),
        trained.rounded.changed,
        judged(within, errors.len())
    ))
}

/// What 8 bits gain in time.
fn gained(label: &str, subjects: &[Subject], measured: &[Both]) -> Option<String> {
    let (mut parts, mut quicker, mut slower) = (Vec::new(), 0, 0);
    for (subject, [float, eight]) in
        subjects.iter().zip(measured).filter(|(subject, _)| subject.group == Group::Generations)
    {
        let Some(gain) = ratio(float, eight) else { continue };
        let (Ok(float), Ok(eight)) = (float, eight) else { continue };
        let decided = float.ms().differs(eight.ms());
        quicker += usize::from(decided && gain > 1.0);
        slower += usize::from(decided && gain < 1.0);
        let doubt = if decided { "" } else { " (repeating alone may do that)" };
        parts.push(format!("{} {gain:.2}{doubt}", subject.name));
    }
    let judged = match (quicker, slower, parts.len()) {
        (_, _, 0) => return None,
        (quicker, _, all) if quicker == all => "as the paper says",
        (0, slower, all) if slower == all => "not what the paper says",
        (0, 1.., _) => "none is quicker, as far as the noise tells",
        (0, 0, _) => "the noise does not decide it",
        _ => "the paper is right of some",
    };
    Some(format!("How many times as quick 8 bits are on the {label}: {}: {judged}.", parts.join(", ")))
}

/// What the activations take beside one another.
fn activations_take(label: &str, subjects: &[Subject], measured: &[Both]) -> Option<String> {
    let of = |name| measured.get(find(subjects, name)?.0);
    let [plain, hard, soft] = [of(SHAPE[0].1)?, of(SHAPE[1].1)?, of(SHAPE[2].1)?];
    let [float, eight] = [0, 1].map(|way| {
        let judged = match (&soft[way], &hard[way]) {
            (Ok(soft), Ok(hard)) if !soft.ms().differs(hard.ms()) => UNDECIDED,
            (Ok(soft), Ok(hard)) if soft.ms().median > hard.ms().median => "as the paper says",
            (Ok(_), Ok(_)) => "not what the paper says",
            _ => "that says nothing",
        };
        format!("{}: {judged}", change(&soft[way], &hard[way]))
    });
    Some(format!(
        "What swish changes in h-swish's time on the {label}: in f32 {float}; in 8 bits {eight}. What h-swish \
         changes in ReLU6's: in f32 {}, in 8 bits {}.",
        change(&hard[0], &plain[0]),
        change(&hard[1], &plain[1])
    ))
}

/// What 8 bits gain in size.
fn smaller(subjects: &[Subject]) -> Option<String> {
    let part = |subject: &Subject| {
        let [before, after] = subject.rounded.bytes;
        (subject.group == Group::Generations)
            .then(|| format!("{} {}", subject.name, percent(after as f64 / before as f64)))
    };
    let parts: Vec<String> = subjects.iter().filter_map(part).collect();
    (!parts.is_empty())
        .then(|| format!("In 8 bits weights and biases take of those in f32: {}.", parts.join(", ")))
}
