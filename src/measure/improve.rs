//! A session that gets quicker while it runs.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use super::tune;
use crate::{
    Result, Session, Tensor,
    gpu::Gpu,
    plan::Tuned,
    session::{Kept, keep, recall, weights},
    tensor::Element,
    zoo::Network,
};

/// How long is measured: most of what tuning finds it finds in its first round.
const BUDGET: Duration = Duration::from_secs(8);

/// A session, and a search for better kernels that goes on beside it. As soon as they are known, and no inference is
/// in flight, another session takes its place.
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
    better: Option<Receiver<Session>>,
}

impl Improving {
    /// A session as `build` makes it on `gpu`, and a thread that measures for some eight seconds, keeps what it finds
    /// in the cache folder, and builds another. Nothing is measured where that was done before, where there is no
    /// cache folder to keep it in, of a session that runs on the CPU, or in f16: how exact that is has to be judged on
    /// pictures, as [`tune`] does.
    ///
    /// # Errors
    /// As `build`. What goes wrong in the background is logged, and the session stays.
    pub fn new(
        gpu: &Gpu,
        network: Arc<Network>,
        build: impl Fn() -> Result<Session> + Send + 'static,
    ) -> Result<Self> {
        let session = build()?;
        let Some(input) = session.plan().map(|plan| plan.input.shape) else {
            return Ok(Self { session, better: None });
        };
        let (element, graph) = (session.element(), network.answering(network.answer())?.into_owned());
        if element == Element::F16
            || gpu.cache_folder().is_none()
            || recall(gpu, &graph, input, element).is_some()
        {
            return Ok(Self { session, better: None });
        }
        let (sender, better) = channel();
        let gpu = gpu.clone();
        let improve = move || -> Result<Option<Session>> {
            let wave = [Tensor::wave(input, 0.37)];
            let found = tune(&gpu, &graph, &network.graph, &wave, element, BUDGET, |_| {})?;
            let kept = Kept {
                winners: found.winners.clone(),
                ms: found.after_ms,
                error: found.error,
                weights: weights(&graph),
            };
            let is_better = keep(&gpu, &graph, input, element, kept) && found.winners != Tuned::default();
            log::info!("{:.2} ms an inference, {:.2} with better kernels", found.before_ms, found.after_ms);
            is_better.then(build).transpose()
        };
        let thread = std::thread::Builder::new().name("goldcrest improves".into());
        let started = thread.spawn(move || match improve() {
            // Nobody hears it if the session is gone.
            Ok(better) => better.into_iter().for_each(|better| drop(sender.send(better))),
            Err(e) => log::warn!("no better kernels were looked for: {e}"),
        });
        if let Err(e) = started {
            log::warn!("no thread to look for better kernels: {e}");
        }
        Ok(Self { session, better: Some(better) })
    }

    /// The session to use now: between two inferences it may be another.
    pub fn now(&mut self) -> &mut Session {
        use std::sync::mpsc::TryRecvError::Empty;
        if let Some(better) = self.better.as_ref().filter(|_| self.session.is_idle()) {
            match better.try_recv() {
                Ok(better) => (self.session, self.better) = (better, None),
                Err(Empty) => {}
                Err(_) => self.better = None,
            }
        }
        &mut self.session
    }

    /// Whether better kernels are still looked for.
    pub fn is_looking(&self) -> bool {
        self.better.is_some()
    }
}
