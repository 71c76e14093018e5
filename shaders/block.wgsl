// A MobileNet block in one kernel: the depthwise convolution with the expansion, the projection, both or
// neither. Intermediate maps never leave the workgroup.
//
// A workgroup makes TILE_H x TILE_W outputs and iterates over the expanded channels, CHUNK quads at a time:
//   expand     every pixel that the tile's windows read, into workgroup memory (if EXPAND)
//   depthwise  over those pixels, or over x, into workgroup memory
//   project    the chunk's contribution to every output, added up in registers (if PROJECT)
// The expansion's weights are loaded to workgroup memory slice by slice: each value once, with all
// invocations' loads in flight together. If STAGED, so are the projection's weights and, once per tile, the
// pixels of x that the expansion reads. Otherwise they are read from their buffers inside the product loop.
//
// Without PROJECT the depthwise outputs are stored, and with POOL also each tile's sum of them, for
// squeeze-excite. A map with few tiles is split over the expanded channels too: a workgroup then processes
// `share` chunks of them. With PROJECT its sums are then partial, and `reduce` adds them up (SPLIT). Sums for
// other kernels stay f32.

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,      // rows of zero padding above
    left: u32,     // columns of zero padding on the left
    pictures: u32,
    inputs: u32,   // channels of x / 4, rounded up
    expanded: u32, // channels of the depthwise convolution / 4, rounded up
    outputs: u32,  // channels of y / 4, rounded up
    share: u32,    // chunks per workgroup
    splits: u32,   // workgroups per tile
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

