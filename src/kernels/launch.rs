//! A kernel's text, and one dispatch of it.

use crate::{Shape, tensor::Element};

/// A kernel's text and the names of what it binds, in group 0: `params` at 0, then `reads`
/// in order, then `writes`, then the flag of what overflows, if it checks for that, then `textures`.
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
    /// way from one kernel to the next, answers that f16 is too coarse for, and words of integers.
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

    /// Where it binds the flag that tells of values that overflow, behind what it writes; none if it computes
    /// nothing that could.
    pub fn flag(&self) -> Option<u32> {
        let checks = ["activate(", "finish(", "complete("].iter().any(|call| self.source.contains(call));
        checks.then_some((1 + self.reads.len() + self.writes.len()) as u32)
    }

    /// Whether what it binds as `name` may be bytes in words of four, with what a step of each output's weights is behind
    /// all biases.
    pub fn takes_bytes(&self, name: &str) -> bool {
        ["Quad", "Block"].iter().any(|of| self.source.contains(&format!("> {name}: array<Weight{of}>")))
    }

    /// Storage buffers that it binds.
    pub fn buffers(&self) -> usize {
        self.reads.len() + self.writes.len() + usize::from(self.flag().is_some())
    }
}

/// The parameter that `activation.wgsl` reads: what the flag gets if this launch is the first to overflow.
pub(super) const ALARM: (&str, u32) = ("alarm", 1);

/// Among a launch's constants: weights are bytes. Its text has no such constant, but other types.
const IN_BYTES: &str = "weights in bytes";

/// The beginning of what kernels call for weights that may be bytes, and the text that follows it where they are.
const WEIGHTS: &str = "weights_";
pub(super) const BYTES: &str = include_str!("../../shaders/weights_int8.wgsl");

/// What kernels share: what each has to call, and the text that then follows it; later ones follow what earlier ones
/// call.
pub(super) const SHARED: [(&str, &str); 10] = [
    (WEIGHTS, include_str!("../../shaders/weights.wgsl")),
    ("window_of(", include_str!("../../shaders/window.wgsl")),
    ("load_input(", include_str!("../../shaders/prologue.wgsl")),
    ("finish(", include_str!("../../shaders/epilogue.wgsl")),
    ("complete(", include_str!("../../shaders/completion.wgsl")),
    ("rescaled(", include_str!("../../shaders/requantise.wgsl")),
    ("activate(", include_str!("../../shaders/activation.wgsl")),
    ("place(", include_str!("../../shaders/placement.wgsl")),
    ("near(", include_str!("../../shaders/near.wgsl")),
    ("taps(", include_str!("../../shaders/taps.wgsl")),
];

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
        let (quad, block) = if self.has_bytes() { ("u32", "vec4<u32>") } else { ("Quad", "Block") };
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
        let constants = constants.filter(|(name, _)| *name != IN_BYTES);
        for (name, value) in constants.chain(checks.into_iter().flatten()) {
            text += &format!("const {name}: u32 = {value}u;\n");
        }
        let first = text.len();
        text += self.shader.source;
        for (call, shared) in SHARED {
            if text[first..].contains(call) {
                text += if call == WEIGHTS && self.has_bytes() { BYTES } else { shared };
            }
        }
        text
    }

    /// It, raising this alarm if it overflows: of several steps the flag keeps the highest.
    pub(crate) fn alarmed(mut self, alarm: u32) -> Self {
        let own = self.params.iter_mut().find(|(name, _)| *name == ALARM.0);
        own.into_iter().for_each(|(_, value)| *value = alarm);
        self
    }

    /// It, with weights that are bytes where its shader takes them.
    pub fn in_bytes(mut self) -> Self {
        self.constants.push((IN_BYTES, 1));
        self
    }

    /// Whether weights are bytes where its shader takes them.
    pub fn has_bytes(&self) -> bool {
        self.constants.iter().any(|(name, _)| *name == IN_BYTES)
    }

    /// It, with what `placement.wgsl` wants, which its shader calls.
    pub(super) fn placeable(mut self) -> Self {
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
