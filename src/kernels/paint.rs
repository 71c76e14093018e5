//! A label map as a picture of colours: `shaders/paint.wgsl`.

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

/// The same in plain loops over the classes of a map, row by row: what class each texel shows.
pub fn reference(classes: &[u8], x: Shape, [rows, columns]: [usize; 2]) -> Vec<u8> {
    let under = |at: usize, size: usize, of: usize| (2 * at + 1) * size / (2 * of);
    let texels = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    texels.map(|(row, column)| classes[under(row, x.h, rows) * x.w + under(column, x.w, columns)]).collect()
}