const TAPS_KEPT: u32 = select(1u, KERNEL * KERNEL, KERNEL < 4u);
// An item is PIXELS pixels of the region at four channels. An invocation expands them together, so that they
// share each weight.
const PIXELS: u32 = 4u;
const ITEMS: u32 = (REGION + PIXELS - 1u) / PIXELS * CHUNK;            // items of a chunk
const OWN_ITEMS: u32 = (ITEMS + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; // items of an invocation
// vec4s of x, and the number that an invocation loads.
const STAGED_X: u32 = REGION * INPUTS;
const OWN_X: u32 = (STAGED_X + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
// Loads of x that an invocation has in flight together.
const TOGETHER: u32 = 8u;
// vec4s of a slice of weights, of EXPAND_SLICE quads of inputs or PROJECT_SLICE expanded quads, and the
// number that an invocation loads.
const EXPAND_W: u32 = EXPAND_SLICE * CHUNK * 4u;
const PROJECT_W: u32 = PROJECT_SLICE * OUTPUTS * 4u;
const OWN_EXPAND_W: u32 = (EXPAND_W + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
const OWN_PROJECT_W: u32 = (PROJECT_W + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;              // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<Quad>;          // (KERNEL, KERNEL, expanded)
@group(0) @binding(3) var<storage, read> product_weight: array<WeightQuad>;  // (inputs, expanded, 4) if EXPAND, then (expanded, outputs, 4) if PROJECT; one quad per input
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;       // (expanded) if EXPAND, then (expanded), then (outputs) if PROJECT
@group(0) @binding(5) var<storage, read> residual: array<Quad>;        // shaped as y, if RESIDUAL
@group(0) @binding(6) var<storage, read_write> y: array<Quad>;         // (pictures, out_height, out_width, outputs or expanded)
@group(0) @binding(7) var<storage, read_write> sums: array<vec4<f32>>; // (pictures, tiles, expanded) if POOL, (splits, as y) if SPLIT

var<workgroup> region: array<Quad, 1u + EXPAND * (REGION * CHUNK - 1u)>; // (REGION_H, REGION_W, CHUNK)
var<workgroup> middle: array<Quad, TILE * CHUNK>;                        // (TILE_H, TILE_W, CHUNK)
var<workgroup> staged_x: array<Quad, 1u + EXPAND * STAGED * (STAGED_X - 1u)>; // (REGION_H, REGION_W, INPUTS)
// (EXPAND_SLICE, 4, CHUNK), then (PROJECT_SLICE, 4, OUTPUTS)
var<workgroup> staged_w: array<Quad, 1u + max(EXPAND * EXPAND_W, PROJECT * STAGED * PROJECT_W)>;

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

    if (EXPAND == 1u && STAGED == 1u) {
        for (var first = 0u; first < OWN_X; first += TOGETHER) {
            var own: array<vec4<f32>, TOGETHER>;
            for (var n = 0u; n < min(TOGETHER, OWN_X - first); n++) {
                let item = min(invocation + (first + n) * WORKGROUP_SIZE, STAGED_X - 1u);
                own[n] = vec4<f32>(x[clamped(picture, first_y, first_x, item / INPUTS) * INPUTS + item % INPUTS]);
            }
            for (var n = 0u; n < min(TOGETHER, OWN_X - first); n++) {
                let item = invocation + (first + n) * WORKGROUP_SIZE;
                // Only the last item needs the check: without conditions the loads stay together.
                if (first + n + 1u < OWN_X || item < STAGED_X) {
                    staged_x[item] = Quad(own[n]);
                }
            }
        }
    }
    var sum: array<array<vec4<f32>, QUADS>, SUMS>;
    let chunks = (params.expanded + CHUNK - 1u) / CHUNK;
    let last = min((tile.split + 1u) * params.share, chunks);
    for (var chunk = tile.split * params.share; chunk < last; chunk++) {
        let first_quad = chunk * CHUNK;

        if (EXPAND == 1u) {
            expand(picture, invocation, first_y, first_x, first_quad);
            workgroupBarrier();
        }

        for (var item = invocation; item < TILE / RUN * CHUNK; item += WORKGROUP_SIZE) {
            depthwise(picture, first_y, first_x, first_quad, item);
        }

        if (PROJECT == 1u) {
            for (var first = 0u; first < CHUNK; first += PROJECT_SLICE) {
                let of_project = EXPAND * INPUTS * params.expanded * 4u;
                if (STAGED == 1u) {
                    var own: array<vec4<f32>, OWN_PROJECT_W>;
                    for (var n = 0u; n < OWN_PROJECT_W; n++) {
                        let item = min(invocation + n * WORKGROUP_SIZE, PROJECT_W - 1u);
                        let row = min(first_quad + first + item / (4u * OUTPUTS), params.expanded - 1u);
                        let column = item % (4u * OUTPUTS);
                        let v = product_weight[of_project + row * OUTPUTS * 4u + column];
                        own[n] = weights_quad(v, (EXPAND + 1u) * params.expanded + column / 4u);
                    }
                    if (first > 0u) {
                        // The previous slice has been read.
                        workgroupBarrier();
                    }
                    for (var n = 0u; n < OWN_PROJECT_W; n++) {
                        let item = invocation + n * WORKGROUP_SIZE;
                        if (n + 1u < OWN_PROJECT_W || item < PROJECT_W) {
                            let c = item / (4u * OUTPUTS);
                            staged_w[(c * 4u + item % 4u) * OUTPUTS + item / 4u % OUTPUTS] = Quad(own[n]);
                        }
                    }
                }
                workgroupBarrier();
                for (var c = 0u; c < PROJECT_SLICE; c++) {
                    var input: array<vec4<f32>, SUMS>;
                    for (var p = 0u; p < SUMS; p++) {
                        input[p] = vec4<f32>(middle[(invocation / WORKGROUP_O + p * WORKGROUP_P) * CHUNK + first + c]);
                    }
                    for (var q = 0u; q < QUADS; q++) {
                        let output = min(invocation % WORKGROUP_O + q * WORKGROUP_O, OUTPUTS - 1u);
                        var w = staged(c * STAGED, output * STAGED, OUTPUTS * STAGED);
                        if (STAGED == 0u) {
                            let row = min(first_quad + first + c, params.expanded - 1u);
                            w = loaded(of_project + (row * OUTPUTS + output) * 4u, (EXPAND + 1u) * params.expanded + output);
                        }
                        for (var p = 0u; p < SUMS; p++) {
                            sum[p][q] += w * input[p];
                        }
                    }
                }
            }
        }
        if (POOL == 1u) {
            workgroupBarrier();
            for (var c = invocation; c < CHUNK; c += WORKGROUP_SIZE) {
                var total = vec4(0.0);
                for (var p = 0u; p < TILE; p++) {
                    total += vec4<f32>(middle[p * CHUNK + c]);
                }
                if (first_quad + c < params.expanded) {
                    sums[(picture * tile.tiles + tile.index) * params.expanded + first_quad + c] = total;
                }
            }
        }
        // The next chunk overwrites what this one reads.
        workgroupBarrier();
    }

    if (PROJECT == 1u) {
        for (var p = 0u; p < SUMS; p++) {
            let at = invocation / WORKGROUP_O + p * WORKGROUP_P;
            let oy = first_y + at / TILE_W;
            let ox = first_x + at % TILE_W;
            for (var q = 0u; q < QUADS; q++) {
                let o = invocation % WORKGROUP_O + q * WORKGROUP_O;
                if (oy < params.out_height && ox < params.out_width && o < params.outputs) {
                    let pixel = (picture * params.out_height + oy) * params.out_width + ox;
                    store(tile.split, pixel, o, sum[p][q]);
                }
            }
        }
    }
    raise();
}

// The staged weights of a quad of inputs and a quad of outputs.
fn staged(input: u32, output: u32, outputs: u32) -> mat4x4<f32> {
    let at = input * 4u * outputs + output;
    return mat4x4<f32>(
        vec4<f32>(staged_w[at]),
        vec4<f32>(staged_w[at + outputs]),
        vec4<f32>(staged_w[at + 2u * outputs]),
        vec4<f32>(staged_w[at + 3u * outputs]),
    );
}

// The same from the buffer. `output` is the index of the outputs' biases.
fn loaded(at: u32, output: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        weights_quad(product_weight[at], output),
        weights_quad(product_weight[at + 1u], output),
        weights_quad(product_weight[at + 2u], output),
        weights_quad(product_weight[at + 3u], output),
    );
}

// Expands the whole region at a chunk's channels. Outside the map the region is set to zero, the padding of
// the depthwise convolution: because of the bias, the expansion of a zero pixel is not zero.
fn expand(picture: u32, invocation: u32, first_y: u32, first_x: u32, first_quad: u32) {
    var sum: array<array<vec4<f32>, PIXELS>, OWN_ITEMS>;
    // The offset of each pixel, in workgroup memory or in x.
    var row: array<array<u32, PIXELS>, OWN_ITEMS>;
    for (var n = 0u; n < OWN_ITEMS; n++) {
        for (var p = 0u; p < PIXELS; p++) {
            let item = invocation + n * WORKGROUP_SIZE;
            sum[n][p] = bias[min(first_quad + item % CHUNK, params.expanded - 1u)];
            let at = min(item / CHUNK * PIXELS + p, REGION - 1u);
            row[n][p] = at * INPUTS;
            if (STAGED == 0u) {
                row[n][p] = clamped(picture, first_y, first_x, at) * INPUTS;
            }
        }
    }
    for (var first = 0u; first < INPUTS; first += EXPAND_SLICE) {
        var own: array<vec4<f32>, OWN_EXPAND_W>;
        for (var n = 0u; n < OWN_EXPAND_W; n++) {
            let item = min(invocation + n * WORKGROUP_SIZE, EXPAND_W - 1u);
            let i = min(first + item / (4u * CHUNK), INPUTS - 1u);
            let quad = min(first_quad + item / 4u % CHUNK, params.expanded - 1u);
            let v = weights_quad(product_weight[(i * params.expanded + quad) * 4u + item % 4u], quad);
            // The last slice may extend past the last input.
            own[n] = select(vec4(0.0), v, first + item / (4u * CHUNK) < INPUTS);
        }
        // The previous slice, or the previous chunk, has been read.
        workgroupBarrier();
        for (var n = 0u; n < OWN_EXPAND_W; n++) {
            let item = invocation + n * WORKGROUP_SIZE;
            if (n + 1u < OWN_EXPAND_W || item < EXPAND_W) {
                let i = item / (4u * CHUNK);
                staged_w[(i * 4u + item % 4u) * CHUNK + item / 4u % CHUNK] = Quad(own[n]);
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < EXPAND_SLICE; i++) {
            for (var n = 0u; n < OWN_ITEMS; n++) {
                let item = invocation + n * WORKGROUP_SIZE;
                let w = staged(i, item % CHUNK, CHUNK);
                for (var p = 0u; p < PIXELS; p++) {
                    let at = row[n][p] + min(first + i, INPUTS - 1u);
                    if (STAGED == 1u) {
                        sum[n][p] += w * vec4<f32>(staged_x[at]);
                    } else {
                        sum[n][p] += w * vec4<f32>(x[at]);
                    }
                }
            }
        }
    }
    for (var n = 0u; n < OWN_ITEMS; n++) {
        let item = invocation + n * WORKGROUP_SIZE;
        for (var p = 0u; p < PIXELS; p++) {
            let at = item / CHUNK * PIXELS + p;
            if (at < REGION) {
                let iy = first_y * STRIDE + at / REGION_W - params.top;
                let ix = first_x * STRIDE + at % REGION_W - params.left;
                let inside = iy < params.height && ix < params.width;
                let v = activate(EXPAND_ACTIVATION, sum[n][p]);
                region[at * CHUNK + item % CHUNK] = Quad(select(vec4(0.0), v, inside));
            }
        }
    }
}

// Makes RUN adjacent outputs of a row at four channels, with their windows' pixels in registers.
fn depthwise(picture: u32, first_y: u32, first_x: u32, first_quad: u32, item: u32) {
    let c = item % CHUNK;
    let quad = min(first_quad + c, params.expanded - 1u);
    let ty = item / CHUNK * RUN / TILE_W;
    let tx = item / CHUNK * RUN % TILE_W;
    var sum: array<vec4<f32>, RUN>;
    for (var r = 0u; r < RUN; r++) {
        sum[r] = bias[EXPAND * params.expanded + quad];
    }
    // All weights of a small window are loaded together.
    var taps: array<vec4<f32>, TAPS_KEPT>;
    for (var t = 0u; t < TAPS_KEPT; t++) {
        taps[t] = vec4<f32>(weight[t * params.expanded + quad]);
    }
    for (var ky = 0u; ky < KERNEL; ky++) {
        let ry = ty * STRIDE + ky * DILATION;
        var input: array<vec4<f32>, SPAN>;
        for (var s = 0u; s < SPAN; s++) {
            let rx = tx * STRIDE + s;
            if (EXPAND == 1u) {
                input[s] = vec4<f32>(region[(ry * REGION_W + rx) * CHUNK + c]);
            } else {
                let iy = first_y * STRIDE + ry - params.top;
                let ix = first_x * STRIDE + rx - params.left;
                let row = picture * params.height + min(iy, params.height - 1u);
                let v = x[(row * params.width + min(ix, params.width - 1u)) * params.inputs + quad];
                input[s] = select(vec4(0.0), vec4<f32>(v), iy < params.height && ix < params.width);
            }
        }
        for (var kx = 0u; kx < KERNEL; kx++) {
            var w = taps[min(ky * KERNEL + kx, TAPS_KEPT - 1u)];
            if (TAPS_KEPT < KERNEL * KERNEL) {
                w = vec4<f32>(weight[(ky * KERNEL + kx) * params.expanded + quad]);
            }
            for (var r = 0u; r < RUN; r++) {
                sum[r] += input[r * STRIDE + kx * DILATION] * w;
            }
        }
    }
    for (var r = 0u; r < RUN; r++) {
        let oy = first_y + ty;
        let ox = first_x + tx + r;
        let inside = oy < params.out_height && ox < params.out_width && first_quad + c < params.expanded;
        // Values outside the map or past the last channel must not contribute to sums.
        let v = select(vec4(0.0), activate(DEPTHWISE_ACTIVATION, sum[r]), inside);
        if (PROJECT == 1u || POOL == 1u) {
            middle[(ty * TILE_W + tx + r) * CHUNK + c] = Quad(v);
        }
        if (PROJECT == 0u && inside) {
            let pixel = (picture * params.out_height + oy) * params.out_width + ox;
            y[pixel * params.expanded + quad] = Quad(v);
        }
    }
}

// Stores an output, or a workgroup's partial sum of it.
fn store(split: u32, pixel: u32, o: u32, sum: vec4<f32>) {
    if (SPLIT == 1u) {
        let pixels = params.pictures * params.out_height * params.out_width;
        sums[(split * pixels + pixel) * params.outputs + o] = sum;
    } else {
        finish(pixel, o, with_residual(pixel, o, sum + bias[(EXPAND + 1u) * params.expanded + o]));
    }
}
