//! A convolution's integers for dot products. Maps are stored as unsigned bytes, 128 above the graph's integers, and
//! multiplied by signed weights; where both operands must be signed, the 128 is subtracted again. Biases and tables
//! are shifted to match.

use super::vectors::Isa;
use crate::graph::{Affine, CURVE, Conv, EpilogueKind, Int8, Integers};

/// The byte that represents 0.
pub fn zero(map: Affine) -> u8 {
    byte(map.zero)
}

/// The stored byte of an integer.
#[inline]
pub fn byte(q: i8) -> u8 {
    q.cast_unsigned() ^ 0x80
}

/// The integer of a stored byte.
#[inline]
pub fn integer(byte: u8) -> i8 {
    (byte ^ 0x80).cast_signed()
}

/// A convolution's integer parameters, for maps of unsigned bytes.
pub struct Numbers {
    pub integers: Integers,
    /// The bias of each output, with the input's zero point and the operands' offset compensated.
    pub bias: Vec<i32>,
    /// The activation's table of bytes, if it has one.
    pub table: Option<Box<[u8; CURVE]>>,
}

impl Numbers {
    /// Derives the parameters of a convolution with this quantisation, for this instruction set.
    pub fn new(isa: Isa, conv: &Conv, quantisation: &Int8) -> Result<Self, String> {
        let integers = Integers::new(conv, quantisation)?;
        let bias = (0..conv.outputs()).map(|o| integers.bias_from(o, isa.offset() - 128)).collect();
        let table = match &integers.ending {
            EpilogueKind::Lookup { curve, .. } => {
                Some(Box::new(std::array::from_fn(|at| byte(curve.entries[at]))))
            }
            _ => None,
        };
        Ok(Self { integers, bias, table })
    }

    /// Returns the number that a residual's byte adds to a sum of output `o`.
    pub fn added(&self, o: usize, residual: u8) -> i32 {
        self.integers.added(o, integer(residual))
    }

    /// Requantises a sum of output `o` to a byte.
    pub fn byte(&self, o: usize, sum: i32) -> u8 {
        byte(self.integers.finished(o, sum))
    }

    /// Bytes per output value.
    pub fn size(&self) -> usize {
        if matches!(self.integers.ending, EpilogueKind::Float(_)) { 4 } else { 1 }
    }
}
