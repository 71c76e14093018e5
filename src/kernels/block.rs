//! A block in one kernel, or all of it but one convolution: `shaders/block.wgsl`.

use serde::{Deserialize, Serialize};

use super::{ALARM, Crowd, Effort, Launch, Machine, Shader, Tier, Work, depthwise, pointwise, spread};
use crate::{
    Shape,
    graph::{Conv, Window},
    tensor::Element,
};

/// The kernel.
pub const SHADER: Shader = Shader {
    name: "block",
    source: include_str!("../../shaders/block.wgsl"),
    reads: &["x", "weight", "product_weight", "bias", "residual"],
    writes: &["y", "sums"],
    textures: &[],
    sums: &["bias", "sums"],
    tier: Tier::Baseline,
};

/// The convolutions that the kernel computes: the depthwise one and one or both of its
/// neighbours, or the depthwise one with the sums of its tiles.
#[derive(Debug, Clone, Copy)]
pub struct Convs<'a> {
    /// The pointwise convolution before it.
    pub expand: Option<&'a Conv>,
    /// The depthwise convolution.
    pub depthwise: &'a Conv,
    /// The pointwise convolution behind it.
    pub project: Option<&'a Conv>,
}

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tile {
    /// Output rows of a workgroup.
    pub height: u32,
    /// Output columns of a workgroup, a multiple of `run`.
    pub width: u32,
    /// Expanded channels at a time, in fours.
    pub chunk: u32,
    /// Neighbouring outputs that a thread makes in the depthwise phase.
    pub run: u32,
    /// Threads of a workgroup.
    pub threads: u32,
    /// Workgroups that share a tile, each with a part of the expanded channels.
    pub splits: u32,
    /// Whether what the expansion reads and the projection's weights are brought to workgroup memory first.
    pub staged: bool,
}

/// The most inputs, in fours, whose weights of the expansion are in workgroup memory at once.
const SLICE: u32 = 8;

/// The most `vec4`s of the projection's weights that are: 8 KiB in f32.
const SLICE_W: u32 = 512;

/// Bytes of workgroup memory from which on nothing is left unstaged.
const ROOMY: u32 = 32_768;

/// See [`Tile::slices`].
struct Slices {
    /// Inputs, in fours.
    expand: u32,
    /// Expanded channels, in fours.
    project: u32,
    /// `vec4`s of each.
    expand_w: u32,
    project_w: u32,
}

/// The shapes around a block.
#[derive(Debug, Clone, Copy)]
pub struct Shapes {
    /// Of its input.
    pub x: Shape,
    /// Of the depthwise convolution's output.
    pub middle: Shape,
    /// Of its output.
    pub y: Shape,
    /// The depthwise convolution's window.
    pub window: Window,
}

impl Tile {
    /// Rows and columns of the input that a tile's windows reach.
    pub fn region(self, depthwise: &Conv) -> [u32; 2] {
        let reach = (depthwise.dilation * (depthwise.kernel() - 1)) as u32;
        [self.height, self.width].map(|side| (side - 1) * depthwise.stride as u32 + reach + 1)
    }

    /// `vec4`s of workgroup memory, with so many quads of inputs and of outputs.
    pub fn memory(self, convs: Convs, inputs: usize, outputs: usize) -> u32 {
        let [h, w] = self.region(convs.depthwise);
        let slices = self.slices(inputs, outputs);
        let [expand, project] =
            [convs.expand.map(|_| slices.expand_w), convs.project.map(|_| slices.project_w)]
                .map(Option::unwrap_or_default);
        let staged = if self.staged && convs.expand.is_some() { h * w * inputs as u32 } else { 1 };
        let region = staged + if convs.expand.is_some() { h * w * self.chunk } else { 1 };
        region + self.height * self.width * self.chunk + 1 + expand.max(project)
    }

