//! Pictures of shapes, drawn from a seed with their ground truth, and small networks trained only on them, so
//! that Goldcrest can be shown without another checkpoint.

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
