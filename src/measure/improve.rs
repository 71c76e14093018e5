//! A session that gets quicker while it runs.

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
    session::{Kept, keep, recall, weights},
    tensor::Element,
    zoo::Network,
};

/// How long is measured: most of what tuning finds it finds in its first round.
pub(crate) const BUDGET: Duration = Duration::from_secs(8);

/// A session, and a search for better kernels that goes on beside it. As soon as they are known, and no inference is
/// in flight, another session takes its place. Dropping it stops the search after the measurement at hand.
///
/// ```no_run
/// # use std::sync::Arc;
/// use goldcrest::{Options, Session, gpu::Gpu, measure::Improving, zoo::Network};
/// # fn main() -> goldcrest::Result<()> {
/// let gpu = Gpu::new()?;
/// let network = Arc::new(Network::open("mobilenet_v2")?);
/// let shared = (gpu.clone(), network.clone());
/// let mut session = Improving::new(&gpu, network, move || Session::new(&shared.0, &shared.1, Options::default()))?;
/// # let picture = goldcrest::Tensor::wave(session.now().input_shape(), 0.37);
/// loop {
///     let scores = session.now().run(&picture)?;
/// #   break;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Improving {
    session: Session,
    search: Option<Search>,
}

impl Improving {
    /// A session as `build` makes it on `gpu`, and a thread that measures for some eight seconds, keeps what it finds
    /// in the cache folder, and builds another. Nothing is measured where that was done before, where there is no
    /// cache folder to keep it in, of a session that runs on the CPU, or in f16: how exact that is has to be judged on
    /// pictures, as [`tune`](super::tune) does.
    ///
    /// # Errors
    /// As `build`. What goes wrong in the background is logged, and the session stays.
    pub fn new(
        gpu: &Gpu,
        network: Arc<Network>,
        build: impl Fn() -> Result<Session> + Send + 'static,
    ) -> Result<Self> {
        let session = build()?;
        let search = Search::start(gpu, network, &session, BUDGET, build);
        Ok(Self { session, search })
    }

    /// The session to use now: between two inferences it may be another.
    pub fn now(&mut self) -> &mut Session {
        if self.session.is_idle()
            && let Some(search) = self.search.take_if(|search| search.is_over())
            && let Some(better) = search.better()
        {
            self.session = better;
        }
        &mut self.session
    }

    /// Whether better kernels are still looked for.
    pub fn is_looking(&self) -> bool {
        self.search.is_some()
    }
}

/// A search for better kernels, on a thread. Dropping it stops it after the measurement at hand, and nothing is kept.
pub(crate) struct Search {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Session>>>,
}

impl Search {
    /// Measures for `budget` what is quicker than what `session` runs, keeps it, and has another session built if there
    /// is anything. None where [`Improving::new`] measures nothing.
    pub fn start(
        gpu: &Gpu,
        network: Arc<Network>,
        session: &Session,
        budget: Duration,
        build: impl FnOnce() -> Result<Session> + Send + 'static,
    ) -> Option<Self> {
        let (input, element) = (session.plan()?.input.shape, session.element());
        let graph = network.answering(network.answer()).ok()?.into_owned();
        if element == Element::F16
            || gpu.cache_folder().is_none()
            || recall(gpu, &graph, input, element).is_some()
        {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, gpu) = (stop.clone(), gpu.clone());
        let look = move || -> Result<Option<Session>> {
            let wave = [Tensor::wave(input, 0.37)];
            let search = tune_async(&gpu, &graph, &network.graph, &wave, element, budget, |_| {});
            let Some(found) = unless(&stopped, search).transpose()? else { return Ok(None) };
            let kept = Kept {
                winners: found.winners.clone(),
                ms: found.after_ms,
                error: found.error,
                weights: weights(&graph),
            };
            let is_better = keep(&gpu, &graph, input, element, kept) && found.winners != Tuned::default();
            log::info!("{:.2} ms an inference, {:.2} with better kernels", found.before_ms, found.after_ms);
            (is_better && !stopped.load(Relaxed)).then(build).transpose()
        };
        let look = move || {
            look().unwrap_or_else(|error| {
                log::warn!("no better kernels were looked for: {error}");
                None
            })
        };
        let thread = Builder::new().name("goldcrest improves".into()).spawn(look);
        let thread = thread.inspect_err(|error| log::warn!("no thread to look for better kernels: {error}"));
        Some(Self { stop, thread: Some(thread.ok()?) })
    }

    /// Whether [`Search::better`] need not wait.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The session with better kernels, if there are any.
    pub fn better(mut self) -> Option<Session> {
        self.thread.take()?.join().ok()?
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What comes of `work`, unless it is stopped where it gives way.
fn unless<T>(stopped: &AtomicBool, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    pollster::block_on(poll_fn(|context| match stopped.load(Relaxed) {
        true => Poll::Ready(None),
        false => work.as_mut().poll(context).map(Some),
    }))
}
