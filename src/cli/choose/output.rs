//! The output of `choose`: text or JSON.

use std::fmt::Write;

use anyhow::Result;
use goldcrest::{
    quantize::StoredType,
    search::{Choice, Limit, Limits, Measured, Metric, Standing, megabytes},
};
use serde_json::{Value, json as value};

use super::super::common;

/// The flags that choose the device of a row.
pub type Flags<'a> = &'a dyn Fn(&Measured) -> String;

pub fn json(choice: &Choice, limits: &Limits, flags: Flags) -> Result<String> {
    let recommended = choice.recommended(limits);
    let nearest = match recommended {
        Some(_) => Vec::new(),
        None => choice.front.nearest(limits),
    };
    let nearest = nearest.into_iter().map(|(limit, _, row)| {
        let mut object = row_json(row, limits, flags);
        object["nearest_to"] = value!(limit);
        object
    });
    let rows = |all: bool| -> Vec<Value> {
        let kept = choice.front.rows().filter(|(_, standing)| all || *standing == Standing::Front);
        kept.map(|(row, standing)| {
            let mut object = row_json(row, limits, flags);
            object["dominated"] = value!(standing == Standing::Dominated);
            object
        })
        .collect()
    };
    common::json(&value!({
        "limits": limits,
        "recommended": recommended.map(|(row, _)| row_json(row, limits, flags)),
        "rule": recommended.map(|(_, rule)| rule),
        "nearest": nearest.collect::<Vec<_>>(),
        "front": rows(false),
        "measured": rows(true),
        "counts": choice.counts,
        "failures": choice.failures,
    }))
}

/// A row as JSON.
fn row_json(row: &Measured, limits: &Limits, flags: Flags) -> Value {
    let published = &row.published;
    let mut object = value!({
        "network": published.network,
        "weights": published.weights,
        "size": published.size,
        "precision": row.precision,
        "accuracy": published.accuracy,
        "metric": published.metric,
        "accuracy_of": "f32",
        "accuracy_known": row.precision != StoredType::Int8,
        "ms": row.ms.median,
        "ms_min": row.ms.min,
        "ms_max": row.ms.max,
        "gpu_ms": row.gpu_ms,
        "noisy": row.noisy,
        "backend": row.backend,
        "device": row.device,
        "macs": row.macs,
        "parameters": published.parameters,
        "memory_bytes": row.memory_bytes,
        "download_bytes": published.download_bytes,
        "fits": limits.admit(row),
        "source": published.source,
        "date": published.date,
        "command": row.command(&flags(row)),
    });
    if published.metric == Metric::Top1 {
        object["top1"] = value!(published.accuracy);
    }
    object
}

pub fn words(choice: &Choice, limits: &Limits, flags: Flags) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    write!(text, "{}", choice.front)?;
    let excluded = choice.front.rows().any(|(_, standing)| standing == Standing::Excluded);
    let excluded = if excluded { "; -: outside a limit other than time" } else { "" };
    writeln!(text, "\n{}; *: on the Pareto front of its device{excluded}", choice.counts)?;
    match choice.recommended(limits) {
        Some((row, rule)) => {
            writeln!(text, "\n{rule} {limits}: {}", line(row))?;
            if limits.within_ms.is_some_and(|most| row.ms.max > most) {
                writeln!(text, "  the time is the median: the slowest run took {:.2} ms", row.ms.max)?;
            }
            if row.precision == StoredType::Int8 {
                writeln!(
                    text,
                    "  the accuracy is that of f32: goldcrest quantize --pictures measures the error of int8"
                )?;
            }
            writeln!(text, "  {}", row.command(&flags(row)))?;
        }
        None if limits.is_empty() => {
            writeln!(text, "\nno network is recommended, because the front has no knee: set a limit")?;
        }
        None => {
            writeln!(text, "\nno network {limits}")?;
            for (limit, others, row) in choice.front.nearest(limits) {
                let what = match limit {
                    Limit::Within => "the fastest",
                    Limit::Accuracy => "the most accurate",
                    Limit::Memory => "the least memory",
                    Limit::Download => "the smallest file",
                };
                let others = if others.is_empty() { String::new() } else { format!(" {others}") };
                writeln!(text, "{what}{others}: {}", line(row))?;
            }
        }
    }
    Ok(text)
}

/// A row as a sentence.
fn line(row: &Measured) -> String {
    let published = &row.published;
    format!(
        "{published} at {}x{} in {} on the {}: {} % ({}), {:.2} ms, {} of memory, a file of {}",
        published.size,
        published.size,
        row.precision,
        row.backend,
        published.accuracy,
        published.metric,
        row.ms.median,
        megabytes(row.memory_bytes),
        megabytes(published.download_bytes),
    )
}
