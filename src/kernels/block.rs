//! A MobileNet block, or a part of it, in one kernel: `shaders/block.wgsl`.

use serde::{Deserialize, Serialize};

use super::{ALARM, Effort, Footprint, Launch, Machine, Shader, Tier, depthwise, pointwise, spread};
use crate::{
    Shape,
    graph::{Conv, Window},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "block",
    source: include_str!("../../shaders/block.wgsl"),
    reads: &["x", "weight", "product_weight", "bias", "residual"],
    writes: &["y", "sums"],
    textures: &[],
    always_32_bit: &["bias", "sums"],
    tier: Tier::Baseline,
};

/// The convolutions that the kernel computes: the depthwise one, alone or with one or both of the pointwise
/// ones.
#[derive(Debug, Clone, Copy)]
pub struct Convs<'a> {
    /// The pointwise convolution before the depthwise one.
    pub expand: Option<&'a Conv>,
    /// The depthwise convolution.
    pub depthwise: &'a Conv,
    /// The pointwise convolution after the depthwise one.
    pub project: Option<&'a Conv>,
}

/// The tiling of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tile {
    /// Output rows per workgroup.
    pub height: u32,
    /// Output columns per workgroup, a multiple of `run`.
    pub width: u32,
    /// Quads of expanded channels at a time.
    pub chunk: u32,
    /// Adjacent outputs that an invocation makes in the depthwise phase.
    pub run: u32,
    /// Workgroup size.
    pub threads: u32,
    /// Workgroups per tile, each with a part of the expanded channels.
    pub splits: u32,
    /// True if the expansion's input and the projection's weights are loaded to workgroup memory first.
    pub staged: bool,
}

/// The maximum quads of inputs per slice of the expansion's weights; workgroup memory holds one slice.
const SLICE: u32 = 8;

/// The maximum `vec4`s per slice of the projection's weights: 8 KiB in f32.
const SLICE_W: u32 = 512;

/// Devices with at least these bytes of workgroup memory use staged tiles only.
const ROOMY: u32 = 32_768;

/// See [`Tile::slices`].
struct Slices {
    /// Quads of inputs per slice.
    expand: u32,
    /// Quads of expanded channels per slice.
    project: u32,
    /// `vec4`s per slice.
    expand_w: u32,
    project_w: u32,
}

/// The shapes around a block.
#[derive(Debug, Clone, Copy)]
pub struct Shapes {
    /// The shape of its input.
    pub x: Shape,
    /// The shape of the depthwise convolution's output.
    pub middle: Shape,
    /// The shape of its output.
    pub y: Shape,
    /// The depthwise convolution's window.
    pub window: Window,
}

impl Tile {
    /// Returns the rows and columns of the input that a tile's windows read.
    pub fn region(self, depthwise: &Conv) -> [u32; 2] {
        let reach = (depthwise.dilation * (depthwise.kernel() - 1)) as u32;
        [self.height, self.width].map(|side| (side - 1) * depthwise.stride as u32 + reach + 1)
    }

    /// Returns the `vec4`s of workgroup memory for these numbers of quads of inputs and outputs.
    pub fn memory_quads(self, convs: Convs, inputs: usize, outputs: usize) -> u32 {
        let [h, w] = self.region(convs.depthwise);
        let slices = self.slices(inputs, outputs);
        let [expand, project] =
            [convs.expand.map(|_| slices.expand_w), convs.project.map(|_| slices.project_w)]
                .map(Option::unwrap_or_default);
        let staged = if self.staged && convs.expand.is_some() { h * w * inputs as u32 } else { 1 };
        let region = staged + if convs.expand.is_some() { h * w * self.chunk } else { 1 };
        region + self.height * self.width * self.chunk + 1 + expand.max(project)
    }

