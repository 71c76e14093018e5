//! Squeeze-excite's gate in one kernel: `shaders/gate.wgsl`.

use super::{Launch, Shader, Tier};
use crate::{Shape, Tensor, graph::Conv, tensor::Element};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "gate",
    source: include_str!("../../shaders/gate.wgsl"),
    reads: &["x", "squeeze_weight", "widen_weight", "bias"],
    writes: &["y"],
    textures: &[],
    sums: &["x", "bias"],
    tier: Tier::Baseline,
};

/// Threads of a workgroup: there is one workgroup a picture, so as many as every adapter allows.
const THREADS: u32 = 256;

/// One run over the sums of `tiles` tiles of `map`.
pub fn launch(squeeze: &Conv, widen: &Conv, map: Shape, tiles: usize) -> Launch {
    let squeezed = squeeze.outputs().div_ceil(4) as u32;
    Launch {
        shader: &SHADER,
        constants: vec![
            ("CHANNELS", map.quads() as u32),
            ("SQUEEZED", squeezed),
            ("SPLITS", (THREADS / squeezed).clamp(1, 8)),
            ("THREADS", THREADS),
            ("SQUEEZE_ACTIVATION", squeeze.activation.code()),
            ("ACTIVATION", widen.activation.code()),
        ],
        params: vec![("tiles", tiles as u32), ("pixels", (map.h * map.w) as u32)],
        workgroups: [map.n as u32, 1, 1],
        arithmetic: Element::F32,
        tile: format!("{} > {} > {} ch of a picture a workgroup", map.c, squeeze.outputs(), map.c),
    }
}

/// Bytes of workgroup memory that a map of so many channels takes in f32.
pub fn memory(squeeze: &Conv) -> u32 {
    let squeezed = squeeze.outputs().div_ceil(4) as u32;
    16 * (squeeze.inputs().div_ceil(4) as u32 + squeezed * ((THREADS / squeezed).clamp(1, 8) + 1))
}

/// The biases as the kernel reads them.
pub fn pack_bias(squeeze: &Conv, widen: &Conv) -> Vec<f32> {
    [squeeze, widen].into_iter().flat_map(super::pack_bias).collect()
}

/// The same in plain loops over NCHW, from the map itself.
pub fn reference(squeeze: &Conv, widen: &Conv, map: &Tensor) -> Tensor {
    let mean = super::pool::reference(map);
    let shape = |conv: &Conv| Shape::new(map.dims()[0], conv.outputs(), 1, 1);
    let squeezed = super::pointwise::reference(squeeze, &mean, shape(squeeze), None);
    super::pointwise::reference(widen, &squeezed, shape(widen), None)
}
