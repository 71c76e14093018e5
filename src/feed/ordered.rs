//! Parallel work with results in the order of the items.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{Scope, panicking},
};

/// Calls `work` for each of `items` on `threads` threads and returns the results in order. Each thread has a
/// separate state, which `start` creates. At most `ahead` items are in flight (taken, but their results not
/// returned), so that a fast source does not fill the memory. A source that waits for its next item does not
/// delay earlier results.
///
/// Dropping the results ends each thread after its current item.
pub fn ordered<'scope, 'env, I, S, R>(
    scope: &'scope Scope<'scope, 'env>,
    threads: usize,
    ahead: usize,
    items: I,
    start: impl Fn() -> S + Send + Sync + 'scope,
    work: impl Fn(&mut S, I::Item) -> R + Send + Sync + 'scope,
) -> Ordered<R>
where
    I: Iterator + Send + 'scope,
    R: Send + 'scope,
{
    let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
    let common = Arc::new((Mutex::new(Source { items, next: 0 }), start, work));
    for _ in 0..threads.max(1) {
        let (shared, common) = (shared.clone(), common.clone());
        scope.spawn(move || {
            let (source, start, work) = &*common;
            let _guard = PanicGuard(&shared);
            let mut own = start();
            loop {
                let taken = {
                    let mut source = lock(source);
                    if !shared.has_room(source.next, ahead.max(1)) {
                        return;
                    }
                    let Some(item) = source.items.next() else {
                        return shared.change(|state| state.end = state.end.or(Some(source.next)));
                    };
                    source.next += 1;
                    (source.next - 1, item)
                };
                let result = work(&mut own, taken.1);
                shared.change(|state| state.ready.insert(taken.0, result));
            }
        });
    }
    Ordered { shared }
}

/// The results of [`ordered`].
pub struct Ordered<R> {
    shared: Arc<Shared<R>>,
}

impl<R> Ordered<R> {
    /// Returns true if the next result, or the end, is available without waiting.
    pub fn is_ready(&self) -> bool {
        lock(&self.shared.state).is_ready()
    }
}

impl<R> Iterator for Ordered<R> {
    type Item = R;

    fn next(&mut self) -> Option<R> {
        let mut state = self.shared.wait(State::is_ready);
        let at = state.given;
        let result = state.ready.remove(&at)?;
        state.given += 1;
        drop(state);
        self.shared.changed.notify_all();
        Some(result)
    }
}

impl<R> Drop for Ordered<R> {
    fn drop(&mut self) {
        self.shared.change(|state| state.dropped = true);
    }
}

struct Source<I> {
    items: I,
    /// The index of the next item.
    next: usize,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

struct State<R> {
    /// Finished results that are not returned yet, by index.
    ready: BTreeMap<usize, R>,
    /// The number of results returned so far.
    given: usize,
    /// The number of items, once the source has ended.
    end: Option<usize>,
    /// True once the [`Ordered`] is dropped.
    dropped: bool,
    /// True if a thread panicked, so that its result never arrives; the scope propagates the panic.
    broken: bool,
}

impl<R> State<R> {
    fn is_ready(&self) -> bool {
        self.broken || self.ready.contains_key(&self.given) || self.end == Some(self.given)
    }
}

impl<R> Default for State<R> {
    fn default() -> Self {
        Self { ready: BTreeMap::new(), given: 0, end: None, dropped: false, broken: false }
    }
}

impl<R> Shared<R> {
    fn change<T>(&self, how: impl FnOnce(&mut State<R>) -> T) {
        how(&mut lock(&self.state));
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&State<R>) -> bool) -> MutexGuard<'_, State<R>> {
        let state = lock(&self.state);
        self.changed.wait_while(state, |state| !until(state)).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until item `next` may be taken; returns false if no more items may be taken.
    fn has_room(&self, next: usize, ahead: usize) -> bool {
        let state = self
            .wait(|state| state.dropped || state.broken || state.end.is_some() || next < state.given + ahead);
        !(state.dropped || state.broken || state.end.is_some())
    }
}

/// A guard that notifies the other threads if its thread panics.
struct PanicGuard<'a, R>(&'a Shared<R>);

impl<R> Drop for PanicGuard<'_, R> {
    fn drop(&mut self) {
        if panicking() {
            self.0.change(|state| state.broken = true);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering::SeqCst},
            mpsc,
        },
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn results_keep_their_order_and_no_more_is_taken_than_fits() {
        let (taken, given) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            let items = (0..500usize).inspect(|_| {
                // Plus the item that is being taken.
                assert!(taken.fetch_add(1, SeqCst) < given.load(SeqCst) + 7 + 1);
            });
            let work = |count: &mut usize, item: usize| {
                *count += 1;
                thread::sleep(Duration::from_micros(((item * 7919) % 13) as u64 * 20));
                item * 2
            };
            for (at, result) in ordered(scope, 4, 7, items, || 0, work).enumerate() {
                assert_eq!(result, 2 * at);
                given.fetch_add(1, SeqCst);
            }
        });
        assert_eq!(given.load(SeqCst), 500);
    }

    #[test]
    fn a_slow_source_delays_no_result() {
        let (send, items) = mpsc::channel();
        thread::scope(|scope| {
            let mut results = ordered(scope, 3, 8, items.into_iter(), || (), |(), item: u32| item + 1);
            for item in 0..20 {
                // The next item arrives only after this one's result.
                send.send(item).unwrap();
                assert_eq!(results.next(), Some(item + 1));
            }
            drop(send);
            assert_eq!(results.next(), None);
        });
    }

    #[test]
    fn dropped_results_end_the_threads() {
        thread::scope(|scope| {
            let results = ordered(scope, 3, 4, 0.., || (), |(), item: u64| item);
            assert_eq!(results.take(5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        });
    }

    #[test]
    #[should_panic(expected = "scoped thread panicked")]
    fn a_panic_is_passed_on() {
        thread::scope(|scope| {
            let work = |(): &mut (), item: u32| assert!(item != 3, "three");
            ordered(scope, 2, 2, 0..10, || (), work).for_each(drop);
        });
    }
}
