//! What the cores could do at their best.

use std::hint::black_box;

use aligned_vec::avec;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use web_time::Instant;

use super::Cpu;

/// Sums that do not wait for one another: as many as fill two units of four cycles, and no more
/// than half of the registers of any instruction set.
const SUMS: usize = 8;

/// Multiply-adds in registers.
struct Rounds(usize);

impl WithSimd for Rounds {
    type Output = usize;

    /// How many multiply-adds these were.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (factor, step) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(0.25)));
        let mut sums = [step; SUMS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, factor, step);
            }
        }
        black_box(sums);
        self.0 * SUMS * S::F32_LANES
    }
}

impl Cpu {
    /// Multiply-adds a second on all threads, the best of some tenths of a second.
    pub fn multiply_adds(&self) -> f64 {
        const ROUNDS: usize = 1 << 17;
        self.best(0.3, || {
            let done = (0..self.info.threads).into_par_iter().map(|_| Arch::new().dispatch(Rounds(ROUNDS)));
            done.sum::<usize>() as f64
        })
    }

    /// Bytes a second, read and written, of maps of a few MiB such as networks have: what a cache
    /// holds of them counts.
    pub fn bandwidth(&self) -> f64 {
        const VALUES: usize = 1 << 20;
        let (from, mut to) = (avec![1.0f32; VALUES], avec![0.0f32; VALUES]);
        let share = VALUES.div_ceil(self.info.threads);
        self.best(0.3, || {
            to.par_chunks_mut(share).zip(from.par_chunks(share)).for_each(|(to, from)| {
                to.copy_from_slice(from);
                black_box(to);
            });
            (8 * VALUES) as f64
        })
    }

    /// Seconds to have every thread do nothing and wait for them.
    pub fn launch(&self) -> f64 {
        const LAUNCHES: usize = 64;
        let launches = self.best(0.1, || {
            for _ in 0..LAUNCHES {
                self.pool.broadcast(|_| black_box(()));
            }
            LAUNCHES as f64
        });
        1.0 / launches
    }

    /// The most that `run` did a second in `seconds` of trying; it says how much it did.
    fn best(&self, seconds: f64, mut run: impl FnMut() -> f64 + Send) -> f64 {
        self.pool.install(|| {
            let begun = Instant::now();
            let mut best = 0.0f64;
            while begun.elapsed().as_secs_f64() < seconds {
                let start = Instant::now();
                let done = run();
                best = best.max(done / start.elapsed().as_secs_f64());
            }
            best
        })
    }
}
