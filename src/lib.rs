//! MobileNets on any GPU: hand-written WGSL through wgpu, with checkpoints loaded in their original formats.

pub mod checkpoint;
pub mod cpu;
#[cfg(feature = "demo")]
pub mod demo;
mod error;
#[cfg(feature = "feed")]
pub mod feed;
pub mod files;
pub mod gpu;
pub mod graph;
#[cfg(feature = "hub")]
pub mod hub;
pub mod kernels;
pub mod measure;
pub mod plan;
pub mod quantize;
mod random;
pub mod search;
pub mod session;
#[cfg(feature = "study")]
pub mod study;
pub mod tasks;
pub mod tensor;
pub mod text;
pub mod zoo;

pub use error::{Error, Result};
pub use session::{Device, Options, Session, Startup};
pub use tensor::{Shape, Tensor};
pub use wgpu;

/// The README's code examples, compiled and run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
