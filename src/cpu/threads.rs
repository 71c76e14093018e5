//! Sharing an operation's work among the threads of a [`Cpu`](super::Cpu)'s pool. A single thread computes without
//! the pool: handing work to another thread takes longer than many layers.

use rayon::prelude::*;

/// Calls `work` for bands of whole rows, with the index of the band's first row. A band has at least `least` values:
/// below that, scheduling takes longer than computing.
pub fn bands<T: Send>(
    threads: usize,
    values: &mut [T],
    row: usize,
    least: usize,
    work: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let rows = (least / row).max(1);
    if threads == 1 || values.len() <= rows * row {
        return work(0, values);
    }
    values.par_chunks_mut(rows * row).enumerate().for_each(|(at, band)| work(at * rows, band));
}

/// Calls `task` for every item and returns whether all calls returned true. Each item is scheduled separately.
pub fn all<T: Send>(threads: usize, items: Vec<T>, task: impl Fn(T) -> bool + Sync + Send) -> bool {
    if threads == 1 || items.len() == 1 {
        return items.into_iter().all(task);
    }
    items.into_par_iter().with_max_len(1).map(task).reduce(|| true, |a, b| a && b)
}
