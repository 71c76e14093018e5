//! Decodes pictures of every format, frame by frame. No frame exceeds the limits.

#![no_main]

use goldcrest::tasks::{Frames, PictureLimits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = PictureLimits { pixels: 1 << 20, memory: 1 << 26 };
    let Ok(frames) = Frames::decode(bytes, "fuzzed", limits) else { return };
    for frame in frames.take(100).flatten() {
        assert!((frame.width() * frame.height()) as u64 <= limits.pixels);
    }
});