    /// Returns the slices in which weights are loaded to workgroup memory.
    fn slices(self, inputs: usize, outputs: usize) -> Slices {
        let (inputs, outputs) = (inputs as u32, outputs as u32);
        // At most this many quads of inputs, fewer where that makes slices more equal. Unstaged tiles are for
        // devices with little memory, where smaller slices leave room for larger tiles.
        let most = if self.staged { SLICE } else { SLICE / 2 };
        let expand = inputs.div_ceil(inputs.div_ceil(most));
        let fits = |slice: &u32| 4 * slice * outputs <= SLICE_W;
        let whole = [8, 4, 2, 1].into_iter().filter(|slice| *slice <= self.chunk);
        let project = if self.staged { whole.into_iter().find(fits).unwrap_or(1) } else { self.chunk };
        let project_w = if self.staged { 4 * project * outputs } else { 0 };
        Slices { expand, project, expand_w: 4 * expand * self.chunk, project_w }
    }

    /// Returns the number of tiles of a map.
    pub fn tiles(self, map: Shape) -> usize {
        map.h.div_ceil(self.height as usize) * map.w.div_ceil(self.width as usize)
    }

    /// Returns the number of chunks of the expanded channels, and the number per workgroup.
    pub(super) fn chunks(self, middle: Shape) -> (usize, usize) {
        let chunks = middle.quads().div_ceil(self.chunk as usize);
        (chunks, chunks.div_ceil(self.splits as usize))
    }

    /// Describes it, for a kernel of these layers.
    pub(super) fn describe(self, convs: Convs, middle: Shape) -> String {
        let phases = match (convs.expand.is_some(), convs.project.is_some()) {
            (true, true) => "expand, depthwise, project",
            (true, false) => "expand, depthwise",
            (false, true) => "depthwise, project",
            (false, false) => "depthwise",
        };
        let Self { height, width, chunk, .. } = self;
        let (chunks, share) = self.chunks(middle);
        let split = if self.splits > 1 {
            format!(", {share} of {chunks} chunks per workgroup")
        } else {
            String::new()
        };
        format!("{phases}: {height}x{width} px, {} of {} ch at a time{split}", chunk * 4, middle.c)
    }

    /// Removes splits that have no work, for this depthwise output.
    pub fn trimmed(self, middle: Shape) -> Self {
        let (chunks, share) = self.chunks(middle);
        Self { splits: chunks.div_ceil(share) as u32, ..self }
    }

    /// Returns the layout of invocations over a tile's outputs, and the accumulators of each.
    pub fn sums(self, outputs: usize) -> Sums {
        let pixels = self.height * self.width;
        let along_outputs = (outputs as u32).next_power_of_two().min(self.threads);
        let workgroup_p = (self.threads / along_outputs).min(pixels);
        let workgroup_o = self.threads / workgroup_p;
        Sums {
            workgroup_o,
            workgroup_p,
            quads: (outputs as u32).div_ceil(workgroup_o),
            pixels: pixels / workgroup_p,
        }
    }
}

/// Returns the candidates for a map of depthwise outputs, with and without splits: the smallest tile, and
/// those that are not much larger than the map.
pub fn tiles(map: Shape) -> Vec<Tile> {
    let covers = |side: usize, tile: u32| (tile as usize) < 2 * side.next_power_of_two();
    let mut tiles = Vec::new();
    let smallest = [2, 4];
    for [height, width] in [smallest, [4, 4], [4, 8], [8, 8]] {
        if [height, width] != smallest && !(covers(map.h, height) && covers(map.w, width)) {
            continue;
        }
        for (chunk, run) in [(4, 2), (4, 4), (8, 2), (8, 4)] {
            for threads in [64, 128, 256] {
                for splits in [1, 2, 4, 8, 16] {
                    let tile = Tile { height, width, chunk, run, threads, splits, staged: true }.trimmed(map);
                    if !tiles.contains(&tile) {
                        tiles.extend([tile, Tile { staged: false, ..tile }]);
                    }
                }
            }
        }
    }
    tiles
}

