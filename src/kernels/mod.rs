//! The kernels: one file here for each file in `shaders/`, saying what it computes, its
//! constants, bindings and workgroup count, with a plain-loop `reference` beside it.
//!
//! A kernel is a WGSL text; a [`Launch`] is that text specialised and one dispatch of it.
//! Constants decide what the compiler should know (window, tile, activation) and so which
//! pipeline it is; sizes travel as parameters, so that layers that differ in size alone
//! share a pipeline and a network compiles some ten of them.
//!
//! On the device a feature map is NHWC with channels padded to a multiple of four and held
//! as `vec4`: a "quad" is four channels of a pixel. What the padding holds is arbitrary but
//! finite, and weights for it are zero.

pub mod argmax;
pub mod block;
pub mod boxes;
pub mod copy;
pub mod dense;
pub mod depthwise;
pub mod gate;
pub mod mask;
pub mod max_pool;
pub mod multiply_add;
pub mod paint;
pub mod pointwise;
pub mod pointwise_matrix;
pub mod pointwise_pool;
pub mod pointwise_split;
pub mod pointwise_subgroup;
pub mod pool;
pub mod rank;
pub mod reduce;
pub mod resize;
pub mod sample;
pub mod scale;
pub mod select;
pub mod softmax;
pub mod suppress;
#[cfg(feature = "translate")]
pub mod translate;

use crate::{Shape, Tensor, graph::Conv, tensor::Element};

/// A kernel's text and the names of what it binds, in group 0: `params` at 0, then `reads`
/// in order, then `writes`, then `textures`.
#[derive(Debug)]
pub struct Shader {
    /// The file's stem.
    pub name: &'static str,
    /// The file.
    pub source: &'static str,
    /// What it reads besides its parameters.
    pub reads: &'static [&'static str],
    /// What it writes.
    pub writes: &'static [&'static str],
    /// The textures that it reads or writes.
    pub textures: &'static [(&'static str, Access)],
    /// Which of all these are 32 bits wide whatever the maps and weights are: biases, sums on their
    /// way from one kernel to the next, and answers that f16 is too coarse for.
    pub sums: &'static [&'static str],
    /// What a device must have for it.
    pub tier: Tier,
}

/// What a kernel does with a texture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It loads colours of any format.
    Read,
    /// It stores colours of `rgba8unorm`.
    Written,
}

/// What a device must have beyond WebGPU's baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Nothing.
    Baseline,
    /// Threads that hand values to their neighbours.
    Subgroups,
    /// Units that multiply small matrices, and subgroups.
    Matrices,
}

impl Shader {
    /// What the binding `name` holds where maps and weights are `element`.
    pub fn stored(&self, name: &str, element: Element) -> Element {
        if self.sums.contains(&name) { Element::F32 } else { element }
    }
}

/// Every shader, for tests that must not miss one.
pub const SHADERS: [&Shader; 25] = [
    &argmax::SHADER,
    &block::SHADER,
    &boxes::SHADER,
    &copy::SHADER,
    &dense::SHADER,
    &depthwise::SHADER,
    &gate::SHADER,
    &mask::SHADER,
    &max_pool::SHADER,
    &multiply_add::SHADER,
    &paint::SHADER,
    &pointwise::SHADER,
    &pointwise_matrix::SHADER,
    &pointwise_pool::SHADER,
    &pointwise_split::SHADER,
    &pointwise_subgroup::SHADER,
    &pool::SHADER,
    &rank::SHADER,
    &reduce::SHADER,
    &resize::SHADER,
    &sample::SHADER,
    &scale::SHADER,
    &select::SHADER,
    &softmax::SHADER,
    &suppress::SHADER,
];

/// What kernels share: what each has to call, and the text that then follows it.
const SHARED: [(&str, &str); 3] = [
    ("activate(", include_str!("../../shaders/activation.wgsl")),
    ("place(", include_str!("../../shaders/placement.wgsl")),
    ("taps(", include_str!("../../shaders/taps.wgsl")),
];

/// Every file in `shaders/`, whose text decides what kernels compute.
pub fn texts() -> impl Iterator<Item = &'static str> {
    SHADERS.iter().map(|shader| shader.source).chain(SHARED.iter().map(|(_, text)| *text))
}

