//! Shared by the kernels for int8 layers: maps of bytes, four channels per word, and the epilogue of
//! convolutions. The epilogue's files are `shaders/completion.wgsl`, `shaders/output_params.wgsl` and
//! `shaders/requantise.wgsl`. Its arithmetic is that of [`graph::Integers`].
//!
//! [`graph::Integers`]: crate::graph::Integers

use super::{Layer, Maps};
use crate::{
    Tensor,
    graph::{ActivationTable, Affine, Conv, ConvKind, EpilogueKind, Int8, Integers, MaxPool, Op, Rescale},
};

/// The bindings that an int8 convolution reads.
pub(super) const READS: &[&str] = &["x", "weight", "output_params", "table", "residual"];

/// Its bindings with elements of 32 bits: all of them.
pub(super) const WORDS: &[&str] = &["x", "weight", "output_params", "table", "residual", "y"];

/// Returns a layer's convolution and its quantisation, if it is an int8 convolution of this kind.
pub(super) fn conv<'a, 'b>(layer: &'b Layer<'a>, kind: ConvKind) -> Option<(&'a Conv, &'b Int8)> {
    match (layer.op, &layer.int8) {
        (Op::Conv(conv), Some(quantisation)) if conv.kind() == Some(kind) => Some((conv, quantisation)),
        _ => None,
    }
}

/// Returns the quantisation of the inputs and the output of an int8 layer without weights, if `is` accepts
/// its operation.
pub(super) fn maps<'b>(layer: &'b Layer, is: impl Fn(&Op) -> bool) -> Option<(&'b [Affine], Affine)> {
    let quantisation = layer.int8.as_ref().filter(|_| is(layer.op))?;
    Some((&quantisation.inputs, quantisation.output?))
}

/// Returns [`maps`] of a layer that a kernel has tiles for.
pub(super) fn expect_maps<'b>(layer: &'b Layer) -> (&'b [Affine], Affine) {
    maps(layer, |_| true).expect("a kernel is only launched for layers that it has tiles for")
}

/// Packs four bytes into a word, the first channel's lowest.
pub(super) fn word(bytes: [i8; 4]) -> u32 {
    u32::from_le_bytes(bytes.map(i8::cast_unsigned))
}

/// Returns a signed integer as a kernel's parameter.
pub(super) fn signed(number: impl Into<i32>) -> u32 {
    number.into().cast_unsigned()
}

/// The epilogue of a convolution.
pub(super) struct Epilogue {
    pub integers: Integers,
    /// The left and right shifts of sums and of residuals, if upper halves of products suffice for all
    /// outputs.
    by_half: Option<Vec<[[u32; 2]; 2]>>,
}

impl Epilogue {
    /// Returns the epilogue of a layer that a kernel has tiles for and does not refuse.
    pub fn of(conv: &Conv, quantisation: &Int8) -> Self {
        let integers =
            Integers::new(conv, quantisation).expect("a kernel is only launched for layers that it takes");
        let sums = match &integers.epilogue {
            EpilogueKind::Clamped { rescales, .. } | EpilogueKind::Table { rescales, .. } => Some(rescales),
            EpilogueKind::Float(_) => None,
        };
        let shifts = |o: usize| {
            let of_sum = sums.map_or(Some([0, 1]), |sums| sums[o].by_upper_half(integers.most[o]))?;
            let of_residual = integers.residual.as_ref();
            let of_residual =
                of_residual.map_or(Some([0, 1]), |residual| residual.rescales[o].by_upper_half(255))?;
            Some([of_sum, of_residual])
        };
        let by_half = (0..conv.outputs()).map(shifts).collect();
        Self { integers, by_half }
    }

    /// Makes the epilogues of one kernel rescale alike: by upper halves only if that suffices for all.
    pub fn align(epilogues: Vec<&mut Self>) {
        if epilogues.iter().any(|epilogue| !epilogue.by_half()) {
            epilogues.into_iter().for_each(|epilogue| epilogue.by_half = None);
        }
    }

    /// Returns whether sums and residuals are rescaled by upper halves of products.
    pub fn by_half(&self) -> bool {
        self.by_half.is_some()
    }

    /// Returns whether outputs are looked up in a table.
    pub fn has_table(&self) -> bool {
        matches!(self.integers.epilogue, EpilogueKind::Table { .. })
    }

