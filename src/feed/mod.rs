//! Many pictures: from files, folders and pipes to answers, in order, with decoding on all cores beside the inference.
//!
//! [`Inputs`] are pictures that are yet to be decoded. [`Asking::each`] decodes them on as many threads as it may have,
//! prepares them, runs the network, and gives the answers in the order of the inputs. What is in flight is bounded: a
//! few pictures a thread.
//!
//! ```no_run
//! # fn main() -> goldcrest::Result<()> {
//! use std::ops::ControlFlow;
//!
//! use goldcrest::{
//!     Device, Error, Options,
//!     feed::{Asking, Inputs, Reading},
//!     tasks::{Labels, PictureLimits},
//!     zoo::Network,
//! };
//!
//! let network = Network::open("mobilenet_v2.safetensors")?;
//! let asking = Asking {
//!     device: Device::best()?,
//!     network: &network,
//!     options: Options::default(),
//!     labels: Labels::of(&network),
//!     top: 5,
//!     threads: 8,
//!     limits: PictureLimits::default(),
//!     pictures: false,
//!     compiling: &|_, _| {},
//! };
//! let photos = Inputs::new(["photos".into()], Reading::default());
//! let spent = asking.each(
//!     photos,
//!     |answered| (answered.name, answered.answer),
//!     |(name, answer)| {
//!         println!("{name}: {answer:?}");
//!         Ok::<_, Error>(ControlFlow::Continue(()))
//!     },
//! )?;
//! println!("{} of {} pictures", spent.answered, spent.answered + spent.failed);
//! # Ok(())
//! # }
//! ```

mod asking;
mod batches;
mod clocks;
mod inputs;
mod open;
mod ordered;
mod running;
mod split;
mod y4m;

pub use asking::{Answer, Answered, Asking, Spent};
pub use inputs::{Content, EXTENSIONS, Input, Inputs, Name, Reading};
pub use y4m::{Header, Matrix};
