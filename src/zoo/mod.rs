//! From a checkpoint's keys and shapes to a [`Network`]. Nothing here runs anything.

mod preprocessing;

pub use preprocessing::*;
