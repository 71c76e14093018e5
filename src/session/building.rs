//! A session that is built while a program renders.

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
    draft::{Draft, Order},
};
use crate::{Error, Result, gpu::Pace, zoo::Network};

#[cfg(not(target_arch = "wasm32"))]
type Work = Pin<Box<dyn Future<Output = Result<Session>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Work = Pin<Box<dyn Future<Output = Result<Session>>>>;

/// A session that is built piece by piece: see [`Session::building`].
pub struct Building {
    work: Option<Work>,
    /// Pipelines compiled, of how many.
    progress: Arc<Mutex<[usize; 2]>>,
}

/// Hears whether the work can go on at once.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Building {
    /// Goes on building for `budget`, one piece at least: a layer's weights, a pipeline or a bind group.
    /// Gives the session, once it is ready. It waits for nothing: neither for the plan, which in a browser
    /// is a piece too, nor for a disk, nor in a browser for the device.
    ///
    /// # Errors
    /// As [`Session::new`]; [`Error::Input`] if the session was given or failed before.
    pub fn advance(&mut self, budget: Duration) -> Result<Option<Session>> {
        let begun = Instant::now();
        let work = self.work.as_mut().ok_or_else(|| Error::Input("the session is built already".into()))?;
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

    /// Pipelines compiled, and of how many that are new to the device: zero of zero while weights are on
    /// their way there.
    pub fn progress(&self) -> [usize; 2] {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// [`Session::for_pictures`] over several frames of a program that renders: [`Building::advance`] is
    /// called each frame until the session is there. It is planned on a thread of its own, where there are
    /// threads; what speaks to the device is done in `advance`. Some drivers take longer than a frame for
    /// one pipeline: a program that cannot have that builds on another thread of its own, as sessions
    /// may be sent.
    ///
    /// # Errors
    /// As [`Session::for_pictures`], if the network does not take or answer such pictures; all else is told
    /// by [`Building::advance`].
    pub fn building(
        device: impl Into<Device>,
        network: &Network,
        picture: [usize; 2],
        options: Options,
    ) -> Result<Building> {
        let order = Order::of_pictures(device, network, picture, options)?.owned();
        let progress = Arc::new(Mutex::new([0; 2]));
        let told = progress.clone();
        let tell = move |done, of| *told.lock().unwrap_or_else(PoisonError::into_inner) = [done, of];
        let work = async { draft(order).await?.build(Pace::Piecewise, tell).await };
        Ok(Building { work: Some(Box::pin(work)), progress })
    }
}

/// Plans on a thread of its own.
#[cfg(not(target_arch = "wasm32"))]
async fn draft(order: Order<'static>) -> Result<Draft> {
    let (sender, receiver) = oneshot_channel();
    let plan = move || {
        // Nobody hears it if the building was dropped.
        let _ = sender.send(order.draft_warm());
    };
    let thread = std::thread::Builder::new().name("goldcrest plans".into());
    thread.spawn(plan).map_err(|e| Error::Device(format!("no thread to plan on: {e}")))?;
    let gone = || Error::Device("the thread that planned is gone".into());
    receiver.receive().await.ok_or_else(gone)?
}

/// A browser has no threads for us.
#[cfg(target_arch = "wasm32")]
async fn draft(order: Order<'static>) -> Result<Draft> {
    order.draft_warm()
}
