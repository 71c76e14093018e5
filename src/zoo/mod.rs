//! From a checkpoint's keys and shapes to a [`Network`]. Nothing here runs anything.
//!
//! A family (`v1`, `v2`, `v3`, `v4`, `resnet`) is a table of stages. A library (`torchvision`,
//! `timm`, `transformers`) gives modules their names, a `skeleton`. `backbone` joins both, with the
//! layers of `builder`, which reads every size from the tensors' shapes; `lraspp`, `deeplab` and
//! `ssdlite` make answers of its features. `synthetic` makes networks without any checkpoint.

mod answer;
mod backbone;
mod builder;
mod checkpoint;
mod config;
mod deeplab;
mod library;
mod lraspp;
mod network;
mod preprocessing;
mod resnet;
mod segment;
mod skeleton;
mod ssdlite;
pub mod synthetic;
mod table;
mod timm;
mod torchvision;
mod transformers;
mod v1;
mod v2;
mod v3;
mod v4;

pub use answer::{Answer, Detector, Feature, Task};
pub use checkpoint::Checkpoint;
pub use network::Network;
pub use preprocessing::*;
pub use table::Family;
