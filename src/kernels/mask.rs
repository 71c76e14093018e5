//! A label map as the bytes of a texture: `shaders/mask.wgsl`.

use super::{LANES, Launch, Shader, Tier, spread};
use crate::{Shape, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "mask",
    source: include_str!("../../shaders/mask.wgsl"),
    reads: &["label"],
    writes: &["y"],
    textures: &[],
    sums: &["label", "y"],
    tier: Tier::Baseline,
};

/// What rows of a buffer have to be whole multiples of, in bytes, to be copied to a texture: WebGPU's
/// `bytesPerRow`.
const ROW_ALIGNMENT: usize = 256;

/// The bytes from one row of so many texels to the next.
pub fn row_bytes(columns: usize) -> usize {
    columns.next_multiple_of(ROW_ALIGNMENT)
}

/// One run over the label map `x`, of one picture, making `rows` x `columns` texels.
pub fn launch(x: Shape, [rows, columns]: [usize; 2]) -> Launch {
    let words = row_bytes(columns) / 4;
    Launch {
        shader: &SHADER,
        constants: vec![("LANES", LANES)],
        params: vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("words", x.w.div_ceil(4) as u32),
            ("out_height", rows as u32),
            ("out_width", columns as u32),
            ("out_words", words as u32),
        ],
        workgroups: spread((rows * words).div_ceil(LANES as usize)),
        arithmetic: Element::F32,
        tile: "4 pixels a thread".into(),
    }
}

/// A label map of so many columns as the device has it: a byte a pixel, rows of whole words.
pub fn pack(classes: &[u8], columns: usize) -> Vec<f32> {
    let filled = |row: &[u8]| {
        let mut row = row.to_vec();
        row.resize(columns.next_multiple_of(4), 0);
        row
    };
    let bytes: Vec<u8> = classes.chunks(columns).flat_map(filled).collect();
    bytemuck::pod_collect_to_vec(&bytes)
}

/// The same in plain loops over the classes of a map, row by row: what class each texel shows.
pub fn reference(classes: &[u8], x: Shape, [rows, columns]: [usize; 2]) -> Vec<u8> {
    let under = |at: usize, size: usize, of: usize| (2 * at + 1) * size / (2 * of);
    let texels = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    texels.map(|(row, column)| classes[under(row, x.h, rows) * x.w + under(column, x.w, columns)]).collect()
}
