//! Measurements on the user's device: timing, tuning and roofline analysis.

mod improve;
mod peaks;
#[cfg(feature = "study")]
pub mod report;
mod roofline;
mod spread;
mod timing;
mod tune;

pub use improve::Improving;
#[cfg(feature = "feed")]
pub(crate) use improve::{BUDGET, Search};
pub use roofline::{Bound, Peaks, Split};
pub use spread::Spread;
pub use timing::{Case, Effort, StepTime, Timing, compare, compare_async, time, time_async};
pub use tune::{Measured, Tally, Tuning, candidates, layer_times, tune, tune_async};