impl<'a> Convs<'a> {
    /// Returns whether a machine has the memory, the invocations and the registers for them, with these
    /// numbers of quads of inputs and outputs.
    pub fn fit(self, inputs: usize, outputs: usize, machine: &Machine, tile: Tile) -> bool {
        let fits = machine.quad_bytes(tile.memory_quads(self, inputs, outputs)) <= machine.workgroup_memory
            && tile.threads <= machine.max_workgroup_size
            // With ample memory, a tile that fits only unstaged is worse than smaller staged tiles.
            && (tile.staged || machine.workgroup_memory < ROOMY);
        let kept = self.kept(outputs, tile);
        let sums = kept.pixels * kept.quads;
        // The projection's accumulators stay in registers during the depthwise phase, which loads all weights
        // of a small window together. They also stay there during the expansion, next to its accumulators
        // and its weights in flight.
        let kernel = self.depthwise.kernel() as u32;
        let taps = if kernel < 4 { kernel * kernel } else { 0 };
        let window = tile.run + depthwise::span(self.depthwise, tile.run) as u32 + taps;
        let weights = tile.slices(inputs, outputs).expand_w.div_ceil(tile.threads);
        let expanding = self.expand.map_or(0, |_| 4 * self.items(tile) + weights);
        let keeps = sums <= self.most_accumulators(machine)
            && machine.holds(sums + window)
            && expanding + sums <= machine.accumulators;
        fits && sums > 0 && keeps
    }

    /// Returns the accumulators that an invocation can keep during the depthwise phase.
    pub(super) fn most_accumulators(self, machine: &Machine) -> u32 {
        // With a dilation of four, Ada's compiler spills sixteen accumulators. So every machine gets half as many if
        // the dilation is 3 or more.
        if self.depthwise.dilation > 2 { machine.accumulators / 2 } else { machine.accumulators }
    }

    /// Returns the number of items of four pixels that an invocation expands.
    fn items(self, tile: Tile) -> u32 {
        let [h, w] = tile.region(self.depthwise);
        ((h * w).div_ceil(4) * tile.chunk).div_ceil(tile.threads)
    }

    /// Returns the accumulators that an invocation keeps between chunks.
    fn kept(self, outputs: usize, tile: Tile) -> Sums {
        match self.project {
            Some(_) => tile.sums(outputs),
            None => Sums { workgroup_o: tile.threads, workgroup_p: 1, quads: 1, pixels: 1 },
        }
    }

    /// Returns the effort of an invocation. With `pool` this includes the sums of depthwise outputs for
    /// squeeze-excite.
    pub fn effort(self, shapes: Shapes, pool: bool, tile: Tile) -> Effort {
        let (inputs, outputs) = (shapes.x.quads(), shapes.y.quads());
        let slices = tile.slices(inputs, outputs);
        let each = |items: u32| f64::from(items.div_ceil(tile.threads));
        let [h, w] = tile.region(self.depthwise);
        let pixels = tile.height * tile.width;
        let mut begin = Effort::of(1.0, 1.0);
        let mut chunk = Effort { barriers: 1.0, ..Effort::default() };

        let kernel = self.depthwise.kernel() as f64;
        let reads = kernel * depthwise::span(self.depthwise, tile.run) as f64;
        let run = f64::from(tile.run);
        let mut window =
            Effort { macs: kernel * kernel * run, shared: run, ..Effort::of(1.0, kernel * kernel) };
        match self.expand {
            Some(_) => window.shared += reads,
            None => window.loads += reads,
        }
        if self.project.is_none() {
            window.loads += run;
        }
        chunk = chunk + window * each(pixels / tile.run * tile.chunk);

        if self.expand.is_some() {
            if tile.staged {
                let own = each(h * w * inputs as u32);
                begin = begin + Effort { shared: own, ..Effort::of(1.0, own) };
            }
            let items = f64::from(self.items(tile));
            let slice = f64::from(slices.expand);
            let loaded = each(slices.expand_w);
            let pixels = items * slice * 4.0;
            let multiplied = Effort { shared: pixels, macs: 4.0 * pixels, ..Effort::default() }
                + if tile.staged {
                    Effort { shared: pixels, ..Effort::default() }
                } else {
                    Effort::of(1.0, pixels)
                };
            let loaded = Effort { shared: loaded, barriers: 2.0, ..Effort::of(1.0, loaded) };
            chunk = chunk + (multiplied + loaded) * f64::from((inputs as u32).div_ceil(slices.expand));
            chunk = chunk + Effort { shared: 4.0 * items, barriers: 1.0, ..Effort::of(0.0, items) };
        }
        if self.project.is_some() {
            let Sums { quads, pixels, .. } = tile.sums(outputs);
            let loaded = each(slices.project_w);
            let slice = f64::from(slices.project);
            let weights = slice * f64::from(4 * quads);
            let multiplied = Effort {
                shared: slice * f64::from(pixels),
                macs: slice * f64::from(4 * pixels * quads),
                ..Effort::default()
            };
            let weights = if tile.staged {
                Effort { shared: loaded + weights, barriers: 2.0, ..Effort::of(1.0, loaded) }
            } else {
                Effort { barriers: 1.0, ..Effort::of(slice / 2.0, weights) }
            };
            chunk = chunk + (multiplied + weights) * f64::from(tile.chunk / slices.project);
            begin = begin + Effort::of(1.0, f64::from(2 * pixels * quads));
        }
        if self.project.is_none() && pool {
            // An invocation adds up a whole tile.
            let added = each(tile.chunk);
            chunk =
                chunk + Effort { shared: added * f64::from(pixels), barriers: 1.0, ..Effort::of(0.0, added) };
        }
        let chunks = shapes.middle.quads().div_ceil(tile.chunk as usize);
        begin + chunk * chunks.div_ceil(tile.splits as usize) as f64
    }

