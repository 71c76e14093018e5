//! A kernel's text, and one dispatch of it.

use std::borrow::Cow;

use super::{grid::WORKGROUP_SIZE, machine::Footprint, unroll::unrolled};
use crate::{Shape, tensor::Element};

/// A kernel's text and the names of its bindings in group 0: `params` at 0, then `reads` in order, then
/// `writes`, then the overflow flag, if it checks for overflow, then `textures`.
#[derive(Debug)]
pub struct Shader {
    /// The file's stem.
    pub name: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// The buffers that it reads, besides its parameters.
    pub reads: &'static [&'static str],
    /// The buffers that it writes.
    pub writes: &'static [&'static str],
    /// The textures that it reads or writes.
    pub textures: &'static [(&'static str, Access)],
    /// The buffers whose elements are always 32 bits wide, also if maps and weights are f16: biases, partial
    /// sums between two kernels, results for which f16 is too coarse, and words of integers.
    pub always_32_bit: &'static [&'static str],
    /// The features that a device must have for it.
    pub tier: Tier,
}

/// A kernel's access to a texture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Loads colours of any format.
    Read,
    /// Stores colours as `rgba8unorm`.
    Written,
}

/// The features of a device beyond WebGPU's baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Nothing.
    Baseline,
    /// Subgroup operations.
    Subgroups,
    /// Matrix units, and subgroups.
    Matrices,
}

impl Shader {
    /// Returns the element type of the binding `name` if maps and weights are `element`.
    pub fn stored(&self, name: &str, element: Element) -> Element {
        if self.always_32_bit.contains(&name) { Element::F32 } else { element }
    }

    /// Returns the binding of the overflow flag, the first after `writes`; none if it computes nothing that
    /// could overflow.
    pub fn flag(&self) -> Option<u32> {
        let checks = ["activate(", "finish(", "complete("].iter().any(|call| self.source.contains(call));
        checks.then_some((1 + self.reads.len() + self.writes.len()) as u32)
    }

    /// Returns whether the weights that it binds as `name` may be bytes, four per word. The binding of the
    /// biases then also holds the scale of each output's weights, after all biases.
    pub fn accepts_int8_weights(&self, name: &str) -> bool {
        ["Quad", "Block"].iter().any(|of| self.source.contains(&format!("> {name}: array<Weight{of}>")))
    }

    /// Returns the number of storage buffers that it binds.
    pub fn buffers(&self) -> usize {
        self.reads.len() + self.writes.len() + usize::from(self.flag().is_some())
    }
}

/// The parameter that `activation.wgsl` reads: the overflow flag's value if this launch is the first to
/// overflow.
pub(super) const ALARM: (&str, u32) = ("alarm", 1);

/// A marker among a launch's constants: weights are int8. It is no constant of the WGSL text, but changes
/// types in it.
const INT8_WEIGHTS: &str = "int8 weights";

/// The prefix of the functions that load weights, and the file with these functions for int8 weights.
const WEIGHTS: &str = "weights_";
pub(super) const WEIGHTS_INT8_WGSL: &str = include_str!("../../shaders/weights_int8.wgsl");

/// The shared files by call: a file is appended to every text that contains its call. Files may call those
/// below them in this list.
pub(super) const SHARED: [(&str, &str); 13] = [
    (WEIGHTS, include_str!("../../shaders/weights.wgsl")),
    ("window_of(", include_str!("../../shaders/window.wgsl")),
    ("load_input(", include_str!("../../shaders/prologue.wgsl")),
    ("finish(", include_str!("../../shaders/epilogue.wgsl")),
    ("complete(", include_str!("../../shaders/completion.wgsl")),
    ("output_params_of(", include_str!("../../shaders/output_params.wgsl")),
    ("rescaled(", include_str!("../../shaders/requantise.wgsl")),
    ("activate(", include_str!("../../shaders/activation.wgsl")),
    ("place(", include_str!("../../shaders/placement.wgsl")),
    ("tile_of(", include_str!("../../shaders/region.wgsl")),
    ("dots(", include_str!("../../shaders/bytes.wgsl")),
    ("bounded_offset(", include_str!("../../shaders/bounded_offset.wgsl")),
    ("taps(", include_str!("../../shaders/taps.wgsl")),
];

/// The parameters that `placement.wgsl` reads, for a map that is not part of a larger one.
const WHOLE: [(&str, u32); 4] =
    [("part_pixels", 1), ("part_first", 0), ("whole_pixel", 0), ("whole_picture", 0)];

/// The region of a larger map that a kernel stores its output in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRegion {
    /// The output's shape.
    pub part: Shape,
    /// The larger map's shape.
    pub whole: Shape,
    /// Quads before the output in each picture of the larger map.
    pub first: usize,
}

/// The minimum size in bytes of a map's buffer: one `mat4x4<f32>`, the largest element of any binding. A map
/// may be bound in place of an input that the kernel does not use, and that input's elements may be larger
/// than the map's.
pub const LEAST_BINDING: u64 = 64;

