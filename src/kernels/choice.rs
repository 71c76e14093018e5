//! A kernel with its tile, as chosen by planner and tuner.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    LAYERS,
    layer::{LayerKernel, Tile},
};
use crate::tensor::Element;

/// A kernel for a layer, with its tile.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// The kernel.
    pub kernel: &'static dyn LayerKernel,
    /// The outputs of an invocation.
    pub tile: Tile,
}

impl Kernel {
    /// Returns its shader's name.
    pub fn name(self) -> &'static str {
        self.kernel.shader().name
    }

    /// Returns the type of its accumulators.
    pub fn arithmetic(self) -> Element {
        self.tile.arithmetic
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        (self.name(), self.tile) == (other.name(), other.tile)
    }
}

impl Eq for Kernel {}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("kernel", &self.name()).field("tile", &self.tile).finish()
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.kernel.describe(self.tile))
    }
}

/// The serialised form of a [`Kernel`].
#[derive(Serialize, Deserialize)]
struct Named {
    kernel: String,
    tile: Tile,
}

impl Serialize for Kernel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Named { kernel: self.name().into(), tile: self.tile }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Kernel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Named { kernel: name, tile } = Named::deserialize(deserializer)?;
        let kernel = LAYERS.into_iter().find(|kernel| kernel.shader().name == name);
        let kernel = kernel.ok_or_else(|| D::Error::custom(format!("no kernel is called {name}")))?;
        Ok(Self { kernel, tile })
    }
}
