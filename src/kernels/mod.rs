//! The kernels: one file here for each file in `shaders/`, saying all there is to say of it: what it computes,
//! which layers and machines it admits, its tiles, constants, launch, packing and cost, with a plain-loop
//! `reference` beside it.
//!
//! A kernel is a WGSL text; a [`Launch`] is that text specialised and one dispatch of it.
//! Constants decide what the compiler should know (window, tile, activation) and so which
//! pipeline it is; sizes travel as parameters, so that layers that differ in size alone
//! share a pipeline and a network compiles some ten of them.
//!
//! On the device a feature map is NHWC with channels padded to a multiple of four and held
//! as `vec4`: a "quad" is four channels of a pixel. What the padding holds is arbitrary but
//! finite, and weights for it are zero. In 8 bits a quad is a word of four bytes; see [`int8`].

mod choice;
mod grid;
mod launch;
mod layer;
mod machine;
mod pack;
mod rates;

pub mod argmax;
pub mod block;
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
mod window;

pub use choice::Kernel;
pub use grid::LANES;
pub use launch::{Access, LEAST_BINDING, Launch, Place, Shader, Tier};
pub use layer::{Layer, LayerKernel, Maps, Packing, Tile};
pub use machine::{Crowd, Effort, Machine, Subgroup, Units, Work};
pub use pack::{pack_bias, pack_bytes};
pub use rates::{Card, Rates};

use grid::{Grid, spread};
use launch::{ALARM, BYTES, SHARED};
use layer::finish;
use pack::blocks;

/// What makes single layers, in the order in which equals are preferred: what planner, tuner and trust check
/// choose from.
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

/// What makes several layers at once, begins with pictures, shows answers, or probes a device.
static OTHERS: [&Shader; 16] = [
    &block::SHADER,
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

/// Every shader.
pub fn shaders() -> impl Iterator<Item = &'static Shader> {
    LAYERS.iter().map(|kernel| kernel.shader()).chain(OTHERS)
}

/// Every file in `shaders/`, whose text decides what kernels compute.
pub fn texts() -> impl Iterator<Item = &'static str> {
    shaders().map(|shader| shader.source).chain(SHARED.iter().map(|(_, text)| *text)).chain([BYTES])
}

/// What a convolution kernel reads.
const CONV_READS: &[&str] = &["x", "weight", "bias", "residual"];
