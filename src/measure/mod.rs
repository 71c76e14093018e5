//! What can only be known by measuring, on the user's own adapter.

mod kept;
#[cfg(feature = "study")]
pub mod report;
mod tune;

pub use kept::{Kept, keep, recall};
pub use tune::{Tally, Tuning, tune};
