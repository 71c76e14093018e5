//! MobileNets on every GPU: hand-written WGSL through wgpu, from safetensors checkpoints.

mod error;
pub mod tasks;
pub mod tensor;
pub mod zoo;

pub use error::{Error, Result};
pub use tensor::{Shape, Tensor};
