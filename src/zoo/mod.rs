//! From a checkpoint's keys and shapes to a [`Network`]. Nothing here runs anything.
//!
//! A family (`v1`, `v2`, `v3`, `resnet`) is a table of stages. A library (`torchvision`, `timm`,
//! `transformers`) gives modules their names. One builder joins both and reads every size from
//! the tensors' shapes. `synthetic` makes networks without any checkpoint.

mod builder;
mod checkpoint;
mod config;
mod library;
mod network;
mod preprocessing;
mod resnet;
mod skeleton;
pub mod synthetic;
mod table;
mod timm;
mod torchvision;
mod transformers;
mod v1;
mod v2;
mod v3;

pub use checkpoint::Checkpoint;
pub use network::Network;
pub use preprocessing::*;
pub use table::Family;