    /// Returns the constants of its shader.
    pub fn constants(&self) -> [(&'static str, u32); 4] {
        [
            ("RESIDUAL", self.integers.residual.is_some().into()),
            ("BY_HALF", self.by_half().into()),
            ("HAS_TABLE", self.has_table().into()),
            ("FLOAT", matches!(self.integers.epilogue, EpilogueKind::Float(_)).into()),
        ]
    }

    /// Returns the parameters of its shader. `x` is the quantisation of the input.
    pub fn params(&self, x: Affine) -> [(&'static str, u32); 5] {
        let [zero, least, most] = self.range();
        [
            ("padding", word([x.zero; 4])),
            ("zero", zero),
            ("least", least),
            ("most", most),
            ("residual_zero", self.residual_zero()),
        ]
    }

    /// Returns the zero point of the outputs, or the index of the table's entry for 0, and the bounds of rescaled sums.
    pub fn range(&self) -> [u32; 3] {
        let range = match &self.integers.epilogue {
            EpilogueKind::Clamped { zero, limits: [least, most], .. } => {
                [zero, least, most].map(|q| i32::from(*q))
            }
            EpilogueKind::Table { table, .. } => [table.zero, 0, table.entries.len() as i32 - 1],
            EpilogueKind::Float(_) => [0; 3],
        };
        range.map(signed)
    }

    /// Returns the zero point of the residual; 0 without one.
    pub fn residual_zero(&self) -> u32 {
        signed(self.integers.residual.as_ref().map_or(0, |residual| residual.zero))
    }

    /// Returns everything that a kernel binds besides maps, with these weights.
    pub fn words(&self, weights: Vec<u32>) -> Vec<(&'static str, Vec<u32>)> {
        let mut all = vec![("weight", weights), ("output_params", self.output_params())];
        if self.has_table() {
            all.push(("table", self.table()));
        }
        all
    }

    /// Packs the table's entries, four per word; empty without a table.
    pub fn table(&self) -> Vec<u32> {
        match &self.integers.epilogue {
            EpilogueKind::Table { table, .. } => {
                table.entries.as_chunks().0.iter().map(|b| word(*b)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Packs `[outputs / 4][4][4]`: biases, multipliers or factors, multipliers of residuals, shifts.
    pub fn output_params(&self) -> Vec<u32> {
        let Integers { bias, residual, epilogue, .. } = &self.integers;
        let number = |at: usize| {
            let (o, kind) = (at / 16 * 4 + at % 4, at / 4 % 4);
            let Some(bias) = bias.get(o) else { return if kind == 3 { 0x0100_0100 } else { 0 } };
            match (kind, epilogue) {
                (0, _) => signed(*bias),
                (1, EpilogueKind::Float(factors)) => factors[o].to_bits(),
                (1, EpilogueKind::Clamped { rescales, .. } | EpilogueKind::Table { rescales, .. }) => {
                    signed(rescales[o].multiplier)
                }
                (2, _) => residual.as_ref().map_or(0, |residual| signed(residual.rescales[o].multiplier)),
                _ => self.shifts(o),
            }
        };
        (0..bias.len().next_multiple_of(4) * 4).map(number).collect()
    }

    /// Packs an output's shifts, one byte each.
    fn shifts(&self, o: usize) -> u32 {
        let Integers { residual, epilogue, .. } = &self.integers;
        let [[left, right], [residual_left, residual_right]] = match &self.by_half {
            Some(shifts) => shifts[o],
            None => {
                let sums = match epilogue {
                    EpilogueKind::Clamped { rescales, .. } | EpilogueKind::Table { rescales, .. } => {
                        rescales[o].shift
                    }
                    EpilogueKind::Float(_) => 1,
                };
                [[0, sums], [0, residual.as_ref().map_or(1, |residual| residual.rescales[o].shift)]]
            }
        };
        left | right << 8 | residual_left << 16 | residual_right << 24
    }
}

/// Returns the parameters of a kernel that rescales integers.
pub(super) fn rescale(factor: f64, to: Affine) -> [(&'static str, u32); 3] {
    let Rescale { multiplier, shift } = Rescale::new(factor);
    [("multiplier", signed(multiplier)), ("shift", shift), ("zero", signed(to.zero))]
}

/// Quantises a tensor: returns its integers' offsets from the zero point, and the scale.
fn offsets(tensor: &Tensor, map: Affine) -> (Vec<i32>, f64) {
    let offset = |value: &f32| i32::from(map.quantise(*value)) - i32::from(map.zero);
    (tensor.data().iter().map(offset).collect(), f64::from(map.scale))
}

/// Rescales an offset from a zero point to the quantisation of `map`, and returns the dequantised result.
fn requantised(rescale: Rescale, offset: i32, map: Affine) -> f32 {
    let q = i64::from(rescale.apply(offset)) + i64::from(map.zero);
    map.value(q.clamp(-128, 127) as i8)
}

/// Computes any int8 layer in plain loops over NCHW; of a concatenation only the part `x`.
///
/// # Panics
/// If the layer is not an int8 layer.
pub fn reference(layer: &Layer, maps: Maps) -> Tensor {
    let quantisation = layer.int8.as_ref().expect("it is an int8 layer");
    let (x, to) = (quantisation.inputs[0], quantisation.output);
    let y = <[usize; 4]>::from(layer.y);
    let (input, scale) = offsets(maps.x, x);
    let pixels = layer.x().h * layer.x().w;
    match (layer.op, to) {
        (Op::Conv(conv), _) => convolution(conv, layer, quantisation, maps),
        (Op::GlobalPool, Some(to)) => {
            let rescale = Rescale::new(scale / (pixels as f64 * f64::from(to.scale)));
            Tensor::from_fn(y, |at| requantised(rescale, input[at * pixels..][..pixels].iter().sum(), to))
        }
        (Op::Scale, Some(to)) => {
            let (gates, scale_g) = offsets(maps.gate.expect("a gate"), quantisation.inputs[1]);
            let rescale = Rescale::new(scale * scale_g / f64::from(to.scale));
            Tensor::from_fn(y, |at| requantised(rescale, input[at] * gates[at / pixels], to))
        }
        (Op::MaxPool(pool), Some(to)) => {
            let rescale = Rescale::new(scale / f64::from(to.scale));
            Tensor::from_fn(y, |at| requantised(rescale, largest(*pool, layer, &input, at), to))
        }
        (_, Some(to)) => {
            let rescale = Rescale::new(scale / f64::from(to.scale));
            Tensor::from_fn(maps.x.dims(), |at| requantised(rescale, input[at], to))
        }
        (op, None) => unreachable!("{op:?} has no quantised output"),
    }
}

fn largest(pool: MaxPool, layer: &Layer, input: &[i32], at: usize) -> i32 {
    let (x, y) = (layer.x(), layer.y);
    let window = pool.window(x.h, x.w).expect("shapes were inferred");
    let (column, row, plane) = (at % y.w, at / y.w % y.h, at / (y.w * y.h));
    let taps = (0..pool.kernel).flat_map(|ky| (0..pool.kernel).map(move |kx| [ky, kx]));
    let values = taps.filter_map(|[ky, kx]| {
        let row = (row * pool.stride + ky).checked_sub(window.top).filter(|at| *at < x.h)?;
        let column = (column * pool.stride + kx).checked_sub(window.left).filter(|at| *at < x.w)?;
        Some(input[(plane * x.h + row) * x.w + column])
    });
    values.max().expect("a window meets its map")
}

fn convolution(conv: &Conv, layer: &Layer, quantisation: &Int8, maps: Maps) -> Tensor {
    let (x, y) = (layer.x(), layer.y);
    let (input, scale) = offsets(maps.x, quantisation.inputs[0]);
    let residual = maps.residual.map(|residual| offsets(residual, quantisation.inputs[1]));
    let weights = quantisation.weight_scales.as_deref().expect("a convolution's weights have scales");
    let window = layer.window(conv);
    let (inputs, kernel) = (conv.weight.dims()[1], conv.kernel());
    let tabulated = quantisation.output.filter(|_| conv.activation.needs_table());
    let table = tabulated.map(|map| ActivationTable::new(conv.activation, map));
    Tensor::from_fn(<[usize; 4]>::from(y), |at| {
        let (column, row, o, n) = (at % y.w, at / y.w % y.h, at / (y.w * y.h) % y.c, at / (y.w * y.h * y.c));
        let weight_scale = f64::from(weights[o]);
        let bias = conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[o]));
        let most = f64::from(1 << 30);
        let mut sum = (bias / (scale * weight_scale)).round_ties_even().clamp(-most, most) as i32;
        for i in 0..inputs {
            let c = if conv.groups == 1 { i } else { o };
            for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
                let row = (row * conv.stride + ky * conv.dilation).checked_sub(window.top);
                let column = (column * conv.stride + kx * conv.dilation).checked_sub(window.left);
                let (Some(row), Some(column)) = (row, column) else { continue };
                if row < x.h && column < x.w {
                    let weight = conv.weight.data()[((o * inputs + i) * kernel + ky) * kernel + kx];
                    let weight = (weight / weights[o]).round().clamp(-128.0, 127.0) as i32;
                    let pixel = input[((n * x.c + c) * x.h + row) * x.w + column];
                    sum = sum.wrapping_add(weight * pixel);
                }
            }
        }
        if let Some((residual, scale_r)) = &residual {
            let most = 1 << 29;
            let added = Rescale::new(scale_r / (scale * weight_scale)).apply(residual[at]);
            sum = sum.wrapping_add(added.clamp(-most, most));
        }
        match (quantisation.output, &table) {
            (Some(to), Some(table)) => {
                to.value(table.at(Rescale::new(scale * weight_scale / f64::from(table.scale)).apply(sum)))
            }
            (Some(to), None) => {
                let [least, most] = to.limits(conv.activation).map(i64::from);
                let rescaled = i64::from(Rescale::new(scale * weight_scale / f64::from(to.scale)).apply(sum));
                to.value((rescaled + i64::from(to.zero)).clamp(least, most) as i8)
            }
            (None, _) => sum as f32 * (quantisation.inputs[0].scale * weights[o]),
        }
    })
}
