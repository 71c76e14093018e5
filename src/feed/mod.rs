//! Runs a network on many pictures from files, folders and pipes. Results are in order, and pictures are
//! decoded on all cores during inference.
//!
//! [`Inputs`] yields pictures that are not decoded yet. [`Pipeline::run`] decodes them on its threads,
//! preprocesses them, runs the network, and returns the results in the order of the inputs. At most a few
//! pictures per thread are in flight.
//!
//! ```no_run
//! # fn main() -> goldcrest::Result<()> {
//! use std::ops::ControlFlow;
//!
//! use goldcrest::{
//!     Device, Error, Options,
//!     feed::{Inputs, Pipeline, Reading, TuneOptions},
//!     tasks::{Labels, PictureLimits},
//!     zoo::Network,
//! };
//!
//! let network = Network::open("mobilenet_v2.safetensors")?;
//! let pipeline = Pipeline {
//!     device: Device::best()?,
//!     network: &network,
//!     options: Options::default(),
//!     labels: Labels::of(&network),
//!     top: 5,
//!     threads: 8,
//!     limits: PictureLimits::default(),
//!     pictures: false,
//!     background_tuning: Some(TuneOptions::default()),
//!     compiling: &|_, _| {},
//!     sessions: None,
//! };
//! let photos = Inputs::new(["photos".into()], Reading::default());
//! let stats = pipeline.run(
//!     photos,
//!     |subject, result| (subject.name, result),
//!     |(name, result)| {
//!         println!("{name}: {result:?}");
//!         Ok::<_, Error>(ControlFlow::Continue(()))
//!     },
//! )?;
//! println!("{} pictures in {:?}", stats.pictures, stats.wall);
//! # Ok(())
//! # }
//! ```

mod batches;
mod clocks;
mod found;
mod inputs;
mod lookahead;
mod open;
mod ordered;
mod picture_end;
mod pipeline;
mod running;
mod sessions;
mod split;
mod y4m;

pub use inputs::{Content, EXTENSIONS, Input, Inputs, Name, Reading};
pub use pipeline::{Pipeline, Prediction, RunStats, Subject, TuneOptions};
pub use sessions::Sessions;
pub use y4m::Header;
