//! Squeeze-excite's gate, or the first of its two layers: `shaders/gate.wgsl`.

use super::{ALARM, Crowd, Effort, LANES, Launch, Machine, Shader, Tier, Work};
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
const SPLITS: u32 = 16;

/// The most invocations of a workgroup that are of use.
const MOST: u32 = 256;

/// Turns of a loop whose loads are on their way together.
const DEPTH: u32 = 4;

/// Quads of the squeezing layer that a workgroup makes where there are several of a picture.
const SHARE: u32 = 4;

/// Squeeze-excite's layers, and the map that they begin with.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// The layer that squeezes.
    pub squeeze: &'a Conv,
    /// The layer that widens again, if it is made too: by one workgroup a picture.
    pub widen: Option<&'a Conv>,
    /// The map whose mean it is.
    pub map: Shape,
    /// Sums of tiles that there are of each picture.
    pub tiles: usize,
}

/// How the threads of a workgroup share the work.
#[derive(Debug, Clone, Copy)]
struct Shares {
    channels: u32,
    squeezed: u32,
    /// Quads of the squeezing layer that it makes.
    own: u32,
    threads: u32,
    /// Threads that have the tiles of a channel between them, and those that have an output.
    spread: u32,
    splits: u32,
}

impl Gate<'_> {
    fn shares(&self, machine: &Machine) -> Shares {
        let [channels, squeezed] = [self.map.quads(), self.squeeze.outputs().div_ceil(4)].map(|c| c as u32);
        let own = if self.widen.is_some() { squeezed } else { SHARE.min(squeezed) };
        let allowed = machine.workgroup_threads.clamp(LANES, MOST);
        // As many as have something to do, and as the machine allows.
        let threads = channels.max(SPLITS * own).next_power_of_two().clamp(LANES, 1 << allowed.ilog2());
        let spread = (threads / channels).clamp(1, self.tiles.max(1) as u32);
        let splits = (threads / own).clamp(1, SPLITS.min(channels));
        Shares { channels, squeezed, own, threads, spread, splits }
    }

    fn workgroups(&self, shares: Shares) -> [u32; 3] {
        [shares.squeezed.div_ceil(shares.own), self.map.n as u32, 1]
    }

    /// One run.
    pub fn launch(&self, machine: &Machine) -> Launch {
        let shares = self.shares(machine);
        let Shares { channels, squeezed, own, threads, spread, splits } = shares;
        Launch {
            shader: &SHADER,
            constants: vec![
                ("CHANNELS", channels),
                ("OWN", own),
                ("SPREAD", spread),
                ("SPLITS", splits),
                ("THREADS", threads),
                ("DEPTH", DEPTH),
                ("WIDEN", self.widen.is_some().into()),
                ("SQUEEZE_ACTIVATION", self.squeeze.activation.code()),
                ("ACTIVATION", self.widen.map_or(0, |widen| widen.activation.code())),
            ],
            params: vec![
                ALARM,
                ("tiles", self.tiles as u32),
                ("pixels", (self.map.h * self.map.w) as u32),
                ("channels", channels),
                ("squeezed", squeezed),
            ],
            workgroups: self.workgroups(shares),
            arithmetic: Element::F32,
            tile: match self.widen {
                Some(_) => {
                    let [c, squeezed] = [self.map.c, self.squeeze.outputs()];
                    format!("{c} > {squeezed} > {c} ch of a picture a workgroup")
                }
                None => format!("{} > {} ch, {} a workgroup", self.map.c, self.squeeze.outputs(), 4 * own),
            },
        }
    }

    /// Bytes of workgroup memory.
    pub fn memory(&self, machine: &Machine) -> u32 {
        let Shares { channels, own, spread, splits, .. } = self.shares(machine);
        16 * (spread * channels + channels + DEPTH * splits + own * splits + own + DEPTH)
    }

    /// What an invocation does, and what a run starts.
    pub fn effort(&self, machine: &Machine) -> (Effort, Crowd) {
        let shares = self.shares(machine);
        let Shares { channels, own, threads, spread, splits, .. } = shares;
        // Every thread's turns at something that there are so many of.
        let rounds = |items: u32| f64::from(items.div_ceil(threads));
        let product = |inputs: u32| Effort {
            shared: f64::from(inputs),
            macs: f64::from(4 * inputs),
            ..Effort::of(f64::from(inputs.div_ceil(DEPTH)), f64::from(4 * inputs))
        };
        let tiles = f64::from((self.tiles as u32).div_ceil(spread));
        let sums = Effort::of((tiles / f64::from(DEPTH)).ceil(), tiles) * rounds(spread * channels);
        let squeeze = product(channels.div_ceil(splits)) * rounds(own * splits);
        let widen = self.widen.map_or(Effort::default(), |_| product(own) * rounds(channels));
        let met = Effort { shared: f64::from(spread + splits), barriers: 4.0, ..Effort::of(2.0, 2.0) };
        let [x, y, _] = self.workgroups(shares);
        let crowd = Crowd {
            invocations: (x * y * threads) as usize,
            values: 24,
            workgroup: threads,
            memory: self.memory(machine),
        };
        (sums + squeeze + widen + met, crowd)
    }

    /// What it moves and computes, of sums of so many bytes.
    pub fn work(&self, sums: u64, machine: &Machine) -> Work {
        let convs = || [Some(self.squeeze), self.widen].into_iter().flatten();
        let made = convs().last().unwrap_or(self.squeeze).outputs();
        let weights: u64 = convs().map(|conv| machine.weights(conv)).sum();
        let macs: usize = convs().map(|conv| conv.weight.data().len()).sum();
        Work {
            bytes: sums + machine.bytes(Shape::new(self.map.n, made, 1, 1)) + weights,
            macs: (self.map.n * macs) as u64,
        }
    }
}

/// The same in plain loops over NCHW, from the map itself.
pub fn reference(squeeze: &Conv, widen: Option<&Conv>, map: &Tensor) -> Tensor {
    let mean = super::pool::reference(map);
    let shape = |conv: &Conv| Shape::new(map.dims()[0], conv.outputs(), 1, 1);
    let squeezed = super::pointwise::reference(squeeze, &mean, shape(squeeze), None);
    match widen {
        Some(widen) => super::pointwise::reference(widen, &squeezed, shape(widen), None),
        None => squeezed,
    }
}
