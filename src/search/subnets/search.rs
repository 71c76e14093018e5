//! The whole search: evolution over predicted times, then the best candidates are timed, calibrated and
//! evaluated.

use serde::Serialize;

use super::{Failed, Found, Latency, Settings, Trial, evolve, measured};
use crate::{
    Error, Result,
    graph::Cost,
    measure::Spread,
    session::{Device, Precision},
    zoo::{Slice, Subnet},
};

/// The number of finalists: candidates within the limit when timed, which are calibrated and evaluated.
const FINALISTS: usize = 5;

/// The maximum number of candidates that are timed to find the finalists.
const TIMED: usize = 4 * FINALISTS;

/// A candidate that was timed, calibrated and evaluated.
#[derive(Debug, Clone, Serialize)]
pub struct Finalist {
    /// The subnet. Serialisation writes it as text.
    #[serde(serialize_with = "text")]
    pub subnet: Subnet,
    /// The predicted milliseconds.
    pub predicted_ms: f64,
    /// The measured milliseconds, from a picture in memory to the result in memory.
    pub measured_ms: Spread,
    /// The measured milliseconds by GPU timestamps.
    pub gpu_ms: Option<Spread>,
    /// The accuracy on the search pictures, as a fraction.
    pub search_accuracy: f64,
    /// The accuracy on the held-out pictures, as a fraction. No choice depends on it.
    pub held_out_accuracy: f64,
    /// The number of multiply-adds.
    pub macs: u64,
    /// The number of weights.
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

/// The result of a search.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// All evaluated candidates, the best first.
    pub found: Vec<Found>,
    /// The finalists, in the order of `found`. The held-out pictures are not used to choose them, so the winner's
    /// accuracy on those pictures is unbiased.
    pub finalists: Vec<Finalist>,
    /// The time of the fastest timed candidate, in milliseconds.
    pub fastest_ms: f64,
    /// Measured time divided by predicted time; `None` if no candidate was timed.
    pub drift: Option<Spread>,
}

/// Searches for the subnets with the highest accuracy in `trial` among those within the time limit of
/// `settings` on `device`. Calls `evaluated` with each evaluated candidate and the number of candidates so far.
///
/// # Errors
/// [`Error::Input`] if even the smallest subnet exceeds the limit; those of [`Trial::evaluate`] and
/// [`measured`].
pub fn search_subnets(
    trial: &mut Trial,
    device: &Device,
    precision: Precision,
    latency: &Latency,
    settings: Settings,
    mut evaluated: impl FnMut(&Found, usize),
) -> Result<Outcome> {
    let supernet = trial.supernet();
    let mut count = 0;
    let predict = |subnet: &Subnet| latency.predict(subnet);
    let found = evolve(supernet, settings, predict, |subnet, predicted_ms| {
        let search_accuracy = trial.evaluate(subnet)?;
        count += 1;
        evaluated(&Found { subnet: subnet.clone(), predicted_ms, search_accuracy }, count);
        Ok(search_accuracy)
    });
    let found = found.map_err(|failed| match failed {
        Failed::Judge(error) => error,
        slow @ Failed::Slow { .. } => {
            Error::Input(format!("{slow} on {device}; the limit is {} ms", settings.within_ms))
        }
    })?;
    let (mut finalists, mut fastest_ms, mut drifts) = (Vec::new(), f64::INFINITY, Vec::new());
    for Found { subnet, predicted_ms, search_accuracy } in &found {
        if finalists.len() == FINALISTS || drifts.len() == TIMED {
            break;
        }
        // The device may be slower now than when its blocks were timed.
        if Spread::of(drifts.clone()).is_some_and(|drift| predicted_ms * drift.median > settings.within_ms) {
            continue;
        }
        let timing = measured(supernet, device, precision, subnet)?;
        drifts.push(timing.wall_ms.median / predicted_ms);
        fastest_ms = fastest_ms.min(timing.wall_ms.median);
        if timing.wall_ms.median > settings.within_ms {
            continue;
        }
        let (slice, network, held_out_accuracy) = trial.finish(subnet)?;
        let shapes = network.graph.shapes(network.input_shape(1))?;
        let cost: Cost = network.graph.costs(&shapes).into_iter().sum();
        finalists.push(Finalist {
            subnet: subnet.clone(),
            predicted_ms: *predicted_ms,
            measured_ms: timing.wall_ms,
            gpu_ms: timing.gpu_ms,
            search_accuracy: *search_accuracy,
            held_out_accuracy,
            macs: cost.macs,
            weights: cost.parameters,
            slice,
        });
    }
    Ok(Outcome { found, finalists, fastest_ms, drift: Spread::of(drifts) })
}
