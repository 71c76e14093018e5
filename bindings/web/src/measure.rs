//! Measurements on the visitor's device.

use std::time::Duration;

use goldcrest::{
    Options,
    measure::{Bound, Case, Peaks, Sampling, Split, StepTime, Timing, time_async},
    tensor::Element,
    zoo::synthetic,
};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::{Device, Result, plain, thrown};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** Measured peak rates of a device. */
export interface Peaks {
  /** Multiply-adds per second, in f32. */
  macs: number;
  /** Bytes per second, read and written. */
  bytes: number;
  /** Seconds of an empty launch that waits for the preceding one. */
  launch: number;
}

/** The median and the range of repeated measurements. */
export interface Spread {
  median: number;
  min: number;
  max: number;
}

/** The measurements of a network on a device. */
export interface NetworkTiming {
  network: string;
  /** Milliseconds from the input to the outputs, both in the page's memory. */
  wall_ms: Spread;
  /** Milliseconds on the GPU, by its timestamps; null on the CPU, or without timestamps. */
  gpu_ms: Spread | null;
  /** Multiply-adds of one picture. */
  macs: number;
  /** The sum of the steps' lower bounds at the peak rates, as a fraction of the sum of their times. */
  utilisation: number | null;
  /** The steps in the order in which they run. */
  steps: StepTiming[];
}

/** The measurements of a step. */
export interface StepTiming {
  name: string;
  kernel: string;
  macs: number;
  bytes: number;
  /** The median of its milliseconds; null if steps cannot be measured. */
  ms: number | null;
  /** What takes the largest part of its time. */
  bound: "arithmetic" | "bytes" | "launch" | "idle" | null;
}
"#;

#[derive(Serialize)]
struct NetworkTiming<'a> {
    network: &'a str,
    #[serde(flatten)]
    timing: Whole,
    macs: u64,
    utilisation: Option<f64>,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Whole {
    wall_ms: goldcrest::measure::Spread,
    gpu_ms: Option<goldcrest::measure::Spread>,
}

#[derive(Serialize)]
struct Step {
    name: String,
    kernel: String,
    macs: u64,
    bytes: u64,
    ms: Option<f64>,
    bound: Option<Bound>,
}

impl Step {
    fn of(step: &StepTime, peaks: &Peaks) -> Self {
        Self {
            name: step.summary.name().into(),
            kernel: step.summary.kernel.to_string(),
            macs: step.needed.macs,
            bytes: step.needed.bytes,
            ms: step.ms.map(|ms| ms.median),
            bound: step.split(peaks).map(|split: Split| split.bound()),
        }
    }
}

/// Measures the device's peak rates. Takes some seconds.
///
/// # Errors
/// If the device fails.
#[wasm_bindgen(js_name = measurePeaks, unchecked_return_type = "Peaks")]
pub async fn measure_peaks(device: &Device) -> Result<JsValue> {
    plain(&Peaks::measure_async(&device.0, Element::F32).await.map_err(thrown)?)
}

/// Measures a network with seeded weights, by its name in the program, such as `mobilenet_v2`, for at least
/// `seconds`, 0 to 60.
///
/// # Errors
/// If the name is unknown, `seconds` is out of range, or the device fails.
#[wasm_bindgen(js_name = measureNetwork, unchecked_return_type = "NetworkTiming")]
pub async fn measure_network(
    device: &Device,
    network: &str,
    #[wasm_bindgen(unchecked_param_type = "Peaks")] peaks: JsValue,
    seconds: f64,
) -> Result<JsValue> {
    if !(0.0..=60.0).contains(&seconds) {
        return Err(js_sys::Error::new(&format!("seconds: expected 0 to 60, found {seconds}")));
    }
    let rate = |name: &str| js_sys::Reflect::get(&peaks, &name.into()).ok().and_then(|rate| rate.as_f64());
    let rate = |name: &str| {
        rate(name).ok_or_else(|| js_sys::Error::new("the peaks must be the result of measurePeaks"))
    };
    let peaks = Peaks { macs: rate("macs")?, bytes: rate("bytes")?, launch: rate("launch")? };
    let opened = synthetic::network(network).map_err(thrown)?;
    let graph = opened.graph_for(opened.default_outputs()).map_err(thrown)?;
    let case = Case { graph: &graph, input: opened.input_shape(1), options: Options::default() };
    let sampling = Sampling { warmup: 2, runs: 5, time: Duration::from_secs_f64(seconds) };
    let timing: Timing = time_async(&device.0, case, sampling).await.map_err(thrown)?;
    plain(&NetworkTiming {
        network,
        macs: timing.steps.iter().map(|step| step.needed.macs).sum(),
        utilisation: timing.utilisation(&peaks),
        steps: timing.steps.iter().map(|step| Step::of(step, &peaks)).collect(),
        timing: Whole { wall_ms: timing.wall_ms, gpu_ms: timing.gpu_ms },
    })
}
