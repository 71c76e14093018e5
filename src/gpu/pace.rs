//! Whether something long is done in one go.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

/// How an executor is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// In one go, pipelines compiled by as many threads as there are cores.
    AtOnce,
    /// Piece by piece on the thread that asks: the future is pending after each, and woken at once.
    Piecewise,
}

impl Pace {
    /// Lets whoever polls do something else in between, if that is the pace.
    pub(crate) async fn breathe(self) {
        let mut done = self == Self::AtOnce;
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
