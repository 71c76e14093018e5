//! A label map as the bytes of a texture: `shaders/mask.wgsl`.

use super::{Launch, Shader, Tier, WORKGROUP_SIZE, spread};
use crate::{Shape, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "mask",
    source: include_str!("../../shaders/mask.wgsl"),
    reads: &["label"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["label", "y"],
    tier: Tier::Baseline,
};

/// The alignment, in bytes, of a buffer's rows that are copied to a texture: WebGPU's `bytesPerRow`.
const ROW_ALIGNMENT: usize = 256;

/// Returns the bytes from one row of `columns` texels to the next.
pub fn row_bytes(columns: usize) -> usize {
    columns.next_multiple_of(ROW_ALIGNMENT)
}

/// Returns the launch that makes `rows` x `columns` texels of the label map `x` of one picture.
pub fn launch(x: Shape, [rows, columns]: [usize; 2]) -> Launch {
    let words = row_bytes(columns) / 4;
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![
            ("height", x.h as u32),
            ("width", x.w as u32),
            ("words", x.w.div_ceil(4) as u32),
            ("out_height", rows as u32),
            ("out_width", columns as u32),
            ("out_words", words as u32),
        ],
        workgroups: spread((rows * words).div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "4 pixels per invocation".into(),
    }
}

/// Packs a label map of `columns` for the device: one byte per pixel, each row padded to whole words.
pub fn pack(classes: &[u8], columns: usize) -> Vec<f32> {
    let filled = |row: &[u8]| {
        let mut row = row.to_vec();
        row.resize(columns.next_multiple_of(4), 0);
        row
    };
    let bytes: Vec<u8> = classes.chunks(columns).flat_map(filled).collect();
    bytemuck::pod_collect_to_vec(&bytes)
}

/// Computes the reference in plain loops, from the classes of a map in row order: the class of each texel.
pub fn reference(classes: &[u8], x: Shape, [rows, columns]: [usize; 2]) -> Vec<u8> {
    let under = |at: usize, size: usize, of: usize| (2 * at + 1) * size / (2 * of);
    let texels = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    texels.map(|(row, column)| classes[under(row, x.h, rows) * x.w + under(column, x.w, columns)]).collect()
}
