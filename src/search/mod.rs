//! Finds the most accurate network that is fast enough on a device, among the published networks or among the
//! subnets of a supernet.
//!
//! # A published network
//! [`Catalogue`] lists the published networks. [`choose`] times them with seeded weights, because times do
//! not depend on the values. The [`Front`] of its result has all measured networks, and shows which of them
//! are on the Pareto front of accuracy over time. Not every network is measured. Each has a lower bound on
//! its time: a network is ruled out if it would be dominated even at that bound, or if the bound exceeds the
//! [`Limits`].
//!
//! ```no_run
//! use goldcrest::{Device, quantize::StoredType, search::{Catalogue, Depth, Limits, choose}};
//!
//! let catalogue = Catalogue::new()?;
//! let limits = Limits { within_ms: Some(4.0), ..Limits::default() };
//! let networks: Vec<_> = catalogue.best(|n| n.metric.task() == "classify");
//! let choice = choose(&[Device::best()?], &networks, &[StoredType::F32], &limits, Depth::Quick, |_| {})?;
//! match choice.recommended(&limits) {
//!     Some((network, rule)) => println!("{rule} {limits}: {}", network.published),
//!     None => println!("no network is fast enough: {:?}", choice.front.nearest(&limits)),
//! }
//! # Ok::<(), goldcrest::Error>(())
//! ```
//!
//! # A subnet of a supernet
//! A [`Supernet`](crate::zoo::Supernet) contains many subnets. [`Latency`] times its blocks on a device and
//! predicts the time of any subnet; a [`Trial`] evaluates the accuracy of subnets on pictures;
//! [`search_subnets`] finds the most accurate subnet within a time limit.
//!
//! ```no_run
//! # #[cfg(feature = "demo")]
//! # fn main() -> goldcrest::Result<()> {
//! use goldcrest::{Device, cpu::Cpu, demo, session::Precision};
//! use goldcrest::search::{Latency, Samples, Settings, Trial, search_subnets};
//!
//! let (supernet, device) = (demo::supernet()?, Device::best()?);
//! let latency = Latency::measure(&supernet, &device, Precision::F32, |_, _| {})?;
//! let mut trial = Trial::new(&supernet, Cpu::new(None)?, Samples::scenes(256, 1000)?)?;
//! let settings = Settings { within_ms: 2.0, population: 32, generations: 12, seed: 1 };
//! let outcome = search_subnets(&mut trial, &device, Precision::F32, &latency, settings, |_, _| {})?;
//! if let Some(best) = outcome.finalists.first() {
//!     println!("{}: {:.1} % in {:.2} ms", best.subnet, 100.0 * best.held_out_accuracy, best.measured_ms.median);
//!     let network = best.slice().network()?; // or encode()? and config() of the slice, to write files
//! #   drop(network);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "demo"))]
//! # fn main() {}
//! ```

mod choice;
mod floor;
mod front;
mod limits;
mod published;
mod race;
mod subnets;

pub use choice::{Choice, Counts, Depth, Failure, Progress, choose};
pub use front::{Front, Measured, Rule, Standing};
pub use limits::{Limit, Limits, bytes, megabytes, milliseconds, short};
pub use published::{Catalogue, Metric, Published};
pub use subnets::{
    Checked, Failed, Finalist, Found, Labelled, Latency, Outcome, Samples, Settings, Trial, calibrate,
    evolve, measured, search_subnets,
};
