//! A MobileNet block, or a part of it, in one kernel in int8: `shaders/block_int8.wgsl`.

use super::{
    Effort, Footprint, Launch, Machine, Shader, Tier,
    block::{self, Convs, Shapes, Tile, workgroups},
    depthwise, depthwise_int8,
    int8::{Epilogue, word},
    product_int8::{self, ADDRESSES, RESCALE, packed_dot, word_macs},
    spread,
};
use crate::{
    graph::{Conv, Int8, TABLE_ENTRIES},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "block_int8",
    source: include_str!("../../shaders/block_int8.wgsl"),
    reads: &["x", "weight", "product_weight", "output_params", "table", "residual"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["x", "weight", "product_weight", "output_params", "table", "residual", "y"],
    tier: Tier::Baseline,
};

/// The pixels that an invocation expands together.
const PIXELS: u32 = 4;

/// The cost of clamping, packing and storing four outputs, with their address, in multiply-adds. This and the next two
/// are from the assembly of AMD's compiler.
const STORED: f64 = 16.0;
/// The cost of the address and the padding of one word of the depthwise convolution's input, if it is read from a
/// buffer.
const READ: f64 = 6.0;
/// The cost of the addresses for one word of the projection's input.
const PROJECTED: f64 = 12.0;

/// The convolutions that the kernel computes, and their quantisation. All outputs are int8, and only the
/// projection may have a residual.
#[derive(Debug, Clone)]
pub struct BlockInt8<'a> {
    /// The convolutions.
    pub convs: Convs<'a>,
    /// The quantisation of the expansion, if there is one.
    pub expand: Option<Int8>,
    /// The quantisation of the depthwise convolution.
    pub depthwise: Int8,
    /// The quantisation of the projection, if there is one.
    pub project: Option<Int8>,
}

/// The epilogue of each convolution.
struct Epilogues {
    expand: Option<Epilogue>,
    depthwise: Epilogue,
    project: Option<Epilogue>,
}

impl Epilogues {
    fn all(&self) -> impl Iterator<Item = &Epilogue> {
        self.expand.iter().chain([&self.depthwise]).chain(&self.project)
    }
}

/// Returns the number of words of the expansion's input that are processed together.
fn depth(inputs: usize) -> u32 {
    [4, 2, 1].into_iter().find(|depth| inputs.is_multiple_of(*depth)).unwrap_or(1) as u32
}

