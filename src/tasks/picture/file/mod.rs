//! Picture files: reads each format frame by frame and within limits, and writes PNG and JPEG.

mod canvas;
mod encode;
mod exif;
mod format;
mod gif;
mod jpeg;
mod limits;
mod pixels;
mod plain;
mod png;
mod read;
#[cfg(test)]
mod tests;
mod tiff;
mod webp;

pub(in crate::tasks) use encode::png_of;
#[cfg(feature = "feed")]
pub(crate) use format::{Format, MAGIC_BYTES};
#[cfg(feature = "feed")]
pub(crate) use jpeg::end as jpeg_end;
pub use limits::PictureLimits;
pub use read::Frames;

use super::{PIXEL_LIMIT, Picture};
