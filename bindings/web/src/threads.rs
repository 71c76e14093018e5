//! The threads of the CPU engine. The standard library cannot start any in a browser: `js/threads.ts` starts workers,
//! each of which becomes one thread.

use std::sync::{Mutex, PoisonError};

use goldcrest::{Result, cpu::Cpu};
use js_sys::Array;
use wasm_bindgen::prelude::*;

type Body = Box<dyn FnOnce() + Send>;

/// What the threads that are not started yet will run.
static WAITING: Mutex<Vec<Body>> = Mutex::new(Vec::new());

/// Opens the CPU with this number of threads, which then wait for their workers.
pub fn cpu(threads: usize) -> Result<Cpu> {
    Cpu::with_threads(threads, |body| waiting(|all| all.push(body)))
}

/// The module and its memory, with which a worker becomes a thread.
#[wasm_bindgen(js_name = threadMemory)]
pub fn thread_memory() -> Array {
    Array::of2(&wasm_bindgen::module(), &wasm_bindgen::memory())
}

/// Runs a thread in the calling worker.
#[wasm_bindgen(js_name = runThread)]
pub fn run_thread() {
    if let Some(body) = waiting(Vec::pop) {
        body();
    }
}

fn waiting<R>(of: impl FnOnce(&mut Vec<Body>) -> R) -> R {
    of(&mut WAITING.lock().unwrap_or_else(PoisonError::into_inner))
}