/// The parameters that `placement.wgsl` reads, of a map that is no part of a larger one.
const WHOLE: [(&str, u32); 4] =
    [("part_pixels", 1), ("part_first", 0), ("whole_pixel", 0), ("whole_picture", 0)];

/// A map's place in a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its shape.
    pub part: Shape,
    /// The larger one's shape.
    pub whole: Shape,
    /// Quads before its first, in each picture of the larger one.
    pub first: usize,
}

/// What a convolution kernel reads.
const CONV_READS: &[&str] = &["x", "weight", "bias", "residual"];

/// Threads in a workgroup: two warps of NVIDIA's, one wave of AMD's, a quarter of what every
/// adapter allows.
pub const LANES: u32 = 64;

/// Most workgroups that every adapter takes in one dimension.
const WORKGROUPS_PER_DIMENSION: u32 = 65_535;

/// The fewest bytes that may be bound as a buffer: the largest element of one, a `mat4x4<f32>`.
/// A kernel that does not need one of its inputs is given another in its place, of any type.
pub const LEAST_BINDING: u64 = 64;

/// One dispatch: a shader, specialised, and how much of it to run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The kernel.
    pub shader: &'static Shader,
    /// The constants it is compiled with.
    pub constants: Vec<(&'static str, u32)>,
    /// Its uniform parameters, in the order of its `Params`.
    pub params: Vec<(&'static str, u32)>,
    /// What sums are made in.
    pub arithmetic: Element,
    /// Workgroups in x, y and z.
    pub workgroups: [u32; 3],
    /// The shape of its tile in words, for `inspect`.
    pub tile: String,
}

impl Launch {
    /// The text to compile for maps and weights of `element`: types, constants, the shader, and what
    /// it calls.
    /// Launches with one text share a pipeline.
    pub fn wgsl(&self, element: Element) -> String {
        let mut text = String::new();
        if element == Element::F16 {
            text += "enable f16;\n";
        }
        if self.shader.tier == Tier::Matrices {
            text += "enable wgpu_cooperative_matrix;\n";
        }
        for (prefix, element) in [("", element), ("Sum", self.arithmetic)] {
            text +=
                &format!("alias {prefix}Quad = vec4<{element}>;\nalias {prefix}Block = mat4x4<{element}>;\n");
        }
        let side = self.constants.iter().find(|(name, _)| *name == "SIDE");
        if let (Tier::Matrices, Some((_, side))) = (self.shader.tier, side) {
            for (name, element, role) in [
                ("LeftMatrix", element, 'A'),
                ("RightMatrix", element, 'B'),
                ("SumMatrix", Element::F32, 'C'),
            ] {
                text += &format!("alias {name} = coop_mat{side}x{side}<{element}, {role}>;\n");
            }
        }
        for (name, value) in &self.constants {
            text += &format!("const {name}: u32 = {value}u;\n");
        }
        text += self.shader.source;
        for (call, shared) in SHARED {
            if self.shader.source.contains(call) {
                text += shared;
            }
        }
        text
    }

    /// It, with what `placement.wgsl` wants, which its shader calls.
    fn placeable(mut self) -> Self {
        self.constants.push(("PLACED", 0));
        self.params.extend(WHOLE);
        self
    }

    /// Whether it could leave what it makes in a larger map.
    pub fn can_be_placed(&self) -> bool {
        self.constants.iter().any(|(name, _)| *name == "PLACED")
    }

    /// It, leaving what it makes in a larger map.
    pub fn placed(mut self, place: Place) -> Self {
        let Place { part, whole, first } = place;
        let quads = whole.quads();
        let values = [part.h * part.w, first, quads, whole.h * whole.w * quads].map(|value| value as u32);
        for (name, value) in &mut self.constants {
            if *name == "PLACED" {
                *value = 1;
            }
        }
        // They come last.
        for ((_, value), wanted) in self.params.iter_mut().rev().zip(values.into_iter().rev()) {
            *value = wanted;
        }
        self
    }

    /// The bytes of its uniform parameters.
    pub fn params_bytes(&self) -> Vec<u8> {
        self.params.iter().flat_map(|(_, value)| value.to_le_bytes()).collect()
    }
}

/// `count` workgroups, or a few more, within the limit of each dimension; shaders count
/// them row by row and do nothing beyond their last.
fn spread(count: usize) -> [u32; 3] {
    let count = count as u32;
    let rows = count.div_ceil(WORKGROUPS_PER_DIMENSION).max(1);
    [count.div_ceil(rows), rows, 1]
}

/// Threads with a tile each, `across` of them along the outputs and `down` along the pixels, laid
/// into workgroups such that the fewest have nothing to do.
#[derive(Debug, Clone, Copy)]
struct Grid {
    /// Threads of a workgroup along the outputs, which share each load of x.
    lanes_o: u32,
    /// And along the pixels, which share weights.
    lanes_p: u32,
    workgroups: usize,
}

impl Grid {
    /// `sharing` threads work on each tile together.
    fn new(across: usize, down: usize, sharing: u32) -> Self {
        let grids = [8, 4, 2, 1].map(|lanes_o| {
            let lanes_p = LANES / sharing / lanes_o;
            let workgroups = across.div_ceil(lanes_o as usize) * down.div_ceil(lanes_p as usize);
            Self { lanes_o, lanes_p, workgroups }
        });
        // The first of equals shares the most loads.
        grids.into_iter().min_by_key(|grid| grid.workgroups).unwrap_or(grids[0])
    }

    /// Threads started.
    fn threads(self) -> usize {
        self.workgroups * LANES as usize
    }
}

/// A convolution's weights for kernels that take them as `mat4x4` blocks: `[k, k, inputs / 4,
/// outputs / 4]` blocks of four columns, a column an input, padded with zeros.
fn blocks(weight: &Tensor) -> Vec<f32> {
    let &[outputs, inputs, kh, kw] = weight.dims() else {
        unreachable!("a convolution's weight has four dimensions")
    };
    let (out_quads, in_quads) = (outputs.div_ceil(4), inputs.div_ceil(4));
    let mut packed = vec![0.0; kh * kw * in_quads * out_quads * 16];
    for (o, of_output) in weight.data().chunks_exact((inputs * kh * kw).max(1)).enumerate() {
        for (i, of_input) in of_output.chunks_exact((kh * kw).max(1)).enumerate() {
            for (tap, &value) in of_input.iter().enumerate() {
                let block = (tap * in_quads + i / 4) * out_quads + o / 4;
                packed[block * 16 + i % 4 * 4 + o % 4] = value;
            }
        }
    }
    packed
}

/// A convolution's biases padded to whole quads; zeros if it has none.
pub fn pack_bias(conv: &Conv) -> Vec<f32> {
    let mut packed = vec![0.0; conv.outputs().next_multiple_of(4)];
    if let Some(bias) = &conv.bias {
        packed[..conv.outputs()].copy_from_slice(bias.data());
    }
    packed
}

/// What every convolution's reference does with its sums: bias, residual, activation.
/// `sum` is asked for `[picture, output channel, row, column]`.
fn finish(conv: &Conv, shape: Shape, residual: Option<&Tensor>, sum: impl Fn([usize; 4]) -> f64) -> Tensor {
    Tensor::from_fn([shape.n, shape.c, shape.h, shape.w], |at| {
        let column = at % shape.w;
        let row = at / shape.w % shape.h;
        let channel = at / (shape.w * shape.h) % shape.c;
        let picture = at / (shape.w * shape.h * shape.c);
        let bias = conv.bias.as_ref().map_or(0.0, |b| f64::from(b.data()[channel]));
        let residual = residual.map_or(0.0, |r| f64::from(r.data()[at]));
        conv.activation.apply((sum([picture, channel, row, column]) + bias + residual) as f32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_spread_over_two_dimensions_cover_the_count() {
        for count in [1, 65_535, 65_536, 100_352, 10_000_000] {
            let [x, y, z] = spread(count);
            assert!(x <= WORKGROUPS_PER_DIMENSION && y <= WORKGROUPS_PER_DIMENSION && z == 1);
            assert!((x * y) as usize >= count && ((x * y) as usize) < count + y as usize);
        }
    }

    #[test]
    fn blocks_hold_each_weight_once() {
        let weight = Tensor::from_fn([5, 3, 1, 1], |i| i as f32 + 1.0);
        let packed = blocks(&weight);
        assert_eq!(packed.len(), 2 * 16);
        // Output 4, input 2: second block, third column, first row.
        assert_eq!(packed[16 + 2 * 4], weight.data()[4 * 3 + 2]);
        assert_eq!(packed.iter().filter(|&&v| v != 0.0).count(), 15);
    }
}
