//! Takes the place of `cpu` in builds without that feature: there are no CPU devices.

#[path = "cpu/info.rs"]
mod info;

pub use info::CpuInfo;

use crate::{Error, Result, Shape, Tensor, graph::Graph, plan::Summary};

/// A pool of CPU threads. In this build the type has no values.
#[derive(Clone)]
pub enum Cpu {}

impl Cpu {
    /// Fails.
    ///
    /// # Errors
    /// Always [`Error::Device`].
    pub fn new(_: Option<usize>) -> Result<Self> {
        Err(Error::Device("this build runs networks on GPUs only: enable the feature `cpu`".into()))
    }

    /// The processor and the number of threads.
    pub fn info(&self) -> &CpuInfo {
        match *self {}
    }

    pub(crate) fn multiply_adds(&self) -> f64 {
        match *self {}
    }

    pub(crate) fn bandwidth(&self) -> f64 {
        match *self {}
    }

    pub(crate) fn launch(&self) -> f64 {
        match *self {}
    }
}

/// A graph for one input shape, ready to run. In this build the type has no values.
pub enum Executor {}

impl Executor {
    pub(crate) fn new(cpu: &Cpu, _: &Graph, _: Shape, _: bool) -> Result<Self> {
        match *cpu {}
    }

    pub(crate) fn steps(&self) -> &[Summary] {
        match *self {}
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn run(&mut self, _: &Tensor) -> Result<Vec<Tensor>> {
        match *self {}
    }

    pub(crate) fn profile(&mut self, _: &Tensor) -> Result<Vec<f64>> {
        match *self {}
    }

    pub(crate) fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        match *self {}
    }
}

/// Bytes of memory available for new allocations: unknown.
pub(crate) fn available_bytes() -> u64 {
    u64::MAX
}
