//! Counters and timers of a pipeline.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use web_time::Instant;

use super::pipeline::RunStats;
use crate::{Startup, tensor::Element};

/// Counters and timers that all threads share.
#[derive(Default)]
pub struct Clocks {
    pub decode: Clock,
    pub prepare: Clock,
    pub infer: Clock,
    pub pictures: AtomicU64,
    pub tuned: AtomicU64,
    started: OnceLock<(Startup, Element)>,
}

impl Clocks {
    pub fn started(&self, startup: Startup, precision: Element) {
        // Only the first session is recorded.
        let _ = self.started.set((startup, precision));
    }

    pub fn stats(&self, wall: Duration) -> RunStats {
        let (startup, precision) = self.started.get().copied().unwrap_or_default();
        RunStats {
            pictures: self.pictures.load(Relaxed),
            wall,
            decode: self.decode.spent(),
            prepare: self.prepare.spent(),
            infer: self.infer.spent(),
            startup,
            precision,
            tuned: self.tuned.load(Relaxed),
        }
    }
}

/// A timer that sums the time of all threads.
#[derive(Default)]
pub struct Clock(AtomicU64);

impl Clock {
    pub fn time<T>(&self, what: impl FnOnce() -> T) -> T {
        self.timed(what).0
    }

    /// [`Clock::time`], which also returns the time taken.
    pub fn timed<T>(&self, what: impl FnOnce() -> T) -> (T, Duration) {
        let start = Instant::now();
        let result = what();
        let took = start.elapsed();
        self.0.fetch_add(took.as_nanos() as u64, Relaxed);
        (result, took)
    }

    fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}
