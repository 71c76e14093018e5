//! From a checkpoint's named tensors to a [`Network`]. Nothing here reads files or runs anything.
//!
//! From the bottom up: `task` and `preprocessing` are plain data. A family (`v1` to `v4`, `resnet`) is a table of
//! stages with its published sizes, and the names that libraries know its networks by. A library (`torchvision`, `timm`,
//! `transformers`) gives modules their names, a `skeleton`, and says what no key shows, its `rules`. `backbone`
//! makes the features of both with the layers of `builder`, which reads every size from the tensors' shapes;
//! `classifier`, `lraspp`, `deeplab`, `deeplab_plus` and `ssdlite` are heads. `registry` names libraries and
//! families, `fit` finds which network it is, `assemble` builds it, `network` is the whole. `supernet` cuts
//! a network out of many that share weights. `synthetic` makes
//! networks without any checkpoint, from the tables.

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
mod picturing;
mod preprocessing;
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
pub use supernet::{Cell, Slice, Space, Stack, Subnet, Supernet};
pub use table::Family;
pub use task::{Answer, Detector, Feature, Scores, Task};

pub(crate) use registry::outside;

pub use crate::checkpoint::Checkpoint;
