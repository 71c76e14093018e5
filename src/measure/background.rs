//! Background tuning of kernels while a session runs.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use super::tune_async;
use crate::{
    Result, Session, Tensor,
    gpu::Gpu,
    plan::Tuned,
    session::{TuningRecord, load_tuning, store_tuning, weights_checksum},
    tensor::Element,
    zoo::Network,
};

/// The time budget of background tuning. A short one is enough: the first round, which measures every
/// candidate, finds most of the gains.
pub(crate) const BUDGET: Duration = Duration::from_secs(8);

/// A session with background tuning of its kernels. When tuning has found faster kernels and no inference is in
/// flight, a session with these kernels replaces the current one. Dropping the `BackgroundTuning` stops it after
/// the current measurement.
///
/// ```no_run
/// # use std::sync::Arc;
/// use goldcrest::{Options, Session, gpu::Gpu, measure::BackgroundTuning, zoo::Network};
/// # fn main() -> goldcrest::Result<()> {
/// let gpu = Gpu::new()?;
/// let network = Arc::new(Network::open("mobilenet_v2")?);
/// let shared = (gpu.clone(), network.clone());
/// let build = move || Session::new(&shared.0, &shared.1, Options::default());
/// let mut tuning = BackgroundTuning::new(&gpu, network, build)?;
/// # let picture = goldcrest::Tensor::wave(tuning.session().input_shape(), 0.37);
/// loop {
///     let scores = tuning.session().run(&picture)?;
/// #   break;
/// }
/// # Ok(())
/// # }
/// ```
pub struct BackgroundTuning {
    session: Session,
    thread: Option<TuningThread>,
}

impl BackgroundTuning {
    /// Builds a session on `gpu` with `build`, and starts a thread that measures for about eight seconds,
    /// stores the results in the cache folder, and builds a session with them. Nothing is measured if the
    /// cache folder already has results, if there is no cache folder, or if the session runs on the CPU or
    /// in f16: the accuracy of f16 has to be checked on pictures, as [`tune`](super::tune) does.
    ///
    /// # Errors
    /// The errors of `build`. Errors of tuning are logged, and the current session stays in use.
    pub fn new(
        gpu: &Gpu,
        network: Arc<Network>,
        build: impl Fn() -> Result<Session> + Send + 'static,
    ) -> Result<Self> {
        let session = build()?;
        let thread = TuningThread::start(gpu, network, &session, BUDGET, build);
        Ok(Self { session, thread })
    }

    /// Returns the current session, which may be replaced between two inferences.
    pub fn session(&mut self) -> &mut Session {
        if self.session.is_idle()
            && let Some(thread) = self.thread.take_if(|thread| thread.is_over())
            && let Some(tuned) = thread.tuned()
        {
            self.session = tuned;
        }
        &mut self.session
    }

    /// Returns true until tuning has ended and its session is in use.
    pub fn is_tuning(&self) -> bool {
        self.thread.is_some()
    }
}

/// A thread that tunes kernels. Dropping it stops tuning after the current measurement; unfinished tuning stores
/// nothing.
pub(crate) struct TuningThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Session>>>,
}

impl TuningThread {
    /// Starts a thread that tunes the kernels of `session`. It measures for `budget`, stores the results and, if
    /// there are faster kernels, builds a session with them. Returns `None` in the cases in which
    /// [`BackgroundTuning::new`] measures nothing.
    pub fn start(
        gpu: &Gpu,
        network: Arc<Network>,
        session: &Session,
        budget: Duration,
        build: impl FnOnce() -> Result<Session> + Send + 'static,
    ) -> Option<Self> {
        let (input, element) = (session.plan()?.input.shape, session.element());
        let graph = network.graph_for(network.default_outputs()).ok()?.into_owned();
        if element == Element::F16
            || gpu.cache_folder().is_none()
            || load_tuning(gpu, &graph, input, element).is_some()
        {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, gpu) = (stop.clone(), gpu.clone());
        let work = move || -> Result<Option<Session>> {
            let wave = [Tensor::wave(input, 0.37)];
            let tuning = tune_async(&gpu, &graph, &network.graph, &wave, element, budget, |_| {});
            let Some(found) = run_until_stopped(&stopped, tuning).transpose()? else { return Ok(None) };
            let record = TuningRecord {
                winners: found.winners.clone(),
                ms: found.after_ms,
                error: found.error,
                weights: weights_checksum(&graph),
            };
            let is_better =
                store_tuning(&gpu, &graph, input, element, record) && found.winners != Tuned::default();
            log::info!("{:.2} ms per inference, {:.2} with faster kernels", found.before_ms, found.after_ms);
            (is_better && !stopped.load(Relaxed)).then(build).transpose()
        };
        let logged_work = move || {
            work().unwrap_or_else(|error| {
                log::warn!("background tuning failed: {error}");
                None
            })
        };
        let thread = Builder::new().name("goldcrest-tune".into()).spawn(logged_work);
        let thread =
            thread.inspect_err(|error| log::warn!("cannot start a thread for background tuning: {error}"));
        Some(Self { stop, thread: Some(thread.ok()?) })
    }

    /// Returns true if tuning has ended, so that [`TuningThread::tuned`] does not block.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the thread and returns the session with faster kernels, if any were found.
    pub fn tuned(mut self) -> Option<Session> {
        self.thread.take()?.join().ok()?
    }
}

impl Drop for TuningThread {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Runs `work` and returns its result, or `None` if `stopped` is set when `work` yields.
#[cfg(not(target_arch = "wasm32"))]
fn run_until_stopped<T>(stopped: &AtomicBool, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    pollster::block_on(poll_fn(|context| match stopped.load(Relaxed) {
        true => Poll::Ready(None),
        false => work.as_mut().poll(context).map(Some),
    }))
}
