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
    /// Rows and columns of the matrices that it multiplies at once, of each element.
    matrix_units: BTreeMap<String, u32>,
    /// What came of running every kernel on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<Trust>,
    /// Why it could not be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The limits that decide what fits, in bytes unless said otherwise.
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
            // The same words as every other command's.
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
            let each = entries.iter().map(|entry| format!("{} is {}", entry.info, verdict(entry)));
            bail!("no adapter computes right: {}", each.collect::<Vec<_>>().join("; "));
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
    // Of the features only those that a kernel could use.
    const TOLD: [&str; 6] = [
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
        let told: Vec<&str> =
            entry.features.iter().map(String::as_str).filter(|f| TOLD.contains(f)).collect();
        writeln!(text, "{}: {}", entry.index, entry.info)?;
        writeln!(text, "   driver    {}", entry.info.driver)?;
        writeln!(
            text,
            "   limits    {} MiB a binding, {} MiB a buffer, {} B of workgroup memory, {} threads a workgroup",
            limits.storage_binding >> 20,
            limits.buffer >> 20,
            limits.workgroup_memory,
            limits.invocations_per_workgroup
        )?;
        writeln!(text, "   features  {}", told.join(", "))?;
        for (element, side) in &entry.matrix_units {
            writeln!(text, "   matrices  {side}x{side} of {element}")?;
        }
        writeln!(text, "   computes  {}", verdict(entry))?;
    }
    Ok(text)
}

/// Whether it computes right, and if not, which kernel is furthest off.
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
            format!("right: worst relative error {}", each.join(", "))
        }
    }
}