    /// Returns the size and the resources of the dispatch.
    pub fn footprint(self, shapes: Shapes, machine: &Machine, tile: Tile) -> Footprint {
        let outputs = shapes.y.quads();
        let kept = self.kept(outputs, tile);
        let others = (4 * self.items(tile)).max(tile.run + depthwise::span(self.depthwise, tile.run) as u32);
        Footprint {
            invocations: workgroups(tile, shapes.middle) * tile.threads as usize,
            values: kept.pixels * kept.quads + others + 8,
            workgroup: tile.threads,
            memory: machine.quad_bytes(tile.memory_quads(self, shapes.x.quads(), outputs)),
        }
    }

    /// Returns them in the order in which they are computed.
    pub fn all(self) -> impl Iterator<Item = &'a Conv> {
        self.expand.into_iter().chain([self.depthwise]).chain(self.project)
    }

    /// Returns their multiply-adds. Tiles repeat the expansion of pixels where their windows overlap.
    pub fn macs(self, shapes: Shapes, tile: Tile) -> u64 {
        let of = |conv: &Conv, pixels: usize| pixels * conv.weight.data().len();
        let [h, w] = tile.region(self.depthwise);
        let expanded = shapes.x.n * tile.tiles(shapes.middle) * (h * w) as usize;
        let macs = self.expand.map_or(0, |conv| of(conv, expanded))
            + of(self.depthwise, shapes.middle.pixels())
            + self.project.map_or(0, |conv| of(conv, shapes.y.pixels()));
        macs as u64
    }
}

/// Returns the number of workgroups for a map of depthwise outputs.
pub fn workgroups(tile: Tile, middle: Shape) -> usize {
    middle.n * tile.tiles(middle) * tile.splits as usize
}

/// Returns the bytes of the tiles' sums for squeeze-excite's gate.
pub fn pooled_bytes(map: Shape, tile: Tile) -> u64 {
    (map.n * tile.tiles(map) * map.quads() * 16) as u64
}

/// Returns the bytes of a split projection's partial sums. They may be far larger than the output, because
/// they stay f32.
pub fn partial_sum_bytes(y: Shape, tile: Tile) -> u64 {
    y.device_bytes(Element::F32) * u64::from(tile.splits)
}

/// See [`Tile::sums`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// Invocations along the output channels.
    pub workgroup_o: u32,
    /// Invocations along the pixels.
    pub workgroup_p: u32,
    /// Quads per invocation.
    pub quads: u32,
    /// Pixels per invocation.
    pub pixels: u32,
}

