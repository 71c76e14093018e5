//! The description of a CPU device.

use std::fmt;

use serde::Serialize;

/// The processor, and the threads that run networks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CpuInfo {
    /// The processor's name.
    pub name: String,
    /// The widest vector instructions in use: `avx512`, `avx2`, `neon`, `scalar` or others.
    pub vectors: &'static str,
    /// The number of threads.
    pub threads: usize,
}

impl fmt::Display for CpuInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = if self.threads == 1 { "thread" } else { "threads" };
        write!(f, "{} (cpu, {}, {} {threads})", self.name, self.vectors, self.threads)
    }
}
