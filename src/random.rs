//! Random numbers from a seed, the same on every machine.

/// A splitmix64 generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        // 2^64 over the golden ratio.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A random number from 0 (inclusive) to 1 (exclusive).
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// A random integer below `end`.
    #[cfg(all(any(feature = "cpu", feature = "demo"), not(target_arch = "wasm32")))]
    pub fn below(&mut self, end: usize) -> usize {
        ((end as u128 * u128::from(self.bits())) >> 64) as usize
    }

    /// A random item.
    #[cfg(all(any(feature = "cpu", feature = "demo"), not(target_arch = "wasm32")))]
    pub fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

#[cfg(feature = "demo")]
impl Random {
    /// A random number from `low` to `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }
}