impl BlockInt8<'_> {
    /// Returns the bytes of workgroup memory for this number of quads of inputs.
    pub fn memory(&self, inputs: usize, tile: Tile) -> u32 {
        let [h, w] = tile.region(self.convs.depthwise);
        let pixels = (h * w).next_multiple_of(PIXELS);
        let [staged, region] = match self.expand {
            Some(_) => [pixels * inputs as u32, pixels * tile.chunk],
            None => [1, 1],
        };
        let middle = if self.project.is_some() { tile.height * tile.width * tile.chunk } else { 1 };
        // WebGPU rounds each variable up to 16 bytes.
        [staged, region, middle].map(|words| 4 * words.next_multiple_of(4)).iter().sum()
    }

    /// Returns whether a machine has the memory, the invocations and the registers for the layers. Tiles that
    /// are not staged, or that split a projection, do not fit. Staged tiles stage only the expansion's input.
    pub fn fit(&self, shapes: Shapes, machine: &Machine, tile: Tile) -> bool {
        let sums = self.sums(shapes, tile);
        // As in floating point.
        let most = self.convs.most_accumulators(machine);
        tile.staged
            && (tile.splits == 1 || self.project.is_none())
            && self.memory(shapes.x.quads(), tile) <= machine.workgroup_memory
            && tile.threads <= machine.max_workgroup_size
            && sums <= most
            && machine.holds(sums + self.others(shapes, tile))
    }

    /// Returns the convolutions with their quantisation.
    fn quantised(&self) -> impl Iterator<Item = (&Conv, &Int8)> {
        let Convs { expand, depthwise, project } = self.convs;
        let expand = expand.zip(self.expand.as_ref());
        expand.into_iter().chain([(depthwise, &self.depthwise)]).chain(project.zip(self.project.as_ref()))
    }

    /// Returns the accumulators that an invocation keeps between chunks.
    fn sums(&self, shapes: Shapes, tile: Tile) -> u32 {
        let sums = tile.sums(shapes.y.quads());
        if self.project.is_some() { sums.pixels * sums.quads } else { 0 }
    }

    /// Returns the `vec4` values that an invocation keeps besides `sums`: during the expansion or the
    /// depthwise convolution, whichever needs more.
    fn others(&self, shapes: Shapes, tile: Tile) -> u32 {
        let expanding = self.expand.as_ref().map_or(0, |_| PIXELS + depth(shapes.x.quads()) + 4);
        expanding.max(tile.run + depthwise::span(self.convs.depthwise, tile.run) as u32)
    }

    /// Returns the effort of an invocation. The costs of matrix products and of rescaling are those of
    /// [`product_int8`].
    pub fn effort(&self, shapes: Shapes, machine: &Machine, tile: Tile) -> Effort {
        let inputs = shapes.x.quads();
        let each = |items: u32| f64::from(items.div_ceil(tile.threads));
        let [h, w] = tile.region(self.convs.depthwise);
        let products = |pixels: u32, quads: u32| word_macs(machine, pixels * quads, pixels, quads);
        // The epilogue of an item, and its addresses.
        let finished = |sums: u32| Effort {
            macs: (RESCALE + STORED) * f64::from(sums) + ADDRESSES,
            ..Effort::of(1.0, 4.0)
        };
        let mut begin = Effort::default();
        let mut chunk = Effort::default();

        if self.expand.is_some() {
            let own = each(h * w * inputs as u32);
            let staged = Effort::of((own / 8.0).ceil(), 0.5 * own);
            begin = begin + Effort { shared: 0.5 * own, barriers: 1.0, ..staged };
            let depth = f64::from(depth(inputs));
            let words = Effort {
                shared: 0.5 * depth * f64::from(PIXELS),
                macs: depth * products(PIXELS, 1),
                ..Effort::of(1.0, depth)
            };
            let item = words * (inputs as f64 / depth) + finished(PIXELS);
            let stored = Effort { shared: 0.5 * f64::from(PIXELS), ..Effort::default() };
            chunk = chunk + (item + stored) * each((h * w).div_ceil(PIXELS) * tile.chunk);
        }
        let kernel = self.convs.depthwise.kernel() as f64;
        let run = f64::from(tile.run);
        let reads = kernel * depthwise::span(self.convs.depthwise, tile.run) as f64;
        let taps = kernel * kernel;
        let mut item = Effort { macs: taps * run + 2.0 * (reads + taps), ..Effort::of(kernel, 0.5 * taps) };
        match self.expand {
            Some(_) => item.shared += 0.5 * reads,
            None => {
                item.loads += 0.5 * reads;
                item.macs += READ * reads;
            }
        }
        match self.project {
            Some(_) => item.shared += 0.5 * run,
            None => item.loads += 0.5 * run,
        }
        chunk = chunk + (item + finished(tile.run)) * each(tile.height * tile.width / tile.run * tile.chunk);

        if self.project.is_some() {
            let sums = tile.sums(shapes.y.quads());
            let word = Effort {
                shared: 0.5 * f64::from(sums.pixels),
                macs: products(sums.pixels, sums.quads) + PROJECTED,
                ..Effort::of(0.5, f64::from(sums.quads))
            };
            chunk = chunk + word * f64::from(tile.chunk);
            let times = if self.residual() { 2 } else { 1 };
            let stored = Effort::of(0.0, f64::from(times * sums.pixels * sums.quads));
            begin = begin + finished(times * sums.pixels) * f64::from(sums.quads) + stored;
        }
        chunk.barriers += 2.0;
        begin + chunk * tile.chunks(shapes.middle).1 as f64
    }

    /// Returns whether the projection adds a residual.
    fn residual(&self) -> bool {
        self.project.as_ref().is_some_and(|int8| int8.inputs.len() > 1)
    }

    /// Returns the size and the resources of the dispatch.
    pub fn footprint(&self, shapes: Shapes, tile: Tile) -> Footprint {
        Footprint {
            invocations: workgroups(tile, shapes.middle) * tile.threads as usize,
            values: self.sums(shapes, tile) + self.others(shapes, tile) + 4,
            workgroup: tile.threads,
            memory: self.memory(shapes.x.quads(), tile),
        }
    }

    /// Returns the bytes of its weights.
    pub fn weight_bytes(&self) -> u64 {
        self.quantised().map(|(conv, _)| conv.weight.data().len() as u64).sum()
    }

    fn epilogues(&self) -> Epilogues {
        let of = |(conv, quantisation): (&Conv, &Int8)| Epilogue::of(conv, quantisation);
        let mut expand = self.convs.expand.zip(self.expand.as_ref()).map(of);
        let mut depthwise = of((self.convs.depthwise, &self.depthwise));
        let mut project = self.convs.project.zip(self.project.as_ref()).map(of);
        Epilogue::align(expand.iter_mut().chain([&mut depthwise]).chain(&mut project).collect());
        Epilogues { expand, depthwise, project }
    }

    /// Returns the launch, and the contents of its constant bindings (weights, output parameters, tables) by name,
    /// without those that it does not read. The tile must [fit](Self::fit); its height, its width and its workgroup
    /// size must be powers of two.
    pub fn launch(
        &self,
        shapes: Shapes,
        machine: &Machine,
        tile: Tile,
    ) -> (Launch, Vec<(&'static str, Vec<u32>)>) {
        let epilogues = self.epilogues();
        (self.specialised(&epilogues, shapes, machine, tile), self.words(&epilogues, machine))
    }

    fn specialised(&self, epilogues: &Epilogues, shapes: Shapes, machine: &Machine, tile: Tile) -> Launch {
        let Shapes { x, y, .. } = shapes;
        let Epilogues { expand, depthwise, project } = epilogues;
        let conv = self.convs.depthwise;
        // Unused constants always have the same value, so that launches share a pipeline.
        let [inputs, depth] = if expand.is_some() { [x.quads() as u32, depth(x.quads())] } else { [1, 1] };
        let sums = tile.sums(y.quads());
        let [outputs, workgroup_o, workgroup_p, quads, pixels] = match project {
            Some(_) => [y.quads() as u32, sums.workgroup_o, sums.workgroup_p, sums.quads, sums.pixels],
            None => [1, tile.threads, 1, 1, 1],
        };
        let dot = |epilogue: &Option<Epilogue>| {
            epilogue.as_ref().is_some_and(|epilogue| packed_dot(epilogue, machine)).into()
        };
        let table = |epilogue: &Option<Epilogue>| epilogue.as_ref().is_some_and(Epilogue::has_table).into();
        let range = |epilogue: &Option<Epilogue>| epilogue.as_ref().map_or([0; 3], Epilogue::range);
        let [expand_range, project_range] = [range(expand), range(project)];
        let depthwise_range = depthwise.range();
        let mut params = block::params(shapes, tile).to_vec();
        params.extend([
            ("padding", word([self.depthwise.inputs[0].zero; 4])),
            ("expand_zero", expand_range[0]),
            ("expand_least", expand_range[1]),
            ("expand_most", expand_range[2]),
            ("depthwise_zero", depthwise_range[0]),
            ("depthwise_least", depthwise_range[1]),
            ("depthwise_most", depthwise_range[2]),
            ("project_zero", project_range[0]),
            ("project_least", project_range[1]),
            ("project_most", project_range[2]),
            ("residual_zero", project.as_ref().map_or(0, Epilogue::residual_zero)),
        ]);
        Launch {
            shader: &SHADER,
            constants: vec![
                ("EXPAND", expand.is_some().into()),
                ("PROJECT", project.is_some().into()),
                ("RESIDUAL", self.residual().into()),
                ("KERNEL", conv.kernel() as u32),
                ("STRIDE", conv.stride as u32),
                ("DILATION", conv.dilation as u32),
                ("TILE_H", tile.height),
                ("TILE_W", tile.width),
                ("CHUNK", tile.chunk),
                ("RUN", tile.run),
                ("INPUTS", inputs),
                ("OUTPUTS", outputs),
                ("DEPTH", depth),
                ("WORKGROUP_O", workgroup_o),
                ("WORKGROUP_P", workgroup_p),
                ("QUADS", quads),
                ("SUMS", pixels),
                ("EXPAND_DOT", dot(expand)),
                ("PROJECT_DOT", dot(project)),
                ("EXPAND_HAS_TABLE", table(expand)),
                ("DEPTHWISE_HAS_TABLE", depthwise.has_table().into()),
                ("PROJECT_HAS_TABLE", table(project)),
                ("BY_HALF", depthwise.by_half().into()),
                ("TABLE_WORDS", TABLE_ENTRIES as u32 / 4),
            ],
            params,
            workgroups: spread(workgroups(tile, shapes.middle)),
            arithmetic: Element::F32,
            tile: tile.describe(self.convs, shapes.middle),
        }
        .placeable()
    }

    fn words(&self, epilogues: &Epilogues, machine: &Machine) -> Vec<(&'static str, Vec<u32>)> {
        let Convs { expand, depthwise, project } = self.convs;
        let products = expand.zip(epilogues.expand.as_ref()).into_iter();
        let products = products.chain(project.zip(epilogues.project.as_ref()));
        let packed = |(conv, epilogue): (&Conv, &Epilogue)| {
            let quads = conv.inputs().div_ceil(4);
            product_int8::weights(conv, epilogue, packed_dot(epilogue, machine), quads)
        };
        let all = [
            ("weight", depthwise_int8::weights(depthwise, &epilogues.depthwise)),
            ("product_weight", products.flat_map(packed).collect()),
            ("output_params", epilogues.all().flat_map(Epilogue::output_params).collect()),
            ("table", epilogues.all().flat_map(Epilogue::table).collect()),
        ];
        all.into_iter().filter(|(_, words)| !words.is_empty()).collect()
    }
}
