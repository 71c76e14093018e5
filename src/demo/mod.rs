//! Pictures of shapes, drawn from a seed with the right answers beside them, and small networks
//! that were trained on nothing else: what Goldcrest shows where nobody has a checkpoint at hand.

mod drawing;
mod models;
#[cfg(feature = "image")]
mod photographs;
mod scene;
mod shape;

pub use drawing::{Drawing, Seen};
pub use models::{classifier, detector, segmenter, supernet};
#[cfg(feature = "image")]
pub use photographs::pictures;
pub use scene::{Colour, HELD_OUT, MOST_THINGS, Paint, Pattern, SEARCHED, Scene, Thing};
pub use shape::Shape;
