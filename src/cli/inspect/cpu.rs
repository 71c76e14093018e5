//! The steps of the CPU: one per operation, in order, without alternatives.

use std::fmt::Write;

use goldcrest::{cpu::Executor, tensor::Element};
use serde_json::{Value, json};

use super::memory;

/// The steps as JSON, with the keys of a GPU's plan.
pub fn json(executor: &Executor) -> Value {
    let steps = executor.steps().iter().map(|step| {
        json!({
            "name": step.name(),
            "kernel": step.kernel,
            "layers": step.layers,
            "shape": step.shape,
            "bytes": step.work.bytes,
            "macs": step.work.macs,
        })
    });
    let slots: Vec<u64> = executor.slots().collect();
    json!({
        "precision": Element::F32,
        "steps": steps.collect::<Vec<_>>(),
        "blocks": [],
        "slot_bytes": slots.iter().sum::<u64>(),
        "slots": slots,
        "weight_bytes": executor.weight_bytes(),
        "peak_bytes": executor.peak_bytes(),
    })
}

/// The steps as text.
pub fn words(executor: &Executor, planned_for: &str, text: &mut String) -> Result<(), std::fmt::Error> {
    let steps = executor.steps();
    let wide = steps.iter().map(|step| step.name().len()).max().unwrap_or(0);
    writeln!(text, "\nsteps on {planned_for} in {}: {}", Element::F32, steps.len())?;
    writeln!(
        text,
        "     {:<wide$}  {:<16} {:>16} {:>12} {:>12}",
        "step", "kernel", "shape", "MACs", "bytes"
    )?;
    for (i, step) in steps.iter().enumerate() {
        writeln!(
            text,
            "{i:>3}  {:<wide$}  {:<16} {:>16} {:>12} {:>12}",
            step.name(),
            step.kernel,
            step.shape.to_string(),
            step.work.macs,
            step.work.bytes
        )?;
    }
    let (all, weights) = (executor.slots().sum(), executor.weight_bytes());
    writeln!(text, "\n{}", memory(executor.slots(), all, weights, executor.peak_bytes()))
}
