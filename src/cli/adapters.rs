//! `goldcrest adapters`

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Result, bail};
use clap::Args;
use goldcrest::{
    gpu::{self, AdapterInfo, Gpu, Trust},
    tensor::Element,
    wgpu,
};
use serde::Serialize;

use super::{
    common::{json, progress, worst},
    quiet::quietly,
};

#[derive(Args)]
pub struct Adapters {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Entry {
    index: usize,
    #[serde(flatten)]
    info: AdapterInfo,
    limits: Limits,
    features: Vec<String>,
    /// Rows and columns of the cooperative matrices, per element type.
    matrix_units: BTreeMap<String, u32>,
    /// The result of checking every kernel on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<Trust>,
    /// Why it could not be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The limits that decide what fits, in bytes unless named otherwise.
#[derive(Serialize)]
struct Limits {
    storage_binding: u64,
    buffer: u64,
    workgroup_memory: u32,
    invocations_per_workgroup: u32,
    storage_buffers_per_stage: u32,
    subgroup_sizes: [u32; 2],
}

impl Adapters {
    pub fn run(&self) -> Result<String> {
        let adapters = quietly(|| pollster::block_on(gpu::adapters()));
        if adapters.is_empty() {
            // Fails with the same message as every other command.
            gpu::pick(&adapters, None)?;
        }
        let bar = progress("checking");
        bar.set_length(adapters.len() as u64);
        let entries: Vec<Entry> = adapters
            .iter()
            .enumerate()
            .map(|(index, adapter)| {
                let entry = entry(index, adapter);
                bar.inc(1);
                entry
            })
            .collect();
        drop(bar);
        if entries.iter().all(|entry| !entry.trust.as_ref().is_some_and(|t| t.trusted)) {
            let each = entries.iter().map(|entry| format!("{}: {}", entry.info, verdict(entry)));
            bail!("no adapter computes correct results: {}", each.collect::<Vec<_>>().join("; "));
        }
        if self.json { json(&entries) } else { table(&entries) }
    }
}

fn entry(index: usize, adapter: &wgpu::Adapter) -> Entry {
    let (limits, info) = (adapter.limits(), adapter.get_info());
    let mut matrix_units = BTreeMap::new();
    let opened = quietly(|| pollster::block_on(Gpu::from_adapter(adapter)));
    let trust = opened.and_then(|gpu| {
        for element in gpu.elements() {
            matrix_units.extend(gpu.matrix_units(element).map(|units| (element.to_string(), units.side)));
        }
        gpu::check(&gpu)
    });
    let (trust, error) = match trust {
        Ok(trust) => (Some(trust), None),
        Err(e) => (None, Some(e.to_string())),
    };
    Entry {
        index,
        info: AdapterInfo::of(adapter),
        limits: Limits {
            storage_binding: limits.max_storage_buffer_binding_size,
            buffer: limits.max_buffer_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
            storage_buffers_per_stage: limits.max_storage_buffers_per_shader_stage,
            subgroup_sizes: [info.subgroup_min_size, info.subgroup_max_size],
        },
        features: adapter.features().iter_names().map(|(name, _)| name.to_lowercase()).collect(),
        matrix_units,
        trust,
        error,
    }
}

fn table(entries: &[Entry]) -> Result<String> {
    // Only the features that a kernel can use.
    const SHOWN: [&str; 6] = [
        "shader_f16",
        "subgroup",
        "timestamp_query",
        "timestamp_query_inside_passes",
        "experimental_cooperative_matrix",
        "pipeline_cache",
    ];
    let mut text = String::new();
    for entry in entries {
        let limits = &entry.limits;
        let shown: Vec<&str> =
            entry.features.iter().map(String::as_str).filter(|f| SHOWN.contains(f)).collect();
        writeln!(text, "{}: {}", entry.index, entry.info)?;
        writeln!(text, "   driver    {}", entry.info.driver)?;
        writeln!(
            text,
            "   limits    {} MiB per binding, {} MiB per buffer, {} B of workgroup memory, \
             {} invocations per workgroup",
            limits.storage_binding >> 20,
            limits.buffer >> 20,
            limits.workgroup_memory,
            limits.invocations_per_workgroup
        )?;
        writeln!(text, "   features  {}", shown.join(", "))?;
        for (element, side) in &entry.matrix_units {
            writeln!(text, "   matrices  {side}x{side} of {element}")?;
        }
        writeln!(text, "   results   {}", verdict(entry))?;
    }
    Ok(text)
}

/// The result of the check, with the worst kernel if it failed.
fn verdict(entry: &Entry) -> String {
    let Some(trust) = &entry.trust else {
        return format!("not usable: {}", entry.error.as_deref().unwrap_or_default());
    };
    match worst(trust) {
        Some(wrong) => format!("WRONG: {wrong}"),
        None => {
            let of = |element| {
                let errors = trust.checks.iter().filter(|c| c.element == element).map(|c| c.error);
                let worst = errors.clone().max_by(f64::total_cmp)?;
                Some(format!("{worst:.1e} over {} kernels with {element}", errors.count()))
            };
            let each: Vec<String> = Element::ALL.into_iter().filter_map(of).collect();
            format!("correct: worst relative error {}", each.join(", "))
        }
    }
}
