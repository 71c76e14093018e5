//! What surrounds a network: pictures in, labels out. Nothing here runs anything.

mod classify;
mod labels;
mod picture;
mod preprocess;

pub use classify::{Class, top};
pub use labels::Labels;
pub use picture::{PIXEL_LIMIT, Picture};
pub use preprocess::{preprocess, preprocess_batch};
