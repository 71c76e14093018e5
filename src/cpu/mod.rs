//! The CPU engine: matrix products, and SIMD loops over channels for all other operations. Feature maps are
//! NHWC in f32 or int8, without channel padding.

/// Runs a block compiled for the processor's widest vectors. The closure must be inlined for that, hence
/// `FnMut`: a borrowing closure that is called through `FnOnce` becomes a separate function, compiled for the
/// baseline instruction set.
macro_rules! vectorised {
    ($work:expr) => {{
        struct Work<F>(F);
        impl<R, F: FnMut() -> R> pulp::WithSimd for Work<F> {
            type Output = R;
            #[inline(always)]
            fn with_simd<S: pulp::Simd>(mut self, _: S) -> R {
                (self.0)()
            }
        }
        pulp::Arch::new().dispatch(Work(
            #[inline(always)]
            || $work,
        ))
    }};
}
pub(crate) use vectorised;

mod activation;
mod boxes;
mod depthwise;
mod executor;
mod host;
mod info;
mod int8;
mod lowering;
mod memory;
mod pixelwise;
mod probe;
mod product;
mod resize;
mod threads;
mod tile;
mod windows;
mod winograd;

use std::sync::Arc;

use rayon::prelude::*;

pub use executor::Executor;
pub(crate) use host::available_bytes;
pub use info::CpuInfo;
pub(crate) use winograd::Winograd;

use crate::{Error, Result};

/// Threads of the CPU, and its instruction sets. Clones share the threads. With one thread there is no thread pool
/// (except in builds with debug assertions): each session computes on the thread that calls it.
#[derive(Clone)]
pub struct Cpu {
    /// None with one thread: the caller's thread computes.
    pool: Option<Arc<rayon::ThreadPool>>,
    info: CpuInfo,
    /// The instruction set of integer kernels.
    isa: int8::Isa,
}

impl Cpu {
    /// Starts `threads` threads, or one per available core. With one thread it starts none, except in builds
    /// with debug assertions. In a browser it never starts any; [`Cpu::with_threads`] uses threads there. If
    /// none is started, the caller's thread computes.
    ///
    /// # Errors
    /// [`Error::Device`] if the system cannot start the threads.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        if cfg!(target_arch = "wasm32") {
            return Ok(Self::with(None, 1));
        }
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(available).max(1);
        // Unoptimised builds need the larger stack of the pool's threads. `debug_assertions` stands for them: there is
        // no cfg for the optimisation level.
        if threads == 1 && !cfg!(debug_assertions) {
            return Ok(Self::with(None, 1));
        }
        // Without optimisation a tile's vectors are copied on the stack and take between 4 and 6 MiB.
        Self::of_pool(Self::pool(threads).stack_size(16 << 20).build(), threads)
    }

    /// As [`Cpu::new`], for platforms where the standard library cannot start threads, such as browsers with shared
    /// memory. Calls `start` once per thread, with a body that `start` must run on a new thread. A body returns after
    /// the last clone of this `Cpu` is dropped. Do not compute anything before all bodies are running.
    ///
    /// ```
    /// use goldcrest::cpu::Cpu;
    ///
    /// let cpu = Cpu::with_threads(2, |body| drop(std::thread::spawn(body)))?;
    /// assert_eq!(cpu.info().threads, 2);
    /// # Ok::<(), goldcrest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Device`] if rayon cannot create the pool.
    pub fn with_threads(threads: usize, mut start: impl FnMut(Box<dyn FnOnce() + Send>)) -> Result<Self> {
        if threads < 2 {
            return Ok(Self::with(None, 1));
        }
        let spawn = |thread: rayon::ThreadBuilder| {
            start(Box::new(|| thread.run()));
            Ok(())
        };
        Self::of_pool(Self::pool(threads).spawn_handler(spawn).build(), threads)
    }

    fn pool(threads: usize) -> rayon::ThreadPoolBuilder {
        rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("goldcrest-{i}"))
    }

    fn of_pool(
        pool: std::result::Result<rayon::ThreadPool, rayon::ThreadPoolBuildError>,
        threads: usize,
    ) -> Result<Self> {
        let pool = pool.map_err(|e| Error::Device(format!("cannot start {threads} threads: {e}")))?;
        Ok(Self::with(Some(Arc::new(pool)), threads))
    }

    fn with(pool: Option<Arc<rayon::ThreadPool>>, threads: usize) -> Self {
        let info = CpuInfo { name: host::processor(), vectors: vectors(), threads };
        Self { pool, info, isa: int8::Isa::best() }
    }

    /// Calls `work` for every item, on this CPU's threads.
    pub(crate) fn map<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
        match &self.pool {
            Some(pool) => pool.install(|| items.par_iter().map(work).collect()),
            None => items.iter().map(work).collect(),
        }
    }

    /// Runs `work` on the pool, so that its parallel iterators use the pool's threads. Without a pool they
    /// would use rayon's global pool, so work must be divided only by the functions of `threads`: with one
    /// thread they do not use rayon.
    fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// The processor and the number of threads.
    pub fn info(&self) -> &CpuInfo {
        &self.info
    }
}

/// The name of the vector instructions that loops are dispatched to.
fn vectors() -> &'static str {
    struct Lanes;
    impl pulp::WithSimd for Lanes {
        type Output = usize;
        fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    match (std::env::consts::ARCH, pulp::Arch::new().dispatch(Lanes)) {
        (_, 1) => "scalar",
        ("x86_64" | "x86", 16) => "avx512",
        ("x86_64" | "x86", 8) => "avx2",
        ("aarch64", _) => "neon",
        ("wasm32", _) => "simd128",
        _ => "vectors",
    }
}
