//! Bilinear interpolation: `shaders/resize.wgsl`.

use super::{Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE, spread};
use crate::{Shape, Tensor, graph::Op, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "resize",
    source: include_str!("../../shaders/resize.wgsl"),
    reads: &["x"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &[],
    tier: Tier::Baseline,
};

/// The kernel as a [`LayerKernel`].
pub struct Resizing;

impl LayerKernel for Resizing {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if matches!(layer.op, Op::Resize(_)) { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, _: &Layer, _: &Machine, _: Tile) -> Effort {
        Effort::of(2.0, 5.0)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        launch(layer.x(), layer.y)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        reference(maps.x, layer.y)
    }

    fn purpose(&self, layer: &Layer) -> Option<String> {
        let (x, y) = (layer.x(), layer.y);
        Some(format!("from {}x{} to {}x{}", x.h, x.w, y.h, y.w))
    }

    fn refusal(&self, layer: &Layer) -> Option<String> {
        position_overflow(layer.x(), layer.y)
    }
}

/// Returns the launch that computes `y` from `x`.
pub fn launch(x: Shape, y: Shape) -> Launch {
    let invocations = y.pixels() * y.quads();
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("out_height", y.h as u32),
            ("out_width", y.w as u32),
            ("outputs", y.quads() as u32),
            ("invocations", invocations as u32),
        ],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 px x 4 ch per invocation".into(),
    }
    .placeable()
}

/// Returns the reason why the kernels cannot scale `x` to `y`, if they cannot.
pub(super) fn position_overflow(x: Shape, y: Shape) -> Option<String> {
    let fit = positions_fit(x.h, y.h) && positions_fit(x.w, y.w);
    (!fit).then(|| format!("scaling {}x{} to {}x{} overflows 32-bit positions", x.h, x.w, y.h, y.w))
}

/// Returns whether the kernels' 32-bit integers suffice to resize an axis of `size` pixels to `outputs`
/// pixels.
pub fn positions_fit(size: usize, outputs: usize) -> bool {
    let most = |n: usize| n.checked_mul(2 * size.max(1)).is_some_and(|n| u32::try_from(n).is_ok());
    most(outputs) && u32::try_from(2 * outputs).is_ok()
}

/// Returns the two input pixels around output pixel `at`, and the second one's weight. `size` and `outputs` are
/// the lengths of the axes.
pub fn taps(at: usize, size: usize, outputs: usize) -> (usize, usize, f64) {
    let numerator = ((2 * at + 1) * size).saturating_sub(outputs);
    let first = numerator / (2 * outputs);
    let weight = (numerator % (2 * outputs)) as f64 / (2 * outputs) as f64;
    (first, (first + 1).min(size - 1), weight)
}

/// Computes the reference in plain loops over NCHW.
pub fn reference(x: &Tensor, y: Shape) -> Tensor {
    Tensor::from_fn([y.n, y.c, y.h, y.w], |at| {
        value(x, at / (y.w * y.h), [at / y.w % y.h, at % y.w], [y.h, y.w]) as f32
    })
}

/// Interpolates a channel's `map` at a pixel of a map of `rows` x `columns`.
pub(super) fn value(x: &Tensor, map: usize, [row, column]: [usize; 2], [rows, columns]: [usize; 2]) -> f64 {
    let &[_, _, height, width] = x.dims() else { unreachable!("a feature map has four dimensions") };
    let (top, bottom, lower) = taps(row, height, rows);
    let (left, right, further) = taps(column, width, columns);
    let pixel = |row: usize, column: usize| f64::from(x.data()[(map * height + row) * width + column]);
    let across = |row| pixel(row, left) + further * (pixel(row, right) - pixel(row, left));
    across(top) + lower * (across(bottom) - across(top))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results are those of PyTorch's `interpolate(mode="bilinear")`.
    #[test]
    fn interpolation_matches_pytorch() {
        let x = Tensor::from_fn([1, 1, 1, 3], |i| [0.0, 6.0, 18.0][i]);
        let resized = |w| reference(&x, Shape::new(1, 1, 1, w)).into_data();
        assert_eq!(resized(3), [0.0, 6.0, 18.0]);
        assert_eq!(resized(6), [0.0, 1.5, 4.5, 9.0, 15.0, 18.0]);
        assert_eq!(resized(2), [1.5, 15.0]);
        assert_eq!(resized(1), [6.0]);
        let one = Tensor::from_fn([1, 1, 1, 1], |_| 0.1);
        assert_eq!(reference(&one, Shape::new(1, 1, 3, 5)).into_data(), [0.1; 15]);
    }
}
