//! The search for a network of one's own: subnets of a supernet, timed on a device, judged on pictures.

mod calibrate;
mod evolve;
mod latency;
mod seek;
mod trial;

pub use calibrate::calibrate;
pub use evolve::{Found, Settings, evolve};
pub use latency::{Checked, Latency, measured};
pub use seek::{Finalist, Outcome, seek};
pub use trial::{Labelled, Samples, Trial};

/// Why a search found nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failed<E> {
    /// Even the smallest network takes too long.
    #[error("even the smallest network takes {quickest_ms:.3} ms")]
    Slow {
        /// What it is expected to take.
        quickest_ms: f64,
    },
    /// A candidate could not be judged.
    #[error(transparent)]
    Judge(E),
}
