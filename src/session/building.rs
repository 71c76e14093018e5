//! Building a session piece by piece while a program renders.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake},
    time::Duration,
};

#[cfg(not(target_arch = "wasm32"))]
use futures_intrusive::channel::shared::oneshot_channel;
use web_time::Instant;

use super::{
    Device, Options, Session,
    planning::{PlannedSession, SessionSpec},
};
use crate::{Error, Result, gpu::Pace, zoo::Network};

#[cfg(not(target_arch = "wasm32"))]
type Work = Pin<Box<dyn Future<Output = Result<Session>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Work = Pin<Box<dyn Future<Output = Result<Session>>>>;

/// A session under construction; see [`Session::building`].
pub struct Building {
    work: Option<Work>,
    /// The number of pipelines compiled, and the number to compile.
    progress: Arc<Mutex<[usize; 2]>>,
}

/// A waker that records whether the future can be polled again immediately.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Building {
    fn new(spec: SessionSpec<'static>) -> Self {
        let progress = Arc::new(Mutex::new([0; 2]));
        let shared = progress.clone();
        let report = move |done, of| *shared.lock().unwrap_or_else(PoisonError::into_inner) = [done, of];
        let work = async { planned(spec).await?.build(Pace::Cooperative, report).await };
        Self { work: Some(Box::pin(work)), progress }
    }

    /// Continues building until `budget` is spent, but does at least one piece of work: a layer's weights, a
    /// pipeline or a bind group. Returns the session once it is ready. It never waits for the planning thread,
    /// for a disk or, in a browser, for the device. In a browser, planning is one piece.
    ///
    /// # Errors
    /// As [`Session::new`]; [`Error::Input`] if an earlier call returned the session or an error.
    pub fn advance(&mut self, budget: Duration) -> Result<Option<Session>> {
        let begun = Instant::now();
        let work = self
            .work
            .as_mut()
            .ok_or_else(|| Error::Input("an earlier call returned the session or an error".into()))?;
        loop {
            let woken = Arc::new(Woken::default());
            match work.as_mut().poll(&mut Context::from_waker(&woken.clone().into())) {
                Poll::Ready(session) => {
                    self.work = None;
                    return session.map(Some);
                }
                Poll::Pending if !woken.0.load(Relaxed) || begun.elapsed() >= budget => return Ok(None),
                Poll::Pending => {}
            }
        }
    }

    /// Returns the number of pipelines compiled so far and the total, without those that the device already
    /// has. Both are 0 until compilation starts.
    pub fn progress(&self) -> [usize; 2] {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// [`Session::for_pictures`], spread over the frames of a program that renders: call
    /// [`Building::advance`] in each frame until it returns the session. Planning runs on a separate thread,
    /// where threads exist; all work with the device is done in `advance`. Some drivers take longer than a
    /// frame to compile one pipeline. If that is too long for your program, build the session on another
    /// thread: `Session` is `Send`.
    ///
    /// ```no_run
    /// # fn program(gpu: &goldcrest::gpu::Gpu, network: &goldcrest::zoo::Network) -> goldcrest::Result<()> {
    /// use goldcrest::{Options, Session};
    /// use std::time::Duration;
    ///
    /// let mut building = Session::building(gpu, network, [360, 640], Options::default())?;
    /// let session = loop {
    ///     // ... render a frame ...
    ///     if let Some(session) = building.advance(Duration::from_millis(4))? {
    ///         break session;
    ///     }
    /// };
    /// # drop(session);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] if the network does not accept such pictures or has no such outputs.
    /// [`Building::advance`] returns all other errors.
    pub fn building(
        device: impl Into<Device>,
        network: &Network,
        picture: [usize; 2],
        options: Options,
    ) -> Result<Building> {
        Ok(Building::new(SessionSpec::of_pictures(device, network, picture, options)?.owned()))
    }
}

/// Plans on a separate thread.
#[cfg(not(target_arch = "wasm32"))]
async fn planned(spec: SessionSpec<'static>) -> Result<PlannedSession> {
    let (sender, receiver) = oneshot_channel();
    let plan = move || {
        // Sending fails if the `Building` was dropped.
        let _ = sender.send(spec.plan_warm());
    };
    let thread = std::thread::Builder::new().name("goldcrest-plan".into());
    thread.spawn(plan).map_err(|e| Error::Device(format!("cannot start a thread to plan on: {e}")))?;
    let gone = || Error::Device("the planning thread ended without a plan".into());
    receiver.receive().await.ok_or_else(gone)?
}

/// Plans on the calling thread: a browser has no threads to use.
#[cfg(target_arch = "wasm32")]
async fn planned(spec: SessionSpec<'static>) -> Result<PlannedSession> {
    spec.plan_warm()
}
