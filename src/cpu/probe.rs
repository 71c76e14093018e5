//! Benchmarks of the CPU's peak rates.

use std::{
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering},
};

use pulp::{Arch, Simd, WithSimd};
use web_time::Instant;

use super::{Cpu, memory::Memory, threads};

/// Independent accumulators: enough to fill two units with a latency of four cycles, and at most half of the
/// registers of any instruction set.
const ACCUMULATORS: usize = 8;

/// Iterations of multiply-adds in registers.
struct Rounds(usize);

impl WithSimd for Rounds {
    type Output = usize;

    /// The number of multiply-adds.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (factor, step) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(0.25)));
        let mut accumulators = [step; ACCUMULATORS];
        for _ in 0..self.0 {
            for accumulator in &mut accumulators {
                *accumulator = simd.mul_add_e_f32s(*accumulator, factor, step);
            }
        }
        black_box(accumulators);
        self.0 * ACCUMULATORS * S::F32_LANES
    }
}

impl Cpu {
    /// Measures multiply-adds per second on all threads: the best rate within 0.3 s.
    pub fn multiply_adds(&self) -> f64 {
        const ROUNDS: usize = 1 << 17;
        self.best(0.3, || {
            let threads = self.info.threads;
            let done = AtomicUsize::new(0);
            threads::all(threads, (0..threads).collect(), |_| {
                done.fetch_add(Arch::new().dispatch(Rounds(ROUNDS)), Ordering::Relaxed);
                true
            });
            done.into_inner() as f64
        })
    }

    /// Measures bytes read and written per second, on maps of 4 MiB. Networks have maps of this size, so the
    /// bandwidth may be that of a cache.
    pub fn bandwidth(&self) -> f64 {
        const VALUES: usize = 1 << 20;
        let mut memory = Memory::default();
        let (from, mut to) = (memory.copy_of(&vec![1.0f32; VALUES]), memory.copy_of(&vec![0.0; VALUES]));
        let threads = self.info.threads;
        self.best(0.3, || {
            threads::bands(threads, &mut to, 1, VALUES.div_ceil(threads), |first, to| {
                to.copy_from_slice(&from[first..][..to.len()]);
                black_box(to);
            });
            (8 * VALUES) as f64
        })
    }

    /// Measures the time, in seconds, to run an empty job on every thread and wait for all of them.
    pub fn launch(&self) -> f64 {
        const LAUNCHES: usize = 64;
        let launches = self.best(0.1, || {
            for _ in 0..LAUNCHES {
                match &self.pool {
                    Some(pool) => drop(pool.broadcast(|_| black_box(()))),
                    None => black_box(()),
                }
            }
            LAUNCHES as f64
        });
        1.0 / launches
    }

    /// Returns the best rate of `run` within `seconds`. `run` returns the amount of its work.
    fn best(&self, seconds: f64, mut run: impl FnMut() -> f64 + Send) -> f64 {
        // Browsers round clocks to a tenth of a millisecond, or a whole one.
        let least = if cfg!(target_arch = "wasm32") { 0.02 } else { 0.0 };
        self.install(|| {
            let begun = Instant::now();
            let mut best = 0.0f64;
            while begun.elapsed().as_secs_f64() < seconds {
                let start = Instant::now();
                let mut done = run();
                while start.elapsed().as_secs_f64() < least {
                    done += run();
                }
                best = best.max(done / start.elapsed().as_secs_f64());
            }
            best
        })
    }
}
