//! Shared by the kernels that compute pointwise and dense layers as products of pixels by channels:
//! `shaders/window.wgsl`. Implicit GEMM: the inner dimension is (tap, input channel). A pointwise layer's window
//! has one tap.

use super::{
    Layer, Maps, dense,
    pointwise::{self, Extras},
};
use crate::{
    Shape, Tensor,
    graph::{Conv, ConvKind, Window},
};

/// Returns the convolution of a layer, if these kernels compute such layers.
pub fn conv<'a>(layer: &Layer<'a>) -> Option<&'a Conv> {
    layer.conv(ConvKind::Pointwise).or_else(|| layer.conv(ConvKind::Dense))
}

/// Returns the convolution of a layer that these kernels have tiles for.
pub fn expect_conv<'a>(layer: &Layer<'a>) -> &'a Conv {
    conv(layer).expect("a kernel is only launched for layers that it has tiles for")
}

/// Returns the number of taps of a convolution's window.
pub fn taps(conv: &Conv) -> usize {
    conv.kernel() * conv.kernel()
}

/// Returns the constants of a launch, except those of its tile.
pub fn constants(conv: &Conv, extras: Extras) -> [(&'static str, u32); 6] {
    [
        ("KERNEL", conv.kernel() as u32),
        ("STRIDE", conv.stride as u32),
        ("DILATION", conv.dilation as u32),
        ("RESIDUAL", extras.residual.into()),
        ("GATED", extras.gate.into()),
        ("ACTIVATION", conv.activation.code()),
    ]
}

/// Returns the parameters of a launch.
pub fn params(x: Shape, y: Shape, window: Window) -> Vec<(&'static str, u32)> {
    let mut params = pointwise::params(x, y);
    params.extend([
        ("height", x.h as u32),
        ("width", x.w as u32),
        ("out_width", y.w as u32),
        ("top", window.top as u32),
        ("left", window.left as u32),
    ]);
    params
}

/// Computes the reference in plain loops over NCHW.
pub fn reference(layer: &Layer, maps: Maps) -> Tensor {
    match layer.conv(ConvKind::Dense) {
        Some(conv) => dense::reference(conv, maps.x, layer.y, layer.window(conv), maps.residual),
        None => pointwise::gated_reference(layer, maps),
    }
}
