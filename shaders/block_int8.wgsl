// A MobileNet block in one kernel, in int8: the depthwise convolution with the expansion, the projection, or
// both. A word is four channels of a pixel. Intermediate maps never leave the workgroup, and hold the integers
// that separate layers would store, so that the outputs are equal bit for bit.
//
// A workgroup makes TILE_H x TILE_W outputs, as in `block.wgsl`, and iterates over the expanded channels,
// CHUNK words at a time:
//   expand     every pixel that the tile's windows read, into workgroup memory (if EXPAND)
//   depthwise  over those pixels, or over x, into workgroup memory, or into y without PROJECT
//   project    the chunk's contribution to every output, added up in registers (if PROJECT)
// The pixels of x that the expansion reads are loaded to workgroup memory once per tile. Weights are loaded
// directly: a quarter as much as floating-point ones. Without PROJECT, a map with few tiles is split over the
// expanded channels too: a workgroup then processes `share` chunks of them.
//
// Products are added up as in `product_int8.wgsl`, by packed dot products if EXPAND_DOT or PROJECT_DOT,
// otherwise exactly in f32, as the depthwise ones always are.

struct Params {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,      // rows of padding above
    left: u32,     // columns of padding on the left
    pictures: u32,
    inputs: u32,   // channels of x / 4, rounded up
    expanded: u32, // channels of the depthwise convolution / 4, rounded up
    outputs: u32,  // channels of y / 4, rounded up
    share: u32,    // chunks per workgroup
    splits: u32,   // workgroups per tile
    padding: u32,  // the zero point of the depthwise convolution's input in all four bytes: the padding
    // Zero point, or the index of the table's entry for 0, and bounds of the rescaled sums.
    expand_zero: u32,
    expand_least: u32,
    expand_most: u32,
    depthwise_zero: u32,
    depthwise_least: u32,
    depthwise_most: u32,
    project_zero: u32,
    project_least: u32,
    project_most: u32,
    residual_zero: u32,  // zero point of the residual
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

// Pixels of the region that an invocation expands together, so that they share each weight. The last ones may lie
// past the region; nothing reads them.
const PIXELS: u32 = 4u;
const ROUNDED: u32 = (REGION + PIXELS - 1u) / PIXELS * PIXELS;
const ITEMS: u32 = ROUNDED / PIXELS * CHUNK;
const STAGED_X: u32 = ROUNDED * INPUTS;
const OWN_X: u32 = (STAGED_X + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
// Loads of x that an invocation has in flight together.
const TOGETHER: u32 = 8u;
// Words before the tables of the depthwise convolution and of the projection: a table has TABLE_WORDS words.
const DEPTHWISE_TABLE: u32 = EXPAND_HAS_TABLE * TABLE_WORDS;
const PROJECT_TABLE: u32 = (EXPAND_HAS_TABLE + DEPTHWISE_HAS_TABLE) * TABLE_WORDS;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;             // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<u32>;        // (KERNEL, KERNEL, expanded)
@group(0) @binding(3) var<storage, read> product_weight: array<vec4<u32>>; // (inputs, expanded) if EXPAND, then (expanded, outputs) if PROJECT; one word per output if EXPAND_DOT or PROJECT_DOT, else per input
@group(0) @binding(4) var<storage, read> output_params: array<vec4<i32>>; // (expanded, 4) if EXPAND, then (expanded, 4), then (outputs, 4) if PROJECT
@group(0) @binding(5) var<storage, read> table: array<u32>;         // four entries per word: one table per convolution that has one
@group(0) @binding(6) var<storage, read> residual: array<u32>;      // shaped as y, if RESIDUAL
@group(0) @binding(7) var<storage, read_write> y: array<u32>;       // (pictures, out_height, out_width, outputs or expanded)

var<workgroup> staged_x: array<u32, 1u + EXPAND * (STAGED_X - 1u)>;      // (ROUNDED, INPUTS)
var<workgroup> region: array<u32, 1u + EXPAND * (ROUNDED * CHUNK - 1u)>; // (ROUNDED, CHUNK); the first REGION_H * REGION_W rows are the region
var<workgroup> middle: array<u32, 1u + PROJECT * (TILE * CHUNK - 1u)>;   // (TILE_H, TILE_W, CHUNK)

@compute @workgroup_size(WORKGROUP_O * WORKGROUP_P)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let tile = tile_of(group, groups);
    let picture = tile.picture;
    if (picture >= params.pictures) {
        return;
    }
    let first_y = tile.first_y;
    let first_x = tile.first_x;

    if (EXPAND == 1u) {
        for (var first = 0u; first < OWN_X; first += TOGETHER) {
            var own: array<u32, TOGETHER>;
            for (var n = 0u; n < min(TOGETHER, OWN_X - first); n++) {
                let item = min(invocation + (first + n) * WORKGROUP_SIZE, STAGED_X - 1u);
                own[n] = x[clamped(picture, first_y, first_x, item / INPUTS) * INPUTS + item % INPUTS];
            }
            for (var n = 0u; n < min(TOGETHER, OWN_X - first); n++) {
                let item = invocation + (first + n) * WORKGROUP_SIZE;
                // Only the last item needs the check: without conditions the loads stay together.
                if (first + n + 1u < OWN_X || item < STAGED_X) {
                    staged_x[item] = own[n];
                }
            }
        }
        workgroupBarrier();
    }
    var sum: array<array<vec4<i32>, QUADS>, SUMS>;   // if PROJECT_DOT
    var exact: array<array<vec4<f32>, QUADS>, SUMS>; // if not PROJECT_DOT
    let chunks = (params.expanded + CHUNK - 1u) / CHUNK;
    let last = min((tile.split + 1u) * params.share, chunks);
    for (var chunk = tile.split * params.share; chunk < last; chunk++) {
        let first_quad = chunk * CHUNK;
        if (EXPAND == 1u) {
            for (var item = invocation; item < ITEMS; item += WORKGROUP_SIZE) {
                expand(first_y, first_x, first_quad, item);
            }
            workgroupBarrier();
        }
        for (var item = invocation; item < TILE / RUN * CHUNK; item += WORKGROUP_SIZE) {
            depthwise(picture, first_y, first_x, first_quad, item);
        }
        if (PROJECT == 1u) {
            workgroupBarrier();
            for (var c = 0u; c < CHUNK; c++) {
                var input: array<u32, SUMS>;
                for (var p = 0u; p < SUMS; p++) {
                    input[p] = middle[(invocation / WORKGROUP_O + p * WORKGROUP_P) * CHUNK + c];
                }
                let row = EXPAND * INPUTS * params.expanded + min(first_quad + c, params.expanded - 1u) * OUTPUTS;
                for (var q = 0u; q < QUADS; q++) {
                    let w = product_weight[row + min(invocation % WORKGROUP_O + q * WORKGROUP_O, OUTPUTS - 1u)];
                    if (PROJECT_DOT == 1u) {
                        for (var p = 0u; p < SUMS; p++) {
                            sum[p][q] += dots(input[p], w);
                        }
                    } else {
                        let weights = unpacked(w);
                        for (var p = 0u; p < SUMS; p++) {
                            exact[p][q] += weights * vec4<f32>(unpack4xI8(input[p]));
                        }
                    }
                }
            }
        }
        // The next chunk overwrites the workgroup memory that this one reads. With both EXPAND and PROJECT, the
        // barriers above already separate the phases.
        if (EXPAND == 0u || PROJECT == 0u) {
            workgroupBarrier();
        }
    }
    if (PROJECT == 0u) {
        return;
    }
    var pixel: array<u32, SUMS>;
    for (var p = 0u; p < SUMS; p++) {
        let at = invocation / WORKGROUP_O + p * WORKGROUP_P;
        let oy = min(first_y + at / TILE_W, params.out_height - 1u);
        let ox = min(first_x + at % TILE_W, params.out_width - 1u);
        pixel[p] = (picture * params.out_height + oy) * params.out_width + ox;
    }
    for (var q = 0u; q < QUADS; q++) {
        let o = invocation % WORKGROUP_O + q * WORKGROUP_O;
        let output = min(o, params.outputs - 1u);
        let n = output_params_of((EXPAND + 1u) * params.expanded + output);
        for (var p = 0u; p < SUMS; p++) {
            if (PROJECT_DOT == 0u) {
                sum[p][q] = vec4<i32>(exact[p][q]);
            }
            sum[p][q] = with_residual(n, pixel[p], output, sum[p][q]);
        }
        let range = vec3(params.project_zero, params.project_least, params.project_most);
        for (var p = 0u; p < SUMS; p++) {
            let at = invocation / WORKGROUP_O + p * WORKGROUP_P;
            let inside = first_y + at / TILE_W < params.out_height && first_x + at % TILE_W < params.out_width;
            if (inside && o < params.outputs) {
                y[place(pixel[p]) + o] = requantised(n, sum[p][q], range, PROJECT_HAS_TABLE, PROJECT_TABLE);
            }
        }
    }
}

// Expands PIXELS pixels of the region at four channels. Outside the map the region is set to the padding of
// the depthwise convolution.
fn expand(first_y: u32, first_x: u32, first_quad: u32, item: u32) {
    let c = item % CHUNK;
    let quad = min(first_quad + c, params.expanded - 1u);
    let first = item / CHUNK * PIXELS;
    var sum: array<vec4<i32>, PIXELS>;   // if EXPAND_DOT
    var exact: array<vec4<f32>, PIXELS>; // if not EXPAND_DOT
    for (var i = 0u; i < INPUTS; i += DEPTH) {
        var w: array<vec4<u32>, DEPTH>;
        for (var d = 0u; d < DEPTH; d++) {
            w[d] = product_weight[(i + d) * params.expanded + quad];
        }
        for (var d = 0u; d < DEPTH; d++) {
            let weights = unpacked(w[d]);
            for (var p = 0u; p < PIXELS; p++) {
                let word = staged_x[(first + p) * INPUTS + i + d];
                if (EXPAND_DOT == 1u) {
                    sum[p] += dots(word, w[d]);
                } else {
                    exact[p] += weights * vec4<f32>(unpack4xI8(word));
                }
            }
        }
    }
    let n = output_params_of(quad);
    let range = vec3(params.expand_zero, params.expand_least, params.expand_most);
    for (var p = 0u; p < PIXELS; p++) {
        let at = first + p;
        if (EXPAND_DOT == 0u) {
            sum[p] = vec4<i32>(exact[p]);
        }
        let iy = first_y * STRIDE + at / REGION_W - params.top;
        let ix = first_x * STRIDE + at % REGION_W - params.left;
        let word = requantised(n, sum[p] + n.bias, range, EXPAND_HAS_TABLE, 0u);
        region[at * CHUNK + c] = select(params.padding, word, iy < params.height && ix < params.width);
    }
}

// Makes RUN adjacent outputs of a row at four channels.
fn depthwise(picture: u32, first_y: u32, first_x: u32, first_quad: u32, item: u32) {
    let c = item % CHUNK;
    let quad = min(first_quad + c, params.expanded - 1u);
    let ty = item / CHUNK * RUN / TILE_W;
    let tx = item / CHUNK * RUN % TILE_W;
    var sum: array<vec4<f32>, RUN>;
    for (var ky = 0u; ky < KERNEL; ky++) {
        var taps: array<u32, KERNEL>;
        for (var kx = 0u; kx < KERNEL; kx++) {
            taps[kx] = weight[(ky * KERNEL + kx) * params.expanded + quad];
        }
        let ry = ty * STRIDE + ky * DILATION;
        var input: array<vec4<f32>, SPAN>;
        for (var s = 0u; s < SPAN; s++) {
            let rx = tx * STRIDE + s;
            var word: u32;
            if (EXPAND == 1u) {
                word = region[(ry * REGION_W + rx) * CHUNK + c];
            } else {
                let iy = first_y * STRIDE + ry - params.top;
                let ix = first_x * STRIDE + rx - params.left;
                let row = picture * params.height + min(iy, params.height - 1u);
                let v = x[(row * params.width + min(ix, params.width - 1u)) * params.inputs + quad];
                word = select(params.padding, v, iy < params.height && ix < params.width);
            }
            input[s] = vec4<f32>(unpack4xI8(word));
        }
        for (var kx = 0u; kx < KERNEL; kx++) {
            let w = vec4<f32>(unpack4xI8(taps[kx]));
            for (var r = 0u; r < RUN; r++) {
                sum[r] += input[r * STRIDE + kx * DILATION] * w;
            }
        }
    }
    let n = output_params_of(EXPAND * params.expanded + quad);
    let range = vec3(params.depthwise_zero, params.depthwise_least, params.depthwise_most);
    for (var r = 0u; r < RUN; r++) {
        let oy = first_y + ty;
        let ox = first_x + tx + r;
        let inside = oy < params.out_height && ox < params.out_width && first_quad + c < params.expanded;
        let word = requantised(n, vec4<i32>(sum[r]) + n.bias, range, DEPTHWISE_HAS_TABLE, DEPTHWISE_TABLE);
        if (PROJECT == 1u) {
            // Channels past the last must not contribute to sums.
            middle[(ty * TILE_W + tx + r) * CHUNK + c] = select(0u, word, inside);
        } else if (inside) {
            y[((picture * params.out_height + oy) * params.out_width + ox) * params.expanded + quad] = word;
        }
    }
}
