//! Sessions that outlive a run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::running::CachedSession;
use crate::{Device, cpu::Cpu};

/// The sessions of earlier runs, for [`Pipeline::sessions`](super::Pipeline::sessions), so that later runs
/// build no new ones. Runs at the same time use separate sessions.
#[derive(Default)]
pub struct Sessions(Mutex<Vec<Worker>>);

/// A thread's device and its sessions.
pub struct Worker {
    /// [`Pipeline::run`](super::Pipeline::run) creates a pool of CPU threads for each worker, and shares one
    /// only if that fails. [`Pipeline::run_one`](super::Pipeline::run_one) uses the pipeline's device.
    pub device: Device,
    /// The most recently used first.
    pub sessions: Vec<CachedSession>,
}

impl Worker {
    pub fn new(device: Device) -> Self {
        Self { device, sessions: Vec::new() }
    }

    /// The threads of its CPU; `None` for a GPU.
    fn threads(&self) -> Option<usize> {
        threads(&self.device)
    }
}

/// The threads of a CPU; `None` for a GPU.
pub fn threads(device: &Device) -> Option<usize> {
    match device {
        Device::Cpu(cpu) => Some(cpu.info().threads),
        Device::Gpu(_) => None,
    }
}

impl Sessions {
    /// Takes a worker with this number of threads.
    pub(super) fn take(&self, threads: Option<usize>) -> Option<Worker> {
        let mut workers = self.lock();
        let at = workers.iter().rposition(|worker| worker.threads() == threads)?;
        Some(workers.remove(at))
    }

    /// The CPU of a worker that has this number of threads.
    pub(super) fn cpu(&self, threads: usize) -> Option<Cpu> {
        self.lock().iter().find_map(|worker| match &worker.device {
            Device::Cpu(cpu) if cpu.info().threads == threads => Some(cpu.clone()),
            _ => None,
        })
    }

    pub(super) fn put(&self, worker: Worker) {
        self.lock().push(worker);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
