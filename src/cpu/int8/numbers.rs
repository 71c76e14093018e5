//! A convolution's integer parameters for the CPU's dot products. Maps are stored as unsigned bytes, 128 above the
//! graph's integers, and multiplied by signed weights; where both operands must be signed, the 128 is subtracted
//! again. Biases and tables are shifted to match.

use super::vectors::Isa;
use crate::graph::{Activation, ActivationTable, Affine, Conv, EpilogueKind, Int8, Integers, TABLE_ENTRIES};

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
    pub table: Option<Box<[u8; TABLE_ENTRIES]>>,
    /// If the activation is hard-swish: a function for vectors that has the table's values, and the byte of 0.
    pub hard_swish: Option<(HardSwish, u8)>,
}

/// Hard-swish from sums in units of an [`ActivationTable`]'s scale to offsets from the output's zero point, in
/// floating point: vectors compute it several times as fast as they look it up.
#[derive(Clone, Copy)]
pub struct HardSwish {
    /// The argument per unit of the sum.
    pub scale: f32,
    /// 1 / (6 x output scale)
    pub factor: f32,
}

impl HardSwish {
    /// Returns the function that has exactly the table's values, or None if there is none. Rounding may differ at
    /// halves; a factor a few ulps away then often matches.
    fn of(table: &ActivationTable, output: Affine) -> Option<Self> {
        let nearest = (1.0 / (6.0 * output.scale)).to_bits();
        let factors = [0, 1, -1, 2, -2, 3, -3, 4, -4].map(|by| nearest.wrapping_add_signed(by));
        let functions = factors.map(|bits| Self { scale: table.scale, factor: f32::from_bits(bits) });
        functions.into_iter().find(|function| {
            table.entries.iter().zip(0..).all(|(entry, at)| {
                let offset = function.at(at - table.zero);
                // Near the ends of their range, instruction sets convert to different integers.
                offset.unsigned_abs() < 1 << 30
                    && (offset + i32::from(output.zero)).clamp(-128, 127) == i32::from(*entry)
            })
        })
    }

    /// The offset for a sum. The arithmetic is that of
    /// [`hard_swish`](super::vectors::Vectors::hard_swish).
    #[inline(always)]
    pub fn at(self, sum: i32) -> i32 {
        let x = sum as f32 * self.scale;
        (x * (x + 3.0).clamp(0.0, 6.0) * self.factor).round_ties_even() as i32
    }
}

impl Numbers {
    /// Derives the parameters of a convolution with this quantisation, for this instruction set.
    pub fn new(isa: Isa, conv: &Conv, quantisation: &Int8) -> Result<Self, String> {
        let integers = Integers::new(conv, quantisation)?;
        let bias = (0..conv.outputs()).map(|o| integers.bias_from(o, isa.offset() - 128)).collect();
        let table = match &integers.epilogue {
            EpilogueKind::Table { table, .. } => {
                Some(Box::new(std::array::from_fn(|at| byte(table.entries[at]))))
            }
            _ => None,
        };
        let hard_swish = match (&integers.epilogue, quantisation.output) {
            (EpilogueKind::Table { table, .. }, Some(output)) if conv.activation == Activation::HardSwish => {
                HardSwish::of(table, output).map(|function| (function, zero(output)))
            }
            _ => None,
        };
        Ok(Self { integers, bias, table, hard_swish })
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
        if matches!(self.integers.epilogue, EpilogueKind::Float(_)) { 4 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_swish_needs_no_table() {
        // Over these scales, fewer than one layer in a hundred would be looked up.
        let found = (0..500).filter(|i| {
            let output = Affine::over(-0.375, 0.1 * 1.02f32.powi(*i));
            HardSwish::of(&ActivationTable::new(Activation::HardSwish, output), output).is_some()
        });
        assert!(found.count() >= 495);
        // Beyond the range in which all instruction sets convert alike.
        for scale in [1e-10, f32::MIN_POSITIVE] {
            let output = Affine { scale, zero: 0 };
            assert!(HardSwish::of(&ActivationTable::new(Activation::HardSwish, output), output).is_none());
        }
    }
}
