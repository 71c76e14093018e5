//! Pointwise and dense convolution staged through workgroup memory: `shaders/staged.wgsl`. Its weights and
//! references are those of [`super::pointwise`] and [`super::dense`].

use super::{
    Effort, Footprint, Launch, Layer, LayerKernel, Machine, Maps, Packing, Shader, Tier, Tile,
    pointwise::{self, Extras},
    spread, window,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, Window},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "staged",
    source: include_str!("../../shaders/staged.wgsl"),
    reads: pointwise::SHADER.reads,
    writes: &["y"],
    textures: &[],
    always_32_bit: &["bias"],
    tier: Tier::Baseline,
};

/// The workgroup size.
pub const WORKGROUP_SIZE: u32 = 256;

/// Terms that a group loads per iteration; a term is a quad of a tap's inputs.
const TILE_K: u32 = 4;

/// Returns the candidates, largest first. Smaller ones split the terms of an output over more invocations.
pub fn tiles() -> impl Iterator<Item = Tile> {
    let sizes = [(8, 2), (4, 4), (4, 2), (4, 1), (2, 2), (2, 1), (1, 1)];
    [1, 2, 4, 8, 16].into_iter().flat_map(move |split| {
        sizes.into_iter().map(move |(pixels, quads)| Tile { split, ..Tile::new(pixels, quads) })
    })
}

/// How the invocations of one group lie over a workgroup's tile. The groups of a workgroup split the terms.
#[derive(Debug, Clone, Copy)]
struct Layout {
    tile: Tile,
    workgroup_o: u32,
    workgroup_p: u32,
}

impl Layout {
    /// Returns the layout with the fewest workgroups; ties go to the one with the fewest loads.
    fn new(tile: Tile, pixels: usize, outputs: usize) -> Self {
        let layouts = [4, 8, 16].map(|workgroup_o| {
            let workgroup_o = workgroup_o.min(WORKGROUP_SIZE / tile.split);
            Self { tile, workgroup_o, workgroup_p: WORKGROUP_SIZE / tile.split / workgroup_o }
        });
        let rated = |layout: &Self| (layout.workgroups(pixels, outputs), layout.loaded());
        layouts.into_iter().min_by_key(rated).unwrap_or(layouts[0])
    }

    fn workgroups(self, pixels: usize, outputs: usize) -> usize {
        pixels.div_ceil((self.workgroup_p * self.tile.pixels) as usize)
            * outputs.div_ceil((self.workgroup_o * self.tile.quads) as usize)
    }

    /// Returns the `vec4`s that it loads per iteration.
    fn loaded(self) -> u32 {
        TILE_K * (self.workgroup_p * self.tile.pixels + 4 * self.workgroup_o * self.tile.quads)
    }

    fn size(self) -> u32 {
        self.workgroup_o * self.workgroup_p
    }

    /// Returns the bytes of workgroup memory.
    fn memory(self, element: Element) -> u32 {
        let partial = self.tile.split / 2 * self.tile.accumulators() * self.size() + 1;
        self.tile.split * self.loaded() * 4 * element.bytes() as u32 + 16 * partial
    }
}

/// Returns the bytes of workgroup memory that a tile takes for `y`.
pub fn memory(tile: Tile, y: Shape, element: Element) -> u32 {
    Layout::new(tile, y.pixels(), y.quads()).memory(element)
}

fn layout(layer: &Layer, tile: Tile) -> Layout {
    Layout::new(tile, layer.y.pixels(), layer.y.quads())
}

/// Returns the number of terms of a pixel's sum: the quads of inputs of every tap.
fn terms(conv: &Conv) -> usize {
    window::taps(conv) * conv.inputs().div_ceil(4)
}

/// The kernel as a [`LayerKernel`].
pub struct Staged;

impl LayerKernel for Staged {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, machine: &Machine) -> Vec<Tile> {
        let Some(conv) = window::conv(layer).filter(|_| machine.max_workgroup_size >= WORKGROUP_SIZE) else {
            return Vec::new();
        };
        let fits = |tile: &Tile| {
            tile.accumulators() <= machine.accumulators
                && tile.split as usize <= terms(conv)
                && layout(layer, *tile).memory(machine.element) <= machine.workgroup_memory
        };
        tiles().filter(fits).collect()
    }

    fn effort(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Effort {
        let iterations = terms(window::expect_conv(layer)).div_ceil((TILE_K * tile.split) as usize) as f64;
        let layout = layout(layer, tile);
        let gates = if layer.gated { TILE_K * layout.workgroup_p * tile.pixels } else { 0 };
        let loaded = layout.loaded() / layout.size() + 1;
        let multiplied = Effort {
            shared: f64::from(TILE_K * (tile.pixels + 4 * tile.quads)),
            macs: f64::from(TILE_K * 4 * tile.accumulators()),
            ..Effort::default()
        };
        // The current iteration's products hide a part of the wait for the next one's loads.
        let rates = &machine.rates;
        let hidden = multiplied.shared * rates.shared + multiplied.macs * rates.mac;
        let waits = 1.0 - (hidden / rates.latency.max(1.0)).min(1.0);
        let loads = f64::from(loaded + gates / layout.size());
        let iteration =
            multiplied + Effort { shared: f64::from(loaded), barriers: 2.0, ..Effort::of(waits, loads) };
        let combine = f64::from(tile.split.ilog2());
        let combine = Effort {
            shared: 2.0 * combine * f64::from(tile.accumulators()),
            barriers: 2.0 * combine,
            ..Effort::default()
        };
        iteration * iterations + Effort::of(1.0, loads) + combine + pointwise::epilogue_effort(layer, tile)
    }

    fn footprint(&self, layer: &Layer, machine: &Machine, tile: Tile) -> Footprint {
        let layout = layout(layer, tile);
        Footprint {
            invocations: layout.workgroups(layer.y.pixels(), layer.y.quads()) * WORKGROUP_SIZE as usize,
            values: tile.accumulators() + tile.pixels + 4 * tile.quads + layout.loaded() / layout.size() + 1,
            workgroup: WORKGROUP_SIZE,
            memory: layout.memory(machine.element),
        }
    }

    fn launch(&self, layer: &Layer, _: &Machine, tile: Tile) -> Launch {
        let conv = window::expect_conv(layer);
        launch(conv, layer.x(), layer.y, layer.window(conv), Extras::of(layer), tile)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        window::reference(layer, maps)
    }

    fn packing(&self, _: &Machine) -> Option<Packing> {
        Some(pointwise::PACKING)
    }
}

/// Returns the launch that computes `y` from `x`.
pub fn launch(conv: &Conv, x: Shape, y: Shape, reach: Window, extras: Extras, tile: Tile) -> Launch {
    let layout = Layout::new(tile, y.pixels(), y.quads());
    let tiled = [
        ("PIXELS", tile.pixels),
        ("QUADS", tile.quads),
        ("WORKGROUP_O", layout.workgroup_o),
        ("WORKGROUP_P", layout.workgroup_p),
        ("SPLIT", tile.split),
        ("TILE_K", TILE_K),
    ];
    Launch {
        shader: &SHADER,
        constants: [window::constants(conv, extras), tiled].concat(),
        params: window::params(x, y, reach),
        workgroups: spread(layout.workgroups(y.pixels(), y.quads())),
        arithmetic: Element::F32,
        tile: format!("{tile}, workgroups of {WORKGROUP_SIZE}"),
    }
    .placeable()
}
