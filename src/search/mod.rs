//! The choice among published networks: which is the most accurate that is quick enough on this device.
//!
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
