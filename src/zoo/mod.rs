//! Builds a [`Network`] from a checkpoint's named tensors. [`checkpoint`](crate::checkpoint) reads the files, and a
//! [`Session`](crate::Session) runs the network.
//!
//! From the bottom up:
//!
//! - `task` and `preprocessing` are plain data.
//! - A family (`v1` to `v4`, `resnet`) has tables of stages with the published sizes, and the libraries'
//!   names for its networks.
//! - A library (`torchvision`, `timm`, `transformers`, `ofa`) provides a `skeleton` (the names of the
//!   modules) and `rules` (the settings that cannot be inferred from tensor names and shapes).
//! - `builder` makes layers and reads their sizes from the tensors' shapes. `backbone` uses it to build the
//!   feature maps. `classifier`, `lraspp`, `deeplab`, `deeplab_plus` and `ssdlite` build the heads.
//! - `registry` lists libraries and families, `fit` identifies the network, `assemble` builds its graph, and
//!   `network` combines all of this.
//! - `supernet` slices a subnet's weights out of a supernet's shared weights.
//! - `synthetic` builds networks from the tables, without a checkpoint.
//!
//! `ARCHITECTURE.md` has guides for adding a family, a library and a head.

mod assemble;
mod backbone;
mod builder;
mod classifier;
mod converted;
mod deeplab;
mod deeplab_plus;
mod fit;
mod known;
mod library;
mod lraspp;
mod network;
mod ofa;
mod preprocessing;
mod preprocessing_settings;
mod quantised;
mod registry;
mod resnet;
mod rules;
mod segment;
mod skeleton;
mod ssdlite;
mod supernet;
pub mod synthetic;
mod table;
mod task;
mod timm;
mod torchvision;
mod torchvision_resnet;
mod transformers;
mod v1;
mod v2;
mod v3;
mod v4;

pub use network::Network;
pub use preprocessing::*;
pub use supernet::{BlockChoice, Slice, Space, StageChoice, Subnet, Supernet};
pub use table::Family;
pub use task::{Detector, Feature, Outputs, ScoreKind, Task};

#[cfg(all(feature = "cpu", not(target_arch = "wasm32")))]
pub(crate) use registry::outside;

pub use crate::checkpoint::Checkpoint;
