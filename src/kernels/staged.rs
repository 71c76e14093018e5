//! Pointwise and dense convolution staged through workgroup memory: `shaders/staged.wgsl`. Its weights and its
//! references are those of [`super::pointwise`] and [`super::dense`].

use super::{
    Crowd, Effort, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier, Tile,
    pointwise::{self, Extras},
    spread, window,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, Window},
    tensor::Element,
};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "staged",
    source: include_str!("../../shaders/staged.wgsl"),
    reads: pointwise::SHADER.reads,
    writes: &["y"],
    textures: &[],
    sums: &["bias"],
    tier: Tier::Baseline,
};

/// Threads of a workgroup.
pub const THREADS: u32 = 256;

/// Terms, inputs of a tap in fours, that a part brings at once.
const DEEP: u32 = 4;

/// Tiles worth choosing from, largest first: the fewer outputs there are, the more threads share the terms of one.
pub fn tiles() -> impl Iterator<Item = Tile> {
    let sizes = [(8, 2), (4, 4), (4, 2), (4, 1), (2, 2), (2, 1), (1, 1)];
    [1, 2, 4, 8, 16].into_iter().flat_map(move |split| {
        sizes.into_iter().map(move |(pixels, quads)| Tile { split, ..Tile::new(pixels, quads) })
    })
}

/// How the threads of a part lie over its tile.
#[derive(Debug, Clone, Copy)]
struct Part {
    tile: Tile,
    lanes_o: u32,
    lanes_p: u32,
}

impl Part {
    /// The one that leaves the fewest workgroups, and of such the one that brings the least.
    fn new(tile: Tile, pixels: usize, outputs: usize) -> Self {
        let parts = [4, 8, 16].map(|lanes_o| {
            let lanes_o = lanes_o.min(THREADS / tile.split);
            Self { tile, lanes_o, lanes_p: THREADS / tile.split / lanes_o }
        });
        let rated = |part: &Self| (part.workgroups(pixels, outputs), part.brought());
        parts.into_iter().min_by_key(rated).unwrap_or(parts[0])
    }

    fn workgroups(self, pixels: usize, outputs: usize) -> usize {
        pixels.div_ceil((self.lanes_p * self.tile.pixels) as usize)
            * outputs.div_ceil((self.lanes_o * self.tile.quads) as usize)
    }

    /// `vec4`s that it brings a turn.
    fn brought(self) -> u32 {
        DEEP * (self.lanes_p * self.tile.pixels + 4 * self.lanes_o * self.tile.quads)
    }

    fn threads(self) -> u32 {
        self.lanes_o * self.lanes_p
    }

    /// Bytes of workgroup memory.
    fn memory(self, element: Element) -> u32 {
        let partial = self.tile.split / 2 * self.tile.sums() * self.threads() + 1;
        self.tile.split * self.brought() * 4 * element.bytes() as u32 + 16 * partial
    }
}

/// Bytes of workgroup memory that a tile takes for `y`.
pub fn memory(tile: Tile, y: Shape, element: Element) -> u32 {
    Part::new(tile, y.pixels(), y.quads()).memory(element)
}

fn part(layer: &Layer, tile: Tile) -> Part {
    Part::new(tile, layer.y.pixels(), layer.y.quads())
}

/// What a pixel's sum is over: the inputs of every tap, in fours.
fn terms(conv: &Conv) -> usize {
    window::taps(conv) * conv.inputs().div_ceil(4)
}

/// The kernel, for the planner.
pub struct Staged;

impl LayerKernel for Staged {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let Some(conv) = window::conv(layer).filter(|_| machine.workgroup_threads >= THREADS) else {
            return Vec::new();
        };
        let fits = |tile: &Tile| {
            tile.sums() <= machine.sums
                && tile.split as usize <= terms(conv)
                && part(layer, *tile).memory(machine.element) <= machine.workgroup_memory
        };
        tiles().filter(fits).collect()
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let turns = terms(window::wanted(layer)).div_ceil((DEEP * tile.split) as usize) as f64;
        let part = part(layer, tile);
        let gates = if layer.gated { DEEP * part.lanes_p * tile.pixels } else { 0 };
        let brought = part.brought() / part.threads() + 1;
        let multiplied = Effort {
            shared: f64::from(DEEP * (tile.pixels + 4 * tile.quads)),
            macs: f64::from(DEEP * 4 * tile.sums()),
            ..Effort::default()
        };
        // Of the next turn's loads it waits only for what they take longer than this one's products.
        let rates = &machine.rates;
        let hidden = multiplied.shared * rates.shared + multiplied.macs * rates.mac;
        let waits = 1.0 - (hidden / rates.latency.max(1.0)).min(1.0);
        let loads = f64::from(brought + gates / part.threads());
        let turn =
            multiplied + Effort { shared: f64::from(brought), barriers: 2.0, ..Effort::of(waits, loads) };
        let met = f64::from(tile.split.ilog2());
        let met =
            Effort { shared: 2.0 * met * f64::from(tile.sums()), barriers: 2.0 * met, ..Effort::default() };
        turn * turns + Effort::of(1.0, loads) + met + pointwise::ends(layer, tile)
    }

    fn crowd(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Crowd {
        let part = part(layer, tile);
        Crowd {
            invocations: part.workgroups(layer.y.pixels(), layer.y.quads()) * THREADS as usize,
            values: tile.sums() + tile.pixels + 4 * tile.quads + part.brought() / part.threads() + 1,
            workgroup: THREADS,
            memory: part.memory(machine.element),
        }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        let conv = window::wanted(layer);
        launch(conv, layer.x(), layer.y, layer.window(conv), Extras::of(layer), tile)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        window::reference(layer, maps)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(pointwise::PACKING)
    }
}

/// One run over `x`, making `y`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, reach: Window, extras: Extras, tile: Tile) -> Launch {
    let part = Part::new(tile, y.pixels(), y.quads());
    let tiled = [
        ("PIXELS", tile.pixels),
        ("QUADS", tile.quads),
        ("LANES_O", part.lanes_o),
        ("LANES_P", part.lanes_p),
        ("SPLIT", tile.split),
        ("DEEP", DEEP),
    ];
    Launch {
        shader: &SHADER,
        constants: [window::constants(conv, extras), tiled].concat(),
        params: window::params(x, y, reach),
        workgroups: spread(part.workgroups(y.pixels(), y.quads())),
        arithmetic: Element::F32,
        tile: format!("{tile}, {THREADS} threads"),
    }
    .placeable()
}
