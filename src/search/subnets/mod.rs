//! The search among the subnets of a supernet: timed on a device and evaluated on pictures.

mod calibrate;
mod evolve;
mod latency;
mod search;
mod trial;

pub use calibrate::calibrate;
pub use evolve::{Found, Settings, evolve};
pub use latency::{Checked, Latency, measured};
pub use search::{Finalist, Outcome, search_subnets};
pub use trial::{Labelled, Samples, Trial};

/// The reason why a search failed.
#[derive(Debug, thiserror::Error)]
pub enum Failed<E> {
    /// Even the smallest network exceeds the time limit.
    #[error("even the smallest network takes {fastest_ms:.3} ms")]
    Slow {
        /// Its predicted time.
        fastest_ms: f64,
    },
    /// The evaluation of a candidate failed.
    #[error(transparent)]
    Judge(E),
}
