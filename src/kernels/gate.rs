//! Squeeze-excite's gate, or only the first of its two layers: `shaders/gate.wgsl`.

use super::{ALARM, Effort, Footprint, Launch, Machine, Shader, Tier, WORKGROUP_SIZE, Work};
use crate::{Shape, Tensor, graph::Conv, tensor::Element};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "gate",
    source: include_str!("../../shaders/gate.wgsl"),
    reads: &["x", "squeeze_weight", "widen_weight", "bias"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x", "bias"],
    tier: Tier::Baseline,
};

/// The maximum number of invocations that split the inputs of one output of the squeezing layer.
const SPLITS: u32 = 16;

/// The largest useful workgroup size.
const MOST: u32 = 256;

/// Iterations of a loop whose loads are in flight together.
const DEPTH: u32 = 4;

/// Quads of the squeezing layer per workgroup, if there are several workgroups per picture.
const SHARE: u32 = 4;

/// Squeeze-excite's layers, and the map that they pool.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// The layer that squeezes.
    pub squeeze: &'a Conv,
    /// The layer that widens, if the kernel computes it too, with one workgroup per picture.
    pub widen: Option<&'a Conv>,
    /// The shape of the map whose mean is the input.
    pub map: Shape,
    /// Tiles per picture; each has a sum.
    pub tiles: usize,
}

/// The split of the work over a workgroup's invocations.
#[derive(Debug, Clone, Copy)]
struct Shares {
    channels: u32,
    squeezed: u32,
    /// Quads of the squeezing layer per workgroup.
    own: u32,
    workgroup_size: u32,
    /// Invocations that split the tiles of a channel, and those that split the inputs of an output.
    spread: u32,
    splits: u32,
}

impl Gate<'_> {
    fn shares(&self, machine: &Machine) -> Shares {
        let [channels, squeezed] = [self.map.quads(), self.squeeze.outputs().div_ceil(4)].map(|c| c as u32);
        let own = if self.widen.is_some() { squeezed } else { SHARE.min(squeezed) };
        let allowed = machine.max_workgroup_size.clamp(WORKGROUP_SIZE, MOST);
        // One invocation per item of work, within the machine's limit.
        let workgroup_size =
            channels.max(SPLITS * own).next_power_of_two().clamp(WORKGROUP_SIZE, 1 << allowed.ilog2());
        let spread = (workgroup_size / channels).clamp(1, self.tiles.max(1) as u32);
        let splits = (workgroup_size / own).clamp(1, SPLITS.min(channels));
        Shares { channels, squeezed, own, workgroup_size, spread, splits }
    }

    fn workgroups(&self, shares: Shares) -> [u32; 3] {
        [shares.squeezed.div_ceil(shares.own), self.map.n as u32, 1]
    }

    /// Returns the launch.
    pub fn launch(&self, machine: &Machine) -> Launch {
        let shares = self.shares(machine);
        let Shares { channels, squeezed, own, workgroup_size, spread, splits } = shares;
        Launch {
            shader: &SHADER,
            constants: vec![
                ("CHANNELS", channels),
                ("OWN", own),
                ("SPREAD", spread),
                ("SPLITS", splits),
                ("WORKGROUP_SIZE", workgroup_size),
                ("DEPTH", DEPTH),
                ("WIDEN", self.widen.is_some().into()),
                ("SQUEEZE_ACTIVATION", self.squeeze.activation.code()),
                ("ACTIVATION", self.widen.map_or(0, |widen| widen.activation.code())),
            ],
            params: vec![
                ALARM,
                ("tiles", self.tiles as u32),
                ("picture_pixels", (self.map.h * self.map.w) as u32),
                ("channels", channels),
                ("squeezed", squeezed),
            ],
            workgroups: self.workgroups(shares),
            arithmetic: Element::F32,
            tile: match self.widen {
                Some(_) => {
                    let [c, squeezed] = [self.map.c, self.squeeze.outputs()];
                    format!("{c} > {squeezed} > {c} ch, one workgroup per picture")
                }
                None => format!("{} > {} ch, {} per workgroup", self.map.c, self.squeeze.outputs(), 4 * own),
            },
        }
    }

    /// Returns the bytes of workgroup memory.
    pub fn memory(&self, machine: &Machine) -> u32 {
        let Shares { channels, own, spread, splits, .. } = self.shares(machine);
        16 * (spread * channels + channels + DEPTH * splits + own * splits + own + DEPTH)
    }

    /// Returns the effort of an invocation, and the size and the resources of the dispatch.
    pub fn effort(&self, machine: &Machine) -> (Effort, Footprint) {
        let shares = self.shares(machine);
        let Shares { channels, own, workgroup_size, spread, splits, .. } = shares;
        // The rounds in which a workgroup covers `items`.
        let rounds = |items: u32| f64::from(items.div_ceil(workgroup_size));
        let product = |inputs: u32| Effort {
            shared: f64::from(inputs),
            macs: f64::from(4 * inputs),
            ..Effort::of(f64::from(inputs.div_ceil(DEPTH)), f64::from(4 * inputs))
        };
        let tiles = f64::from((self.tiles as u32).div_ceil(spread));
        let sums = Effort::of((tiles / f64::from(DEPTH)).ceil(), tiles) * rounds(spread * channels);
        let squeeze = product(channels.div_ceil(splits)) * rounds(own * splits);
        let widen = self.widen.map_or(Effort::default(), |_| product(own) * rounds(channels));
        let combine = Effort { shared: f64::from(spread + splits), barriers: 4.0, ..Effort::of(2.0, 2.0) };
        let [x, y, _] = self.workgroups(shares);
        let footprint = Footprint {
            invocations: (x * y * workgroup_size) as usize,
            values: 24,
            workgroup: workgroup_size,
            memory: self.memory(machine),
        };
        (sums + squeeze + widen + combine, footprint)
    }

    /// Returns its bytes and multiply-adds. `sums` is the number of bytes of the tiles' sums.
    pub fn work(&self, sums: u64, machine: &Machine) -> Work {
        let convs = || [Some(self.squeeze), self.widen].into_iter().flatten();
        let made = convs().last().unwrap_or(self.squeeze).outputs();
        let weights: u64 = convs().map(|conv| machine.weight_bytes(conv)).sum();
        let macs: usize = convs().map(|conv| conv.weight.data().len()).sum();
        Work {
            bytes: sums + machine.bytes(Shape::new(self.map.n, made, 1, 1)) + weights,
            macs: (self.map.n * macs) as u64,
        }
    }
}

/// Computes the reference in plain loops over NCHW, from the map.
pub fn reference(squeeze: &Conv, widen: Option<&Conv>, map: &Tensor) -> Tensor {
    let mean = super::pool::reference(map);
    let shape = |conv: &Conv| Shape::new(map.dims()[0], conv.outputs(), 1, 1);
    let squeezed = super::pointwise::reference(squeeze, &mean, shape(squeeze), None);
    match widen {
        Some(widen) => super::pointwise::reference(widen, &squeezed, shape(widen), None),
        None => squeezed,
    }
}