/// Returns the launch. If a projection is split ([`Tile::splits`]), its partial sums are stored in `sums`,
/// for [`super::reduce`], and `y` is not written. With `pool`, `sums` instead holds each tile's sums of the
/// depthwise outputs, one row per tile.
///
/// The tile must be [trimmed](Tile::trimmed); its height, its width and its workgroup size must be powers of
/// two.
pub fn launch(convs: Convs, shapes: Shapes, residual: bool, pool: bool, tile: Tile) -> Launch {
    let Shapes { x, y, .. } = shapes;
    let code = |conv: Option<&Conv>| conv.map_or(0, |c| c.activation.code());
    let project = convs.project.is_some();
    let split = project && tile.splits > 1;
    let sums = convs.kept(y.quads(), tile);
    let slices = tile.slices(x.quads(), y.quads());
    // Unused constants always have the same value, so that launches share a pipeline.
    let [inputs, expand_slice] =
        if convs.expand.is_some() { [x.quads() as u32, slices.expand] } else { [1, 1] };
    let [outputs, project_slice] = if project { [y.quads() as u32, slices.project] } else { [1, 1] };
    Launch {
        shader: &SHADER,
        constants: vec![
            ("EXPAND", convs.expand.is_some().into()),
            ("STAGED", tile.staged.into()),
            ("PROJECT", project.into()),
            ("POOL", pool.into()),
            ("SPLIT", split.into()),
            ("RESIDUAL", (residual && !split).into()),
            ("KERNEL", convs.depthwise.kernel() as u32),
            ("STRIDE", convs.depthwise.stride as u32),
            ("DILATION", convs.depthwise.dilation as u32),
            ("TILE_H", tile.height),
            ("TILE_W", tile.width),
            ("CHUNK", tile.chunk),
            ("RUN", tile.run),
            ("INPUTS", inputs),
            ("OUTPUTS", outputs),
            ("EXPAND_SLICE", expand_slice),
            ("PROJECT_SLICE", project_slice),
            ("WORKGROUP_O", sums.workgroup_o),
            ("WORKGROUP_P", sums.workgroup_p),
            ("QUADS", sums.quads),
            ("SUMS", sums.pixels),
            ("EXPAND_ACTIVATION", code(convs.expand)),
            ("DEPTHWISE_ACTIVATION", convs.depthwise.activation.code()),
            ("ACTIVATION", code(convs.project)),
        ],
        params: [ALARM].into_iter().chain(params(shapes, tile)).collect(),
        workgroups: spread(workgroups(tile, shapes.middle)),
        arithmetic: Element::F32,
        tile: tile.describe(convs, shapes.middle),
    }
    .placeable()
}

/// Returns the parameters that block kernels share.
pub(super) fn params(shapes: Shapes, tile: Tile) -> [(&'static str, u32); 12] {
    let Shapes { x, middle, y, window } = shapes;
    let (_, share) = tile.chunks(middle);
    [
        ("height", x.h as u32),
        ("width", x.w as u32),
        ("out_height", middle.h as u32),
        ("out_width", middle.w as u32),
        ("top", window.top as u32),
        ("left", window.left as u32),
        ("pictures", x.n as u32),
        ("inputs", x.quads() as u32),
        ("expanded", middle.quads() as u32),
        ("outputs", y.quads() as u32),
        ("share", share as u32),
        ("splits", tile.splits),
    ]
}

/// Packs the weights of both products: the expansion's, the projection's.
pub fn pack_products(convs: Convs) -> Vec<f32> {
    convs.expand.into_iter().chain(convs.project).flat_map(pointwise::pack).collect()
}

/// Packs the biases: the expansion's, the depthwise convolution's, the projection's. The kernel does not read
/// the last if its sums go to [`super::reduce`].
pub fn pack_bias(convs: Convs) -> Vec<f32> {
    [convs.expand, Some(convs.depthwise), convs.project]
        .into_iter()
        .flatten()
        .flat_map(super::pack_bias)
        .collect()
}
