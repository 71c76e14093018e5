//! Measurements on the user's device: timing (`time`), tuning (`tune`, `BackgroundTuning`) and roofline analysis
//! ([`Peaks`]).

#[cfg(not(target_arch = "wasm32"))]
mod background;
mod peaks;
#[cfg(feature = "study")]
pub mod report;
mod roofline;
mod spread;
mod timing;
mod tune;

pub use crate::plan::Peaks;
#[cfg(not(target_arch = "wasm32"))]
pub use background::BackgroundTuning;
#[cfg(feature = "feed")]
pub(crate) use background::{BUDGET, TuningThread};
pub use roofline::{Bound, Split};
pub use spread::Spread;
pub use timing::{Case, Sampling, StepTime, Timing, clock_resolution, compare_async, time_async};
#[cfg(not(target_arch = "wasm32"))]
pub use timing::{compare, time};
#[cfg(not(target_arch = "wasm32"))]
pub use tune::tune;
pub use tune::{Measured, Tally, Tuning, candidates, layer_times, tune_async};
