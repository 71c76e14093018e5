//! The best boxes of all classes, for drawing: `shaders/rank.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::{Launch, Shader, Tier, WORKGROUP_SIZE, select, spread, suppress};
use crate::{Shape, Tensor, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "rank",
    source: include_str!("../../shaders/rank.wgsl"),
    reads: &["x", "bounds"],
    writes: &["found", "draw"],
    textures: &[],
    always_32_bit: &["x", "bounds", "found", "draw"],
    tier: Tier::Baseline,
};

/// A box as an instance to draw, of 32 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct BoxInstance {
    /// Left, top, right and bottom as fractions of the picture's size, 0 to 1 from its top left corner.
    pub bounds: [f32; 4],
    /// The network's score, in 0..=1; zero in an unused entry.
    pub score: f32,
    /// The class, as an index into the network's output.
    pub class: u32,
    /// The index of its anchor.
    pub anchor: u32,
    /// Padding.
    pub unused: u32,
}

/// Returns the launch over one picture's candidates `x` from [`suppress`]: `[1, 4, classes, pairs]` without
/// the background's class. It makes at most `most` instances. `height` and `width` are the size in pixels of
/// the network's input, to which the boxes refer.
pub fn launch(x: Shape, [height, width]: [usize; 2], most: usize, vertices: u32) -> Launch {
    let slots = 2 * x.w;
    Launch {
        shader: &SHADER,
        constants: vec![("WORKGROUP_SIZE", WORKGROUP_SIZE)],
        params: vec![
            ("slots", slots as u32),
            ("classes", x.h as u32),
            ("most", most.min(slots * x.h) as u32),
            ("height", height as u32),
            ("width", width as u32),
            ("vertices", vertices),
        ],
        workgroups: spread((slots * x.h).div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 box per invocation".into(),
    }
}

/// Computes the reference by sorting.
pub fn reference(x: &Tensor, boxes: &Tensor, [height, width]: [usize; 2], most: usize) -> Vec<BoxInstance> {
    let classes = x.dims()[2];
    let of_class = |class| select::list(x, [0, class]).into_iter().map(move |slot| (class, slot));
    let mut all: Vec<(usize, [f32; 2])> = (0..classes).flat_map(of_class).collect();
    all.retain(|(_, [score, _])| *score > 0.0);
    // The sort is stable: of equal scores the first class comes first.
    all.sort_by(|(_, a), (_, b)| b[0].total_cmp(&a[0]));
    all.truncate(most);
    let found = |(class, [score, anchor]): (usize, [f32; 2])| {
        let [left, top, right, bottom] = suppress::bounds(boxes, 0, anchor as usize);
        let (width, height) = (width as f32, height as f32);
        BoxInstance {
            bounds: [left / width, top / height, right / width, bottom / height],
            score,
            // The background is class 0.
            class: class as u32 + 1,
            anchor: anchor as u32,
            unused: 0,
        }
    };
    all.into_iter().map(found).collect()
}
