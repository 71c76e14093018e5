//! What a picture may cost, checked from its header before anything is decoded.

use super::PIXEL_LIMIT;

/// The most that reading a picture may take.
///
/// A few bytes of a file can stand for gigabytes of pixels, so both are checked from the file's header.
/// [`Picture::open_with`](super::Picture::open_with) takes other limits than these defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLimits {
    /// Pixels of one picture, or of one frame. By default [`PIXEL_LIMIT`], where Pillow refuses.
    pub pixels: u64,
    /// Bytes in memory at once: the file, what its decoder holds, and the pixels with every copy of
    /// them. By default 1 GiB.
    pub memory: u64,
}

impl Default for PictureLimits {
    fn default() -> Self {
        Self { pixels: PIXEL_LIMIT, memory: 1 << 30 }
    }
}

impl PictureLimits {
    /// Whether a picture of `width` x `height` pixels may be held, which takes `bytes` a pixel.
    #[cfg(feature = "feed")]
    pub(crate) fn admits(self, width: u64, height: u64, bytes: u64) -> Result<(), String> {
        self.less(0).admits(width, height, bytes)
    }

    /// What is left when `held` bytes are in memory already.
    pub(super) fn less(self, held: usize) -> Budget {
        Budget { limits: self, held: held as u64 }
    }
}

/// What decoding may take of [`PictureLimits`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limits: PictureLimits,
    held: u64,
}

impl Budget {
    /// Bytes that are left.
    pub fn memory(self) -> u64 {
        self.limits.memory.saturating_sub(self.held)
    }

    /// Whether a picture of `width` x `height` pixels may be decoded, which takes `bytes` a pixel at its peak.
    pub fn admits(self, width: u64, height: u64, bytes: u64) -> Result<(), String> {
        self.admits_bytes(width, height, width.saturating_mul(height).saturating_mul(bytes))
    }

    /// As [`Budget::admits`], where the peak is `bytes` in all.
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
        // No buffer is larger, whoever asks for it.
        let memory = memory.min(isize::MAX as u64);
        let needed = self.held.saturating_add(bytes);
        if needed > memory {
            return Err(format!(
                "{width} x {height} pixels take {} MiB to decode and the limit is {} MiB \
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
    fn each_bound_is_its_own() {
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
    fn a_picture_at_the_limit_of_pixels_fits_the_limit_of_memory() {
        let budget = PictureLimits::default().less(1 << 20);
        assert!(budget.admits(PIXEL_LIMIT, 1, 4).is_ok());
        assert!(budget.admits(PIXEL_LIMIT, 1, 8).is_err());
    }
}
