//! A label map drawn in colours: `shaders/paint.wgsl`.

/// Computes the reference in plain loops: the class of each texel.
pub use super::mask::reference;
use super::{Access, Launch, Shader, Tier, WORKGROUP_SIZE, spread};
use crate::{Shape, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "paint",
    source: include_str!("../../shaders/paint.wgsl"),
    reads: &["label", "colour"],
    writes: &[],
    textures: &[("picture", Access::Written)],
    always_32_bit: &["label", "colour"],
    tier: Tier::Baseline,
};

/// Returns the launch that makes `rows` x `columns` texels of the label map `x` of one picture.
pub fn launch(x: Shape, [rows, columns]: [usize; 2]) -> Launch {
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("words", x.w.div_ceil(4) as u32),
            ("out_height", rows as u32),
            ("out_width", columns as u32),
        ],
        workgroups: spread((rows * columns).div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 pixel per invocation".into(),
    }
}
