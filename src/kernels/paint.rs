//! A label map as a picture of colours: `shaders/paint.wgsl`.

/// The class that each texel shows, in plain loops.
pub use super::mask::reference;
use super::{Access, LANES, Launch, Shader, Tier, spread};
use crate::{Shape, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "paint",
    source: include_str!("../../shaders/paint.wgsl"),
    reads: &["label", "colour"],
    writes: &[],
    textures: &[("picture", Access::Written)],
    sums: &["label", "colour"],
    tier: Tier::Baseline,
};

/// One run over the label map `x`, of one picture, making `rows` x `columns` texels.
pub fn launch(x: Shape, [rows, columns]: [usize; 2]) -> Launch {
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES)],
        params: vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("words", x.w.div_ceil(4) as u32),
            ("out_height", rows as u32),
            ("out_width", columns as u32),
        ],
        workgroups: spread((rows * columns).div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "1 pixel a thread".into(),
    }
}
