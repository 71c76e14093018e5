//! Preprocessing of pictures and postprocessing of results. Nothing here runs a network.
//!
//! [`Picture`] is what a session reads; [`Class`], [`Segmentation`] and [`Detection`] are its results. With the
//! feature `image`, `overlay`, `tint` and `draw` draw them on the picture.

mod classify;
mod colours;
mod detect;
#[cfg(feature = "image")]
pub(crate) mod draw;
mod labels;
#[cfg(feature = "image")]
mod overlay;
mod picture;
mod preprocess;
mod resample;
mod segment;
#[cfg(feature = "image")]
mod tags;

pub use classify::{Class, top};
pub use colours::{palette, premultiply, premultiply_srgb, to_linear};
pub use detect::{Bounds, Candidate, Detection, decode_boxes, non_max_suppression};
pub use labels::Labels;
#[cfg(feature = "image")]
pub use overlay::{overlay, tint};
#[cfg(feature = "feed")]
pub(crate) use picture::file::{Format, MAGIC_BYTES, jpeg_end};
#[cfg(feature = "image")]
pub use picture::file::{Frames, PictureLimits};
pub use picture::{PIXEL_LIMIT, Picture};
pub(crate) use preprocess::{fit, statistics};
pub use preprocess::{input_size, preprocess, preprocess_batch, takes_pictures};
pub use segment::{ClassArea, Segmentation, segmentation};
#[cfg(feature = "image")]
pub use tags::draw;
