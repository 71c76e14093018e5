//! Limits on a picture's cost, checked from its header before anything is decoded.

use super::PIXEL_LIMIT;

/// Limits on reading a picture.
///
/// A few bytes of a file can expand to gigabytes of pixels, so both limits are checked from the file's
/// header. [`Picture::open_with`](super::Picture::open_with) takes limits other than the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLimits {
    /// The maximum number of pixels in one picture or frame. By default [`PIXEL_LIMIT`], Pillow's limit.
    pub pixels: u64,
    /// The maximum number of bytes in memory: the file, the decoder's buffers, and all copies of the pixels.
    /// By default 1 GiB.
    pub memory: u64,
}

impl Default for PictureLimits {
    fn default() -> Self {
        Self { pixels: PIXEL_LIMIT, memory: 1 << 30 }
    }
}

impl PictureLimits {
    /// Checks that a picture of `width` x `height` pixels with `bytes` per pixel is within the limits.
    #[cfg(feature = "feed")]
    pub(crate) fn admits(self, width: u64, height: u64, bytes: u64) -> Result<(), String> {
        self.less(0).admits(width, height, bytes)
    }

    /// The budget that is left with `held` bytes already in memory.
    pub(super) fn less(self, held: usize) -> Budget {
        Budget { limits: self, held: held as u64 }
    }
}

/// The part of [`PictureLimits`] that is left for decoding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limits: PictureLimits,
    held: u64,
}

impl Budget {
    /// The bytes that are left.
    pub fn memory(self) -> u64 {
        self.limits.memory.saturating_sub(self.held)
    }

    /// Checks that a picture of `width` x `height` pixels can be decoded, with a peak of `bytes` per pixel.
    pub fn admits(self, width: u64, height: u64, bytes: u64) -> Result<(), String> {
        self.admits_bytes(width, height, width.saturating_mul(height).saturating_mul(bytes))
    }

    /// As [`Budget::admits`], with a peak of `bytes` in total.
    pub fn admits_bytes(self, width: u64, height: u64, bytes: u64) -> Result<(), String> {
        let PictureLimits { pixels, memory } = self.limits;
        if width == 0 || height == 0 {
            return Err(format!("a picture of {width} x {height} pixels is empty"));
        }
        if width.saturating_mul(height) > pixels {
            return Err(format!(
                "{width} x {height} pixels are more than the limit of {pixels} \
                 (--max-pixels, PictureLimits::pixels)"
            ));
        }
        // No buffer can be larger than this.
        let memory = memory.min(isize::MAX as u64);
        let needed = self.held.saturating_add(bytes);
        if needed > memory {
            return Err(format!(
                "{width} x {height} pixels take {} MiB to decode, but the limit is {} MiB \
                 (--max-memory, PictureLimits::memory)",
                needed.div_ceil(1 << 20),
                memory >> 20
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_independent() {
        let budget = PictureLimits { pixels: 100, memory: 1000 }.less(200);
        assert!(budget.admits(10, 10, 8).is_ok());
        assert!(budget.admits(10, 10, 9).unwrap_err().contains("PictureLimits::memory"));
        assert!(budget.admits(101, 1, 1).unwrap_err().contains("PictureLimits::pixels"));
        assert!(budget.admits(0, 1, 1).unwrap_err().contains("empty"));
        for side in [u64::MAX, 1 << 40] {
            assert!(budget.admits(side, side, 8).unwrap_err().contains("PictureLimits::pixels"));
        }
    }

    #[test]
    fn a_picture_at_the_pixel_limit_fits_the_memory_limit() {
        let budget = PictureLimits::default().less(1 << 20);
        assert!(budget.admits(PIXEL_LIMIT, 1, 4).is_ok());
        assert!(budget.admits(PIXEL_LIMIT, 1, 8).is_err());
    }
}
