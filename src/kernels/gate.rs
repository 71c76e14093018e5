//! Squeeze-excite's gate in one kernel: `shaders/gate.wgsl`.

use super::{ALARM, BARRIER, LANES, Launch, Machine, Shader, Tier, Work};
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

/// The most threads that an output of the squeezing layer has between them.
const SPLITS: u32 = 8;

/// The most invocations of a workgroup that are of use.
const MOST: u32 = 256;

/// Invocations of a workgroup, and how many of them an output of the squeezing layer has: there is one
/// workgroup for each picture, so as many as have something to do, and as the machine allows.
fn threads(channels: u32, squeezed: u32, machine: &Machine) -> (u32, u32) {
    let allowed = machine.workgroup_threads.clamp(LANES, MOST);
    let most = 1 << allowed.ilog2();
    let threads = channels.max(SPLITS * squeezed).next_power_of_two().clamp(LANES, most);
    (threads, (threads / squeezed).clamp(1, SPLITS.min(channels)))
}

/// Invocations that could work on so many pictures.
pub fn invocations(pictures: usize) -> usize {
    pictures * MOST as usize
}

/// One run over the sums of `tiles` tiles of `map`.
pub fn launch(squeeze: &Conv, widen: &Conv, map: Shape, tiles: usize, machine: &Machine) -> Launch {
    let [channels, squeezed] = [map.quads(), squeeze.outputs().div_ceil(4)].map(|quads| quads as u32);
    let (threads, splits) = threads(channels, squeezed, machine);
    Launch {
        shader: &SHADER,
        constants: vec![
            ("CHANNELS", channels),
            ("SQUEEZED", squeezed),
            ("SPLITS", splits),
            ("THREADS", threads),
            ("SQUEEZE_ACTIVATION", squeeze.activation.code()),
            ("ACTIVATION", widen.activation.code()),
        ],
        params: vec![
            ALARM,
            ("tiles", tiles as u32),
            ("pixels", (map.h * map.w) as u32),
            ("channels", channels),
            ("squeezed", squeezed),
        ],
        workgroups: [map.n as u32, 1, 1],
        arithmetic: Element::F32,
        tile: format!("{} > {} > {} ch of a picture a workgroup", map.c, squeeze.outputs(), map.c),
    }
}

/// Bytes of workgroup memory that a map of so many channels takes in f32.
pub fn memory(squeeze: &Conv, machine: &Machine) -> u32 {
    let [channels, squeezed] = [squeeze.inputs(), squeeze.outputs()].map(|c| c.div_ceil(4) as u32);
    16 * (channels + squeezed * (threads(channels, squeezed, machine).1 + 1))
}

/// What an invocation spends: the two products are shared by all of a workgroup.
pub fn cost(squeeze: &Conv, machine: &Machine) -> f64 {
    let products = 2 * squeeze.inputs().div_ceil(4) * squeeze.outputs().div_ceil(4);
    products as f64 * machine.product(1, 1) / f64::from(MOST) + 3.0 * BARRIER
}

/// What it moves and computes, of sums of so many bytes.
pub fn work(squeeze: &Conv, widen: &Conv, pictures: usize, sums: u64, machine: &Machine) -> Work {
    let gates = Shape::new(pictures, widen.outputs(), 1, 1);
    let weights = machine.weights(squeeze) + machine.weights(widen);
    Work {
        bytes: sums + machine.bytes(gates) + weights,
        macs: (pictures * (squeeze.weight.data().len() + widen.weight.data().len())) as u64,
    }
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
