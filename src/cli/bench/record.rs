//! Rows of comma-separated values.

use goldcrest::{measure::StepTime, tensor::Element};
use serde::Serialize;

use super::row::Row;

/// The first columns of every row.
#[derive(Serialize)]
pub struct Record {
    pub network: String,
    pub adapter: String,
    pub backend: &'static str,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub precision: Option<Element>,
    pub fuse: &'static str,
}

/// The columns of a network.
#[derive(Serialize)]
pub struct NetworkRecord {
    steps: Option<usize>,
    gpu_ms: Option<f64>,
    gpu_ms_min: Option<f64>,
    gpu_ms_max: Option<f64>,
    wall_ms: Option<f64>,
    wall_ms_min: Option<f64>,
    wall_ms_max: Option<f64>,
    first_ms: Option<f64>,
    utilisation: Option<f64>,
    error: Option<String>,
}

impl NetworkRecord {
    pub fn new(row: &Row) -> Self {
        let timing = row.timing.as_ref().ok();
        let (gpu, wall) = (timing.and_then(|timing| timing.gpu_ms), timing.map(|timing| timing.wall_ms));
        Self {
            steps: timing.map(|timing| timing.steps.len()),
            gpu_ms: gpu.map(|ms| ms.median),
            gpu_ms_min: gpu.map(|ms| ms.min),
            gpu_ms_max: gpu.map(|ms| ms.max),
            wall_ms: wall.map(|ms| ms.median),
            wall_ms_min: wall.map(|ms| ms.min),
            wall_ms_max: wall.map(|ms| ms.max),
            first_ms: timing.map(|timing| timing.first_ms),
            utilisation: row.peaks().zip(timing).and_then(|(peaks, timing)| timing.utilisation(peaks)),
            error: row.timing.as_ref().err().cloned(),
        }
    }
}

/// The columns of a step.
#[derive(Serialize)]
pub struct LayerRecord {
    name: String,
    kernel: &'static str,
    shape: String,
    macs: u64,
    bytes: u64,
    ms: Option<f64>,
    ms_min: Option<f64>,
    ms_max: Option<f64>,
    floor_ms: Option<f64>,
    utilisation: Option<f64>,
    bound: Option<String>,
}

impl LayerRecord {
    pub fn new(row: &Row, step: &StepTime) -> Self {
        let peaks = row.peaks();
        Self {
            name: step.summary.name().into(),
            kernel: step.summary.kernel,
            shape: step.summary.shape.to_string(),
            macs: step.needed.macs,
            bytes: step.needed.bytes,
            ms: step.ms.map(|ms| ms.median),
            ms_min: step.ms.map(|ms| ms.min),
            ms_max: step.ms.map(|ms| ms.max),
            floor_ms: peaks.map(|peaks| 1e3 * peaks.floor(step.needed)),
            utilisation: peaks.and_then(|peaks| step.utilisation(peaks)),
            bound: peaks.and_then(|peaks| step.split(peaks)).map(|split| split.bound().to_string()),
        }
    }
}