/// One dispatch: a specialised shader and its size.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The shader.
    pub shader: &'static Shader,
    /// The constants it is compiled with.
    pub constants: Vec<(&'static str, u32)>,
    /// Its uniform parameters, in the order of its `Params`.
    pub params: Vec<(&'static str, u32)>,
    /// The type of the accumulators.
    pub arithmetic: Element,
    /// Workgroups in x, y and z.
    pub workgroups: [u32; 3],
    /// A description of its tile, for `inspect`.
    pub tile: String,
}

/// The shaders whose accumulators are a register tile of products.
const PRODUCTS: [&str; 7] = [
    "pointwise",
    "pointwise_split",
    "pointwise_subgroup",
    "pointwise_pool",
    "dense",
    "staged",
    "product_int8",
];

impl Launch {
    /// Returns the text to compile for maps and weights of `element`: types, constants, the shader, and the
    /// shared files that it calls. Launches with equal texts share a pipeline.
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
        let (quad, block) = if self.has_int8_weights() { ("u32", "vec4<u32>") } else { ("Quad", "Block") };
        text += &format!("alias WeightQuad = {quad};\nalias WeightBlock = {block};\n");
        let side = self.constants.iter().find(|(name, _)| *name == "SIDE");
        if let (Tier::Matrices, Some((_, side))) = (self.shader.tier, side) {
            text += &format!("alias Scalar = {element};\n");
            for (name, element, role) in [
                ("LeftMatrix", element, 'A'),
                ("RightMatrix", element, 'B'),
                ("SumMatrix", Element::F32, 'C'),
            ] {
                text += &format!("alias {name} = coop_mat{side}x{side}<{element}, {role}>;\n");
            }
        }
        let constants = self.constants.iter().copied();
        let checks =
            self.shader.flag().map(|flag| [("FLAG", flag), ("HALF", (element == Element::F16).into())]);
        let constants = constants.filter(|(name, _)| *name != INT8_WEIGHTS);
        for (name, value) in constants.chain(checks.into_iter().flatten()) {
            text += &format!("const {name}: u32 = {value}u;\n");
        }
        let first = text.len();
        text += self.shader.source;
        for (call, shared) in SHARED {
            if text[first..].contains(call) {
                text += if call == WEIGHTS && self.has_int8_weights() { WEIGHTS_INT8_WGSL } else { shared };
            }
        }
        text
    }

    /// Returns its [`wgsl`](Self::wgsl) for a driver whose compiler does not unroll loops. Only products are
    /// unrolled: MobileNetV2 then takes half as long on SwiftShader. Depthwise kernels would gain less than a
    /// tenth, and take longer to compile.
    pub fn unrolled<'a>(&self, wgsl: &'a str) -> Cow<'a, str> {
        if PRODUCTS.contains(&self.shader.name) { unrolled(wgsl).into() } else { wgsl.into() }
    }

    /// Sets its alarm, the value that the flag gets if it overflows. The flag keeps the highest alarm.
    pub(crate) fn alarmed(mut self, alarm: u32) -> Self {
        let own = self.params.iter_mut().find(|(name, _)| *name == ALARM.0);
        own.into_iter().for_each(|(_, value)| *value = alarm);
        self
    }

    /// Makes its weights int8, in the bindings for which its shader accepts them.
    pub fn with_int8_weights(mut self) -> Self {
        self.constants.push((INT8_WEIGHTS, 1));
        self
    }

    /// Returns whether its weights are int8, in the bindings for which its shader accepts them.
    pub fn has_int8_weights(&self) -> bool {
        self.constants.iter().any(|(name, _)| *name == INT8_WEIGHTS)
    }

    /// Adds the constant and the parameters of `placement.wgsl`, which its shader calls.
    pub(super) fn placeable(mut self) -> Self {
        self.constants.push(("PLACED", 0));
        self.params.extend(WHOLE);
        self
    }

    /// Returns whether it can store its output in a larger map.
    pub fn can_be_placed(&self) -> bool {
        self.constants.iter().any(|(name, _)| *name == "PLACED")
    }

    /// Makes it store its output in a larger map.
    pub fn placed(mut self, region: OutputRegion) -> Self {
        let OutputRegion { part, whole, first } = region;
        let quads = whole.quads();
        let values = [part.h * part.w, first, quads, whole.h * whole.w * quads].map(|value| value as u32);
        for (name, value) in &mut self.constants {
            if *name == "PLACED" {
                *value = 1;
            }
        }
        // The parameters of `placement.wgsl` are the last ones.
        for ((_, value), placed) in self.params.iter_mut().rev().zip(values.into_iter().rev()) {
            *value = placed;
        }
        self
    }

    /// Returns the number of its workgroups.
    pub(crate) fn workgroup_count(&self) -> usize {
        self.workgroups.iter().product::<u32>() as usize
    }

    /// Returns the footprint of a dispatch with the usual workgroup size and few values per invocation.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint::of(self.workgroup_count() * WORKGROUP_SIZE as usize)
    }

    /// Returns the bytes of its uniform parameters.
    pub fn params_bytes(&self) -> Vec<u8> {
        self.params.iter().flat_map(|(_, value)| value.to_le_bytes()).collect()
    }
}
