//! What can only be known by measuring, on the user's own adapter.

mod tune;

pub use tune::{Tuning, tune};
