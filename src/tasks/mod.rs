//! What surrounds a network: pictures in, labels out. Nothing here runs anything.

mod picture;
mod preprocess;

pub use picture::{PIXEL_LIMIT, Picture};
pub use preprocess::{preprocess, preprocess_batch};
