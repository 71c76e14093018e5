//! The search as a whole: candidates by evolution, then the best of them calibrated, timed and judged for real.

use serde::Serialize;

use super::{Failed, Found, Latency, Settings, Trial, evolve, measured};
use crate::{
    Error, Result,
    graph::Cost,
    measure::Spread,
    session::{Device, Precision},
    zoo::{Slice, Subnet},
};

/// Candidates that are timed and judged for real, of those that then keep to the limit.
const FINALISTS: usize = 5;

/// As many candidates are timed for that at most.
const TIMED: usize = 4 * FINALISTS;

/// A candidate that was calibrated, timed and judged.
#[derive(Debug, Clone, Serialize)]
pub struct Finalist {
    /// Which it is, as text.
    #[serde(serialize_with = "text")]
    pub subnet: Subnet,
    /// Milliseconds that it was expected to take.
    pub predicted_ms: f64,
    /// Milliseconds that it takes, from a picture in memory to the answer in memory.
    pub measured_ms: Spread,
    /// Milliseconds by the GPU's own clock.
    pub gpu_ms: Option<Spread>,
    /// The share that it has right of the pictures to search by.
    pub searched: f64,
    /// The share that it has right of the pictures to judge by, which no candidate was chosen by.
    pub accuracy: f64,
    /// Multiply-adds.
    pub macs: u64,
    /// Weights.
    pub weights: u64,
    #[serde(skip)]
    slice: Slice,
}

impl Finalist {
    /// Its checkpoint.
    pub fn slice(&self) -> &Slice {
        &self.slice
    }
}

fn text<S: serde::Serializer>(subnet: &Subnet, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(subnet)
}

/// What a search came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// All candidates that were judged, the best first.
    pub found: Vec<Found>,
    /// Those that were timed and kept to the limit, the best first.
    pub finalists: Vec<Finalist>,
    /// The least milliseconds that any took that was timed.
    pub quickest_ms: f64,
}

/// Searches for the subnets that `trial` finds best among those that take no longer on `device` than `settings` say.
/// `judged` hears of each candidate, and how many there were.
///
/// # Errors
/// [`Error::Input`] if even the smallest takes too long; those of [`Trial::search`] and [`measured`].
pub fn seek(
    trial: &mut Trial,
    device: &Device,
    precision: Precision,
    latency: &Latency,
    settings: Settings,
    mut judged: impl FnMut(&Found, usize),
) -> Result<Outcome> {
    let supernet = trial.supernet();
    let mut count = 0;
    let predict = |subnet: &Subnet| latency.predict(subnet);
    let found = evolve(supernet, settings, predict, |subnet, predicted_ms| {
        let accuracy = trial.search(subnet)?;
        count += 1;
        judged(&Found { subnet: subnet.clone(), predicted_ms, accuracy }, count);
        Ok(accuracy)
    });
    let found = found.map_err(|failed| match failed {
        Failed::Judge(error) => error,
        slow @ Failed::Slow { .. } => {
            Error::Input(format!("{slow} on {device}, of {} that it may take", settings.within_ms))
        }
    })?;
    let (mut finalists, mut quickest_ms) = (Vec::new(), f64::INFINITY);
    for Found { subnet, predicted_ms, accuracy: searched } in found.iter().take(TIMED) {
        let timing = measured(supernet, device, precision, subnet)?;
        quickest_ms = quickest_ms.min(timing.wall_ms.median);
        if timing.wall_ms.median > settings.within_ms {
            continue;
        }
        let (slice, network, accuracy) = trial.finish(subnet)?;
        let shapes = network.graph.shapes(network.input_shape(1))?;
        let cost: Cost = network.graph.costs(&shapes).into_iter().sum();
        finalists.push(Finalist {
            subnet: subnet.clone(),
            predicted_ms: *predicted_ms,
            measured_ms: timing.wall_ms,
            gpu_ms: timing.gpu_ms,
            searched: *searched,
            accuracy,
            macs: cost.macs,
            weights: cost.parameters,
            slice,
        });
        if finalists.len() == FINALISTS {
            break;
        }
    }
    finalists.sort_by(|a, b| {
        let quicker = a.measured_ms.median.total_cmp(&b.measured_ms.median);
        b.accuracy.total_cmp(&a.accuracy).then(quicker)
    });
    Ok(Outcome { found, finalists, quickest_ms })
}
