// Squeeze-excite's gate, from the sums of the depthwise kernel's tiles: their mean, a fully connected layer
// that squeezes, one that widens.
//
//   gate = activate(widen(squeeze_activate(squeeze(mean of x))))
//
// A workgroup makes OWN quads of the squeezed outputs of one picture. If these are all of them, it also
// computes the layer that widens (WIDEN). Large layers take several workgroups per picture, and another
// kernel computes that layer.

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    tiles: u32,
    picture_pixels: u32, // pixels per picture
    channels: u32, // channels / 4, rounded up: equals CHANNELS, but is not known to the compiler (see below)
    squeezed: u32, // outputs of the squeezing layer / 4, rounded up
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (pictures, tiles, CHANNELS)
@group(0) @binding(2) var<storage, read> squeeze_weight: array<WeightBlock>; // (CHANNELS, squeezed); one column per input
@group(0) @binding(3) var<storage, read> widen_weight: array<WeightBlock>;  // (squeezed, CHANNELS); one column per input, if WIDEN
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;      // (squeezed), then (CHANNELS) if WIDEN
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;        // (pictures, CHANNELS) if WIDEN, or (pictures, squeezed)

// The loads of DEPTH iterations are in flight together. Compilers unroll loops with known bounds, even of a
// hundred iterations, and then hold all of a product's weights in registers: hundreds spilled. So the bound
// of each loop over tiles or inputs is the minimum of a parameter, whose value compilers do not know, and a
// constant or a buffer's length. With a parameter alone, Mesa's lavapipe recompiles a small kernel at every
// dispatch, and keeps every copy.

// The rounds in which the workgroup covers `items`. A constant, so that compilers know the last round.
fn rounds(items: u32) -> u32 {
    return (items + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
}

// `mean` and `squeezed` end with zeros: the last iteration may read past their values.
var<workgroup> spread: array<vec4<f32>, SPREAD * CHANNELS>;                // (SPREAD, CHANNELS)
var<workgroup> mean: array<vec4<f32>, CHANNELS + DEPTH * SPLITS>;
var<workgroup> partial: array<vec4<f32>, OWN * SPLITS>;                    // (SPLITS, OWN)
var<workgroup> squeezed: array<vec4<f32>, OWN + DEPTH>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let picture = group.y;
    let first = group.x * OWN;

    // SPREAD invocations split the tiles of a channel.
    for (var round = 0u; round < rounds(SPREAD * CHANNELS); round++) {
        let item = invocation + round * WORKGROUP_SIZE;
        if (item < SPREAD * CHANNELS) {
            var sum = vec4(0.0);
            for (var t = item / CHANNELS; t < min(params.tiles, arrayLength(&x)); t += DEPTH * SPREAD) {
                var v: array<vec4<f32>, DEPTH>;
                for (var d = 0u; d < DEPTH; d++) {
                    let tile = picture * params.tiles + min(t + d * SPREAD, params.tiles - 1u);
                    v[d] = x[tile * CHANNELS + item % CHANNELS];
                }
                for (var d = 0u; d < DEPTH; d++) {
                    sum += select(vec4(0.0), v[d], t + d * SPREAD < params.tiles);
                }
            }
            spread[item] = sum;
        }
    }
    workgroupBarrier();
    for (var round = 0u; round < rounds(CHANNELS + DEPTH * SPLITS); round++) {
        let c = invocation + round * WORKGROUP_SIZE;
        if (c < CHANNELS + DEPTH * SPLITS) {
            var sum = vec4(0.0);
            for (var s = 0u; s < SPREAD; s++) {
                sum += spread[s * CHANNELS + min(c, CHANNELS - 1u)];
            }
            mean[c] = select(vec4(0.0), sum / f32(params.picture_pixels), c < CHANNELS);
        }
    }
    workgroupBarrier();

    // Few outputs and many inputs: SPLITS invocations split the inputs of an output.
    for (var round = 0u; round < rounds(OWN * SPLITS); round++) {
        let item = invocation + round * WORKGROUP_SIZE;
        if (item < OWN * SPLITS) {
            let s = min(first + item % OWN, params.squeezed - 1u);
            var sum = vec4(0.0);
            for (var c = item / OWN; c < min(params.channels, CHANNELS); c += DEPTH * SPLITS) {
                var w: array<mat4x4<f32>, DEPTH>;
                for (var d = 0u; d < DEPTH; d++) {
                    w[d] = weights_block(squeeze_weight[min(c + d * SPLITS, CHANNELS - 1u) * params.squeezed + s], s);
                }
                for (var d = 0u; d < DEPTH; d++) {
                    sum += w[d] * mean[c + d * SPLITS];
                }
            }
            partial[item] = sum;
        }
    }
    workgroupBarrier();
    for (var round = 0u; round < rounds(OWN + DEPTH); round++) {
        let own = invocation + round * WORKGROUP_SIZE;
        if (own < OWN + DEPTH) {
            let s = first + own;
            var sum = bias[min(s, params.squeezed - 1u)];
            for (var i = 0u; i < SPLITS; i++) {
                sum += partial[i * OWN + min(own, OWN - 1u)];
            }
            let inside = own < OWN && s < params.squeezed;
            let v = select(vec4(0.0), activate(SQUEEZE_ACTIVATION, sum), inside);
            if (WIDEN == 1u) {
                squeezed[own] = v;
            } else if (inside) {
                y[picture * params.squeezed + s] = Quad(v);
            }
        }
    }
    if (WIDEN == 1u) {
        workgroupBarrier();
        for (var round = 0u; round < rounds(CHANNELS); round++) {
            let c = invocation + round * WORKGROUP_SIZE;
            if (c < CHANNELS) {
                var sum = bias[OWN + c];
                for (var s = 0u; s < min(params.squeezed, OWN); s += DEPTH) {
                    var w: array<mat4x4<f32>, DEPTH>;
                    for (var d = 0u; d < DEPTH; d++) {
                        w[d] = weights_block(widen_weight[min(s + d, OWN - 1u) * CHANNELS + c], OWN + c);
                    }
                    for (var d = 0u; d < DEPTH; d++) {
                        sum += w[d] * squeezed[s + d];
                    }
                }
                y[picture * CHANNELS + c] = Quad(activate(ACTIVATION, sum));
            }
        }
    }
    raise();
}
