//! Inferences that are spread over several frames.

use std::{ops::Range, time::Duration};

use web_time::Instant;

use super::Session;
use crate::{Error, Result, Tensor, gpu::Source};

/// An inference cut into parts; see [`Session::parts`].
///
/// ```no_run
/// # fn program(
/// #     gpu: &goldcrest::gpu::Gpu, mut session: goldcrest::Session, source: &goldcrest::gpu::Source,
/// # ) -> goldcrest::Result<()> {
/// use std::time::Duration;
///
/// let parts = session.parts(Duration::from_micros(500))?;
/// for frame in 0..600 {
///     let mut encoder = gpu.device().create_command_encoder(&Default::default());
///     session.encode_part(&mut encoder, source, &parts, frame % parts.count())?;
///     gpu.queue().submit([encoder.finish()]); // every parts.count() frames the outputs are complete
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts(Vec<Range<usize>>);

impl Parts {
    /// Groups steps that take `times` nanoseconds into parts within the budget, each of at least one step.
    fn of(times: &[f64], budget: f64) -> Self {
        let (mut parts, mut first, mut spent) = (Vec::new(), 0, 0.0);
        for (at, ns) in times.iter().enumerate() {
            if at > first && spent + ns > budget {
                parts.push(first..at);
                (first, spent) = (at, 0.0);
            }
            spent += ns;
        }
        parts.push(first..times.len());
        Self(parts)
    }

    /// Returns the number of parts, at least 1.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Measured runs; the shortest time counts.
const RUNS: usize = 3;

impl Session {
    /// Splits an inference into parts that take at most `budget` each, for a program that has little time in
    /// each frame. A single step that takes longer than `budget` is a separate part. This measures the steps,
    /// with timestamps if the device has them, and takes several inferences: call it once, not in a frame.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Input`] on the CPU.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn parts(&mut self, budget: Duration) -> Result<Parts> {
        let (plan, executor) = self.on_gpu()?;
        let (clocked, count) = (executor.has_timestamps(), plan.steps.len());
        let input = Tensor::wave(self.input, 0.37);
        self.run_all(&input)?;
        let mut least = vec![f64::INFINITY; count];
        for _ in 0..RUNS {
            let times = if clocked {
                self.profile(&input)?
            } else {
                let begun = Instant::now();
                self.run_all(&input)?;
                self.estimated_times(begun.elapsed())
            };
            least.iter_mut().zip(times).for_each(|(least, ns)| *least = least.min(ns));
        }
        Ok(Parts::of(&least, budget.as_nanos() as f64))
    }

    /// [`Session::parts`] for callers that must not block. It measures whole runs, and estimates the time of each
    /// step in proportion to its multiply-adds plus bytes.
    ///
    /// # Errors
    /// As [`Session::parts`].
    pub async fn parts_async(&mut self, budget: Duration) -> Result<Parts> {
        self.on_gpu()?;
        let input = Tensor::wave(self.input, 0.37);
        let mut least = Duration::MAX;
        // The first run is a warm-up.
        for run in 0..=RUNS {
            let begun = Instant::now();
            let pending = self.submit(&input)?;
            self.collect_async(pending).await?;
            least = if run == 0 { least } else { least.min(begun.elapsed()) };
        }
        Ok(Parts::of(&self.estimated_times(least), budget.as_nanos() as f64))
    }

    /// Estimates the nanoseconds of each step from the time of a whole run.
    fn estimated_times(&self, whole: Duration) -> Vec<f64> {
        let works: Vec<u64> = self.steps().iter().map(|step| step.work.macs + step.work.bytes).collect();
        let all: u64 = works.iter().sum();
        let whole = whole.as_nanos() as f64;
        works.into_iter().map(|work| whole * work as f64 / all.max(1) as f64).collect()
    }

    /// Records part `at` of an inference. Submit the parts in order, with no other work of this session
    /// between them. The outputs are complete after the last part.
    ///
    /// # Errors
    /// As [`Session::encode`]; [`Error::Input`] if there is no such part, or if `parts` cannot be this session's.
    pub fn encode_part(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        source: &Source,
        parts: &Parts,
        at: usize,
    ) -> Result<()> {
        let (plan, executor) = self.on_gpu()?;
        if parts.0.last().map(|last| last.end) != Some(plan.steps.len()) {
            return Err(Error::Input("the parts are those of another session".into()));
        }
        let range = parts.0.get(at).ok_or_else(|| Error::Input(format!("there is no part {at}")))?;
        executor.record(encoder, source, range.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_to_the_budget_and_leave_nothing_out() {
        let times = [3.0, 4.0, 9.0, 1.0, 1.0, 1.0, 2.0];
        assert_eq!(Parts::of(&times, 7.0).0, [0..2, 2..3, 3..7]);
        assert_eq!(Parts::of(&times, 0.0).count(), times.len());
        assert_eq!(Parts::of(&times, 1e9).count(), 1);
    }
}
