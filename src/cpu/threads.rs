//! Sharing an operation's work among the threads of a [`Cpu`](super::Cpu)'s pool. With one thread there is no pool: the
//! caller's thread computes, because handing work to another takes longer than many layers.

use rayon::prelude::*;

/// Calls `work` for bands of whole rows, with the index of the band's first row. A band has about `least` values, and at
/// least one row: if bands were smaller, scheduling would take longer than computing.
pub fn bands<T: Send>(
    threads: usize,
    values: &mut [T],
    row: usize,
    least: usize,
    work: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let rows = (least / row).max(1);
    if threads == 1 || values.len() <= rows * row {
        return values.chunks_mut(rows * row).enumerate().for_each(|(at, band)| work(at * rows, band));
    }
    values.par_chunks_mut(rows * row).enumerate().for_each(|(at, band)| work(at * rows, band));
}

/// Calls `task` for the items and returns whether all calls returned true; after one that did not, items may be left
/// out. Each item is scheduled separately.
pub fn all<T: Send>(threads: usize, items: Vec<T>, task: impl Fn(T) -> bool + Sync + Send) -> bool {
    if threads == 1 || items.len() == 1 {
        return items.into_iter().all(task);
    }
    items.into_par_iter().with_max_len(1).map(task).reduce(|| true, |a, b| a && b)
}
