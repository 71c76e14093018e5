//! Batches on a GPU, each submitted while the previous one is computed.

use std::collections::VecDeque;

use super::{
    ordered::Ordered,
    pipeline::{Prediction, Subject},
    running::{Prepared, Ready, Runner, of_picture, prediction, together},
};
use crate::{Error, Result, Tensor, session::Pending};

/// Batches in flight: with two, the GPU computes one while the next is submitted.
const IN_FLIGHT: usize = 2;

/// The results for pictures, in order, with up to `IN_FLIGHT` batches in flight.
pub struct Batches<'a> {
    runner: Runner<'a>,
    prepared: Ordered<Prepared>,
    /// The first picture of the next batch.
    next: Option<Prepared>,
    in_flight: VecDeque<Flight>,
    finished: VecDeque<(Subject, Result<Prediction>)>,
}

/// A batch in flight, with inputs for one session.
struct Flight {
    pictures: Vec<(Subject, Ready)>,
    pending: Pending,
}

impl Iterator for Batches<'_> {
    type Item = (Subject, Result<Prediction>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(finished) = self.finished.pop_front() {
                return Some(finished);
            }
            // Do not delay a result by waiting for the next picture.
            let more = self.next.is_some() || self.prepared.is_ready();
            if self.in_flight.is_empty() || (more && self.in_flight.len() < IN_FLIGHT) {
                if self.submit() {
                    continue;
                }
                if self.in_flight.is_empty() {
                    return None;
                }
            }
            self.collect();
        }
    }
}

impl<'a> Batches<'a> {
    pub fn new(runner: Runner<'a>, prepared: Ordered<Prepared>) -> Self {
        Self { runner, prepared, next: None, in_flight: VecDeque::new(), finished: VecDeque::new() }
    }

    /// Submits the next batch; returns false if there is none.
    fn submit(&mut self) -> bool {
        let Some((subject, ready)) = self.next.take().or_else(|| self.prepared.next()) else { return false };
        let ready = match ready {
            Ok(ready) => ready,
            Err(error) => {
                self.collect_all();
                self.finished.push_back((subject, Err(error)));
                return true;
            }
        };
        let key = ready.key;
        let mut pictures = vec![(subject, ready)];
        while pictures.len() < self.runner.batch {
            match self.prepared.next() {
                Some((subject, Ok(ready))) if ready.key == key => pictures.push((subject, ready)),
                next => {
                    self.next = next;
                    break;
                }
            }
        }
        let other = self.in_flight.front().is_some_and(|flight| flight.pictures[0].1.key != key);
        if other || self.runner.tuning_is_over() {
            self.collect_all();
        }
        let batch = self.runner.batch;
        let pending = self.runner.infer(&pictures[0].1, |session| {
            let inputs: Vec<&Tensor> = pictures.iter().map(|(_, ready)| &ready.input).collect();
            session.submit(&*together(&inputs, batch)?)
        });
        match pending {
            Ok((_, pending)) => self.in_flight.push_back(Flight { pictures, pending }),
            Err(error) => {
                self.collect_all();
                self.one_by_one(pictures, error);
            }
        }
        true
    }

    fn collect_all(&mut self) {
        while !self.in_flight.is_empty() {
            self.collect();
        }
    }

    /// Waits for the oldest batch in flight.
    fn collect(&mut self) {
        let Some(Flight { pictures, pending }) = self.in_flight.pop_front() else { return };
        let (batch, common) = (self.runner.batch, self.runner.common);
        match self.runner.infer(&pictures[0].1, |session| session.collect(pending)) {
            Ok((session, outputs)) => {
                for (at, (subject, ready)) in pictures.into_iter().enumerate() {
                    let selected = of_picture(&outputs, at, batch);
                    let prediction = selected
                        .and_then(|selected| prediction(session, &selected, ready.size, common.pipeline.top));
                    self.finished.push_back((subject, prediction));
                }
            }
            Err(error) => self.one_by_one(pictures, error),
        }
    }

    /// Runs the pictures of a failed batch one by one, because a single picture may have caused the failure.
    fn one_by_one(&mut self, pictures: Vec<(Subject, Ready)>, error: Error) {
        let mut error = Some(error).filter(|error| pictures.len() == 1 || matches!(error, Error::Lost(_)));
        for (subject, ready) in pictures {
            let prediction = error.take().map_or_else(|| self.runner.run(&ready), Err);
            self.finished.push_back((subject, prediction));
        }
    }
}
