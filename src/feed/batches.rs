//! Batches on a GPU, handed over while the one before is computed.

use std::collections::VecDeque;

use super::{
    asking::Answered,
    ordered::Ordered,
    running::{Prepared, Runner, answer, of_picture, together},
};
use crate::{Error, Tensor, session::Pending};

/// Runs in flight: with two the GPU computes while the next is handed over.
const IN_FLIGHT: usize = 2;

/// Batches on a GPU, a few in flight.
pub struct Batches<'a> {
    runner: Runner<'a>,
    prepared: Ordered<Prepared>,
    /// The first of the next batch.
    next: Option<Prepared>,
    flying: VecDeque<Flight>,
    out: VecDeque<Answered>,
}

/// A batch in flight.
struct Flight {
    key: [usize; 2],
    pictures: Vec<(Prepared, Tensor)>,
    pending: Pending,
}

impl Iterator for Batches<'_> {
    type Item = Answered;

    fn next(&mut self) -> Option<Answered> {
        loop {
            if let Some(answered) = self.out.pop_front() {
                return Some(answered);
            }
            // An answer does not wait for a picture that is yet to come.
            let more = self.next.is_some() || self.prepared.is_ready();
            if self.flying.is_empty() || (more && self.flying.len() < IN_FLIGHT) {
                if self.launch() {
                    continue;
                }
                if self.flying.is_empty() {
                    return None;
                }
            }
            self.land();
        }
    }
}

impl<'a> Batches<'a> {
    pub fn new(runner: Runner<'a>, prepared: Ordered<Prepared>) -> Self {
        Self { runner, prepared, next: None, flying: VecDeque::new(), out: VecDeque::new() }
    }

    /// Hands the next batch over; false if there is none.
    fn launch(&mut self) -> bool {
        let Some(mut first) = self.next.take().or_else(|| self.prepared.next()) else { return false };
        let (key, input) = match first.take() {
            Ok(input) => input,
            Err(error) => {
                self.land_all();
                self.out.push_back(first.answered(Err(error)));
                return true;
            }
        };
        let size = first.size.unwrap_or(key);
        let mut pictures = vec![(first, input)];
        while pictures.len() < self.runner.batch {
            let Some(mut next) = self.prepared.next() else { break };
            match next.take() {
                Ok((of, input)) if of == key => pictures.push((next, input)),
                input => {
                    next.put(input);
                    self.next = Some(next);
                    break;
                }
            }
        }
        if self.flying.front().is_some_and(|flight| flight.key != key) {
            self.land_all();
        }
        let (batch, clocks) = (self.runner.batch, self.runner.runs.clocks);
        let pending = self.runner.session(key, size).and_then(|session| {
            clocks.infer.time(|| {
                let inputs: Vec<&Tensor> = pictures.iter().map(|(_, input)| input).collect();
                session.submit(&together(&inputs, batch)?)
            })
        });
        match pending {
            Ok(pending) => self.flying.push_back(Flight { key, pictures, pending }),
            Err(error) => {
                self.land_all();
                self.alone(key, pictures, error);
            }
        }
        true
    }

    fn land_all(&mut self) {
        while !self.flying.is_empty() {
            self.land();
        }
    }

    /// Waits for the oldest batch in flight.
    fn land(&mut self) {
        let Some(Flight { key, pictures, pending }) = self.flying.pop_front() else { return };
        let (top, clocks, batch) = (self.runner.runs.asking.top, self.runner.runs.clocks, self.runner.batch);
        let size = pictures[0].0.size.unwrap_or(key);
        let collected = self.runner.session(key, size).and_then(|session| {
            let answers = clocks.infer.time(|| session.collect(pending))?;
            Ok((&*session, answers))
        });
        match collected {
            Ok((session, answers)) => {
                for (at, (prepared, _)) in pictures.into_iter().enumerate() {
                    let size = prepared.size.unwrap_or(key);
                    let parts = of_picture(&answers, at, batch);
                    let answer = parts.and_then(|parts| answer(session, &parts, size, top));
                    self.out.push_back(prepared.answered(answer));
                }
            }
            Err(error) => self.alone(key, pictures, error),
        }
    }

    /// Runs the pictures of a batch that failed one by one: it may be the fault of a single one.
    fn alone(&mut self, key: [usize; 2], pictures: Vec<(Prepared, Tensor)>, error: Error) {
        let mut error = Some(error).filter(|error| pictures.len() == 1 || matches!(error, Error::Lost(_)));
        for (prepared, input) in pictures {
            let size = prepared.size.unwrap_or(key);
            let answer = match error.take() {
                Some(error) => Err(error),
                None => self.runner.run(key, size, &input),
            };
            self.out.push_back(prepared.answered(answer));
        }
    }
}