    /// How weights come to workgroup memory.
    fn slices(self, inputs: usize, outputs: usize) -> Slices {
        let (inputs, outputs) = (inputs as u32, outputs as u32);
        // So many inputs at a time, or a few less if the last slice has fewer then. What is not staged is what has
        // little memory, and with half as many a larger tile fits.
        let most = if self.staged { SLICE } else { SLICE / 2 };
        let expand = inputs.div_ceil(inputs.div_ceil(most));
        let fits = |slice: &u32| 4 * slice * outputs <= SLICE_W;
        let whole = [8, 4, 2, 1].into_iter().filter(|slice| *slice <= self.chunk);
        let project = if self.staged { whole.into_iter().find(fits).unwrap_or(1) } else { self.chunk };
        let project_w = if self.staged { 4 * project * outputs } else { 0 };
        Slices { expand, project, expand_w: 4 * expand * self.chunk, project_w }
    }

    /// Tiles of a map.
    pub fn tiles(self, map: Shape) -> usize {
        map.h.div_ceil(self.height as usize) * map.w.div_ceil(self.width as usize)
    }

    /// Chunks of the expanded channels, and how many of them a workgroup walks.
    fn chunks(self, middle: Shape) -> (usize, usize) {
        let chunks = middle.quads().div_ceil(self.chunk as usize);
        (chunks, chunks.div_ceil(self.splits as usize))
    }

    /// The same tile with no more splits than have work, given the depthwise output.
    pub fn trimmed(self, middle: Shape) -> Self {
        let (chunks, share) = self.chunks(middle);
        Self { splits: chunks.div_ceil(share) as u32, ..self }
    }

    /// How threads lie over a tile's outputs: along the channels and along the pixels, and how
    /// many quads and pixels each keeps sums of.
    pub fn sums(self, outputs: usize) -> Sums {
        let pixels = self.height * self.width;
        let wanted = (outputs as u32).next_power_of_two().min(self.threads);
        let lanes_p = (self.threads / wanted).min(pixels);
        let lanes_o = self.threads / lanes_p;
        Sums { lanes_o, lanes_p, quads: (outputs as u32).div_ceil(lanes_o), pixels: pixels / lanes_p }
    }
}

/// Tiles worth trying on a map of the depthwise outputs: the smallest there is or not much larger than the map,
/// whole and split.
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

