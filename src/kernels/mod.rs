//! The kernels. Each shader in `shaders/` has a file here that describes it completely: the layers and
//! machines that it supports, its tiles, constants, launch, packing and cost, and a `reference` in plain
//! loops.
//!
//! A kernel is a WGSL text; a [`Launch`] is that text specialised, and one dispatch of it. Values that the
//! compiler should know (window, tile, activation) are constants, so that they determine a launch's pipeline.
//! Sizes are uniform parameters, so that layers that differ only in size share a pipeline; a network compiles
//! about ten pipelines.
//!
//! On the device a feature map is NHWC with channels padded to a multiple of four, stored as `vec4`: a "quad"
//! is four channels of a pixel. The padding holds arbitrary finite values, and its weights are zero. In an
//! int8 map a quad is a word of four bytes; see [`int8`].
//!
//! `ARCHITECTURE.md` has guides for adding a kernel and a tier.

mod choice;
mod grid;
mod launch;
mod layer;
mod machine;
mod pack;
mod rates;

pub mod argmax;
pub mod block;
pub mod block_int8;
pub mod boxes;
pub mod broadcast;
pub mod copy;
pub mod dense;
pub mod depthwise;
pub mod depthwise_int8;
pub mod dequantise;
pub mod exchange;
pub mod gate;
pub mod int8;
pub mod join_int8;
pub mod mask;
pub mod matrix;
pub mod max_pool;
pub mod max_pool_int8;
pub mod multiply_add;
pub mod paint;
pub mod pointwise;
pub mod pointwise_pool;
pub mod pointwise_split;
pub mod pointwise_subgroup;
pub mod pool;
pub mod pool_int8;
pub mod product_int8;
pub mod quantise;
pub mod rank;
pub mod reduce;
pub mod resize;
pub mod sample;
pub mod scale;
pub mod scale_int8;
pub mod select;
pub mod softmax;
pub mod staged;
pub mod suppress;
#[cfg(feature = "translate")]
pub mod translate;
mod unroll;
mod window;

pub use choice::Kernel;
pub use grid::WORKGROUP_SIZE;
pub use launch::{Access, LEAST_BINDING, Launch, OutputRegion, Shader, Tier};
pub use layer::{Layer, LayerKernel, Maps, Packing, Tile};
pub use machine::{Effort, Footprint, Machine, MatrixUnits, Peaks, Subgroup, Work};
pub use pack::{pack_bias, pack_int8};
pub use rates::{Card, Rates};

use grid::{TileGrid, spread};
use launch::{ALARM, SHARED, WEIGHTS_INT8_WGSL};
use layer::finish;
use pack::blocks;

/// The kernels for single layers: planner and tuner choose from them, and the trust check of an adapter
/// compares each with its reference. Of candidates with equal predicted times, the planner chooses the first
/// in this order.
pub static LAYERS: [&dyn LayerKernel; 20] = [
    &dense::Dense,
    &depthwise::Depthwise,
    &pointwise::Pointwise,
    &pointwise_subgroup::PointwiseSubgroup,
    &matrix::Matrix,
    &pointwise_split::PointwiseSplit,
    &staged::Staged,
    &pool::Pool,
    &max_pool::MaxPooling,
    &scale::Scaling,
    &resize::Resizing,
    &argmax::Argmax,
    &softmax::Softmax,
    &boxes::Boxes,
    &select::Selecting,
    &product_int8::ProductInt8,
    &depthwise_int8::DepthwiseInt8,
    &pool_int8::PoolInt8,
    &max_pool_int8::MaxPoolInt8,
    &scale_int8::ScaleInt8,
];

/// The shaders that compute several layers in one kernel, read pictures, draw results, or probe a device.
static OTHERS: [&Shader; 17] = [
    &block::SHADER,
    &block_int8::SHADER,
    &broadcast::SHADER,
    &copy::SHADER,
    &dequantise::SHADER,
    &exchange::SHADER,
    &gate::SHADER,
    &join_int8::SHADER,
    &mask::SHADER,
    &multiply_add::SHADER,
    &paint::SHADER,
    &pointwise_pool::SHADER,
    &quantise::SHADER,
    &rank::SHADER,
    &reduce::SHADER,
    &sample::SHADER,
    &suppress::SHADER,
];

/// Returns every shader.
pub fn shaders() -> impl Iterator<Item = &'static Shader> {
    LAYERS.iter().map(|kernel| kernel.shader()).chain(OTHERS)
}

/// Returns the text of every file in `shaders/`. Together they determine what kernels compute.
pub fn texts() -> impl Iterator<Item = &'static str> {
    shaders()
        .map(|shader| shader.source)
        .chain(SHARED.iter().map(|(_, text)| *text))
        .chain([WEIGHTS_INT8_WGSL])
}

/// The bindings that a convolution kernel reads.
const CONV_READS: &[&str] = &["x", "weight", "bias", "residual"];
