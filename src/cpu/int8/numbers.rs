//! A convolution's integers as processors take them: maps lie in unsigned bytes, 128 above what the graph counts them
//! as, to be multiplied by signed weights; biases and tables are moved likewise.

use crate::graph::{Affine, CURVE, Conv, Ending, Int8, Integers};

/// The byte that stands for 0.
pub fn zero(map: Affine) -> u8 {
    byte(map.zero)
}

/// How an integer lies in memory.
#[inline]
pub fn byte(q: i8) -> u8 {
    q.cast_unsigned() ^ 0x80
}

/// The integer that lies so in memory.
#[inline]
pub fn integer(byte: u8) -> i8 {
    (byte ^ 0x80).cast_signed()
}

/// A convolution in integers, over bytes.
pub struct Numbers {
    pub integers: Integers,
    /// With what zeros add to every sum of bytes.
    pub bias: Vec<i32>,
    /// The curve's bytes, if its activation has one.
    pub table: Option<Box<[u8; CURVE]>>,
}

impl Numbers {
    /// Of a convolution with this around it.
    pub fn new(conv: &Conv, around: &Int8) -> Result<Self, String> {
        let integers = Integers::new(conv, around)?;
        let bias = (0..conv.outputs()).map(|o| integers.bias_from(o, -128)).collect();
        let table = match &integers.ending {
            Ending::Bent { curve, .. } => Some(Box::new(std::array::from_fn(|at| byte(curve.entries[at])))),
            _ => None,
        };
        Ok(Self { integers, bias, table })
    }

    /// What a byte of the residual adds to a sum of output `o`.
    pub fn added(&self, o: usize, residual: u8) -> i32 {
        self.integers.added(o, integer(residual))
    }

    /// The byte that a sum of output `o` becomes.
    pub fn byte(&self, o: usize, sum: i32) -> u8 {
        byte(self.integers.finished(o, sum))
    }

    /// Bytes of a value that it makes.
    pub fn size(&self) -> usize {
        if matches!(self.integers.ending, Ending::Float(_)) { 4 } else { 1 }
    }
}