impl Convs<'_> {
    /// Whether a machine has the memory, the invocations and the registers for them, with so many quads of inputs and
    /// of outputs.
    pub fn fit(self, inputs: usize, outputs: usize, machine: &Machine, tile: Tile) -> bool {
        let fits = machine.quads(tile.memory(self, inputs, outputs)) <= machine.workgroup_memory
            && tile.threads <= machine.workgroup_threads
            // Where there is room for most tiles, what has none is better cut otherwise.
            && (tile.staged || machine.workgroup_memory < ROOMY);
        let kept = self.kept(outputs, tile);
        let sums = kept.pixels * kept.quads;
        // Sums stay in registers through the depthwise phase, which takes all weights of a small window at once, and
        // beside what the expansion adds up and the weights that it has under way.
        let kernel = self.depthwise.kernel() as u32;
        let taps = if kernel < 4 { kernel * kernel } else { 0 };
        let window = tile.run + depthwise::span(self.depthwise, tile.run) as u32 + taps;
        let weights = tile.slices(inputs, outputs).expand_w.div_ceil(tile.threads);
        let expanding = self.expand.map_or(0, |_| 4 * self.items(tile) + weights);
        // Ada's compiler puts sixteen sums into scratch memory beside windows whose taps are four pixels apart.
        let most = if self.depthwise.dilation > 2 { machine.sums / 2 } else { machine.sums };
        let keeps = sums <= most && machine.holds(sums + window) && expanding + sums <= machine.sums;
        fits && sums > 0 && keeps
    }

    /// Items of four pixels that a thread expands.
    fn items(self, tile: Tile) -> u32 {
        let [h, w] = tile.region(self.depthwise);
        ((h * w).div_ceil(4) * tile.chunk).div_ceil(tile.threads)
    }

    /// How sums lie over the threads, if there are any.
    fn kept(self, outputs: usize, tile: Tile) -> Sums {
        match self.project {
            Some(_) => tile.sums(outputs),
            None => Sums { lanes_o: tile.threads, lanes_p: 1, quads: 1, pixels: 1 },
        }
    }

    /// What an invocation does; with `pool` it adds up tiles for squeeze-excite.
    pub fn effort(self, shapes: Shapes, pool: bool, tile: Tile) -> Effort {
        let (inputs, outputs) = (shapes.x.quads(), shapes.y.quads());
        let slices = tile.slices(inputs, outputs);
        let each = |items: u32| f64::from(items.div_ceil(tile.threads));
        let [h, w] = tile.region(self.depthwise);
        let pixels = tile.height * tile.width;
        let mut begin = Effort::of(1.0, 1.0);
        let mut chunk = Effort { barriers: 1.0, ..Effort::default() };

        let kernel = self.depthwise.kernel() as f64;
        let taken = kernel * depthwise::span(self.depthwise, tile.run) as f64;
        let run = f64::from(tile.run);
        let mut window =
            Effort { macs: kernel * kernel * run, shared: run, ..Effort::of(1.0, kernel * kernel) };
        match self.expand {
            Some(_) => window.shared += taken,
            None => window.loads += taken,
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
            let brought = each(slices.expand_w);
            let pixels = items * slice * 4.0;
            let multiplied = Effort { shared: pixels, macs: 4.0 * pixels, ..Effort::default() }
                + if tile.staged {
                    Effort { shared: pixels, ..Effort::default() }
                } else {
                    Effort::of(1.0, pixels)
                };
            let brought = Effort { shared: brought, barriers: 2.0, ..Effort::of(1.0, brought) };
            chunk = chunk + (multiplied + brought) * f64::from((inputs as u32).div_ceil(slices.expand));
            chunk = chunk + Effort { shared: 4.0 * items, barriers: 1.0, ..Effort::of(0.0, items) };
        }
        if self.project.is_some() {
            let Sums { quads, pixels, .. } = tile.sums(outputs);
            let brought = each(slices.project_w);
            let slice = f64::from(slices.project);
            let weights = slice * f64::from(4 * quads);
            let multiplied = Effort {
                shared: slice * f64::from(pixels),
                macs: slice * f64::from(4 * pixels * quads),
                ..Effort::default()
            };
            let weights = if tile.staged {
                Effort { shared: brought + weights, barriers: 2.0, ..Effort::of(1.0, brought) }
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

    /// What a run starts.
    pub fn crowd(self, shapes: Shapes, machine: &Machine, tile: Tile) -> Crowd {
        let outputs = shapes.y.quads();
        let kept = self.kept(outputs, tile);
        let beside = (4 * self.items(tile)).max(tile.run + depthwise::span(self.depthwise, tile.run) as u32);
        Crowd {
            invocations: workgroups(tile, shapes.middle) * tile.threads as usize,
            values: kept.pixels * kept.quads + beside + 8,
            workgroup: tile.threads,
            memory: machine.quads(tile.memory(self, shapes.x.quads(), outputs)),
        }
    }

    /// What they move and compute, writing so many bytes. Tiles expand the pixels where their windows overlap
    /// again.
    pub fn work(self, shapes: Shapes, machine: &Machine, tile: Tile, written: u64) -> Work {
        let all = self.expand.into_iter().chain([self.depthwise]).chain(self.project);
        let weights: u64 = all.map(|conv| machine.weights(conv)).sum();
        let of = |conv: &Conv, pixels: usize| pixels * conv.weight.data().len();
        let [h, w] = tile.region(self.depthwise);
        let expanded = shapes.x.n * tile.tiles(shapes.middle) * (h * w) as usize;
        let macs = self.expand.map_or(0, |conv| of(conv, expanded))
            + of(self.depthwise, shapes.middle.pixels())
            + self.project.map_or(0, |conv| of(conv, shapes.y.pixels()));
        Work { bytes: machine.bytes(shapes.x) + written + weights, macs: macs as u64 }
    }
}

/// Workgroups of a tile over a map of the depthwise outputs.
pub fn workgroups(tile: Tile, middle: Shape) -> usize {
    middle.n * tile.tiles(middle) * tile.splits as usize
}

/// Bytes of the sums that tiles leave for squeeze-excite's gate.
pub fn pooled_bytes(map: Shape, tile: Tile) -> u64 {
    (map.n * tile.tiles(map) * map.quads() * 16) as u64
}

/// Bytes of the parts of a split projection. They may be far larger than what they add up to:
/// they are sums, and stay f32.
pub fn parts_bytes(y: Shape, tile: Tile) -> u64 {
    y.device_bytes(Element::F32) * u64::from(tile.splits)
}

/// See [`Tile::sums`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// Threads along the output channels.
    pub lanes_o: u32,
    /// Threads along the pixels.
    pub lanes_p: u32,
    /// Quads of a thread.
    pub quads: u32,
    /// Pixels of a thread.
    pub pixels: u32,
}

/// One run. With `splits` the answer of a projection comes in parts in `sums`, for
/// [`super::reduce`], and `y` stays as it is; with `pool` the sums of the depthwise outputs go
/// there, a row a tile.
///
/// The tile must be [trimmed](Tile::trimmed), its sides and its thread count powers of two.
pub fn launch(convs: Convs, shapes: Shapes, residual: bool, pool: bool, tile: Tile) -> Launch {
    let Shapes { x, middle, y, window } = shapes;
    let code = |conv: Option<&Conv>| conv.map_or(0, |c| c.activation.code());
    let project = convs.project.is_some();
    let split = project && tile.splits > 1;
    let sums = convs.kept(y.quads(), tile);
    let slices = tile.slices(x.quads(), y.quads());
    // What does not count is alike for all.
    let [inputs, expand_slice] =
        if convs.expand.is_some() { [x.quads() as u32, slices.expand] } else { [1, 1] };
    let [outputs, project_slice] = if project { [y.quads() as u32, slices.project] } else { [1, 1] };
    let (chunks, share) = tile.chunks(middle);
    let phases = match (convs.expand.is_some(), project) {
        (true, true) => "expand, depthwise, project",
        (true, false) => "expand, depthwise",
        (false, true) => "depthwise, project",
        (false, false) => "depthwise",
    };
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
            ("LANES_O", sums.lanes_o),
            ("LANES_P", sums.lanes_p),
            ("QUADS", sums.quads),
            ("SUMS", sums.pixels),
            ("EXPAND_ACTIVATION", code(convs.expand)),
            ("DEPTHWISE_ACTIVATION", convs.depthwise.activation.code()),
            ("ACTIVATION", code(convs.project)),
        ],
        params: vec![
            ALARM,
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
        ],
        workgroups: spread(workgroups(tile, middle)),
        arithmetic: Element::F32,
        tile: format!(
            "{phases}: {}x{} px, {} of {} ch at a time{}",
            tile.height,
            tile.width,
            tile.chunk * 4,
            middle.c,
            if tile.splits > 1 { format!(", {share} of {chunks} chunks a workgroup") } else { String::new() }
        ),
    }
    .placeable()
}

/// The weights of both products as the kernel reads them: the expansion's, the projection's.
pub fn pack_products(convs: Convs) -> Vec<f32> {
    convs.expand.into_iter().chain(convs.project).flat_map(pointwise::pack).collect()
}

/// The biases as the kernel reads them: the expansion's, the depthwise, the projection's,
/// without the last if its sums go to [`super::reduce`].
pub fn pack_bias(convs: Convs) -> Vec<f32> {
    [convs.expand, Some(convs.depthwise), convs.project]
        .into_iter()
        .flatten()
        .flat_map(super::pack_bias)
        .collect()
}
