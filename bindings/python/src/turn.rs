//! Turns of threads at a session.

use std::{
    process,
    sync::{Condvar, Mutex, PoisonError},
    thread::{self, ThreadId},
    time::Duration,
};

use pyo3::prelude::*;

use crate::errors::Error;

/// The time between two looks for signals, such as that of Ctrl-C.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// Lets one thread at a time use a session. The others wait without the interpreter's lock.
pub struct Turn {
    owner: Mutex<Option<ThreadId>>,
    freed: Condvar,
    /// The process that loaded the session.
    process: u32,
}

/// A thread's turn, until it is dropped.
pub struct Taken<'a>(&'a Turn);

impl Turn {
    pub fn new() -> Self {
        Self { owner: Mutex::new(None), freed: Condvar::new(), process: process::id() }
    }

    /// Fails in a process that was forked after the session was loaded: a fork copies no threads.
    pub fn check_process(&self) -> PyResult<()> {
        match self.process == process::id() {
            true => Ok(()),
            false => Err(Error::new_err("the session belongs to another process: load it after the fork")),
        }
    }

    /// Waits for the turn of this thread.
    pub fn take(&self, py: Python<'_>) -> PyResult<Taken<'_>> {
        self.check_process()?;
        let me = thread::current().id();
        loop {
            let held = py.detach(|| {
                let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
                let waits = |owner: &mut Option<ThreadId>| owner.is_some_and(|owner| owner != me);
                let (mut owner, _) = self
                    .freed
                    .wait_timeout_while(owner, PATIENCE, waits)
                    .unwrap_or_else(PoisonError::into_inner);
                let held = *owner;
                if held.is_none() {
                    *owner = Some(me);
                }
                held
            });
            match held {
                None => return Ok(Taken(self)),
                Some(owner) if owner == me => {
                    return Err(Error::new_err("the session is already in use by a caller in this thread"));
                }
                Some(_) => py.check_signals()?,
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.owner.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.freed.notify_one();
    }
}
