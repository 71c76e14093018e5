//! Which network is the most accurate that is quick enough on this device: of those that are published, or of those that a
//! supernet holds.
//!
//! # A published network
//! [`Catalogue`] has what is published. [`choose`] times networks with seeded weights, as times do not depend on values,
//! and gives a [`Front`] of accuracy over time. It does not measure them all: each has a floor, a lower bound on its
//! time, and one that would be dominated even then, or beyond the [`Limits`], is ruled out.
//!
//! ```no_run
//! use goldcrest::{Device, quantize::Precision, search::{Catalogue, Depth, Limits, choose}};
//!
//! let catalogue = Catalogue::new()?;
//! let limits = Limits { within_ms: Some(4.0), ..Limits::default() };
//! let networks: Vec<_> = catalogue.best(|n| n.metric.task() == "classify");
//! let choice = choose(&[Device::best()?], &networks, &[Precision::F32], &limits, Depth::Quick, |_| {})?;
//! match choice.recommended(&limits) {
//!     Some((network, rule)) => println!("{rule} {limits}: {}", network.published),
//!     None => println!("nothing is quick enough: {:?}", choice.front.nearest(&limits)),
//! }
//! # Ok::<(), goldcrest::Error>(())
//! ```
//!
//! # A network of one's own
//! A [`Supernet`](crate::zoo::Supernet) holds many networks. [`Latency`] times its blocks on a device and predicts networks;
//! a [`Trial`] says how many pictures they have right; [`seek`] finds the best within a time.
//!
//! ```no_run
//! # #[cfg(feature = "demo")]
//! # fn main() -> goldcrest::Result<()> {
//! use goldcrest::{Device, cpu::Cpu, demo, session::Precision};
//! use goldcrest::search::{Latency, Samples, Settings, Trial, seek};
//!
//! let (supernet, device) = (demo::supernet()?, Device::best()?);
//! let latency = Latency::measure(&supernet, &device, Precision::F32, |_, _| {})?;
//! let mut trial = Trial::new(&supernet, Cpu::new(None)?, Samples::scenes(256, 1000)?)?;
//! let settings = Settings { within_ms: 2.0, population: 32, generations: 12, seed: 1 };
//! let outcome = seek(&mut trial, &device, Precision::F32, &latency, settings, |_, _| {})?;
//! if let Some(best) = outcome.finalists.first() {
//!     println!("{}: {:.1} % in {:.2} ms", best.subnet, 100.0 * best.accuracy, best.measured_ms.median);
//!     let network = best.slice().network()?; // or best.slice().encode()? and config(), as files
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
    evolve, measured, seek,
};
