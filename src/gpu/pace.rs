//! Blocking or cooperative build.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

/// How an executor is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Blocking, with pipelines compiled on one thread per core.
    Blocking,
    /// Cooperative, on the calling thread: the future yields after each piece of work.
    Cooperative,
}

impl Pace {
    /// Yields once, if the build is cooperative.
    pub(crate) async fn yield_now(self) {
        let mut done = self == Self::Blocking;
        poll_fn(|context: &mut Context<'_>| {
            if std::mem::replace(&mut done, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
