// Squeeze-excite's gate, from the sums that tiles of the depthwise kernel left: their mean, a fully connected layer that
// squeezes, one that widens again.
//
//   gate = activate(widen(squeeze_activate(squeeze(mean of x))))
//
// A workgroup makes OWN of the squeezed outputs of a picture. If these are all of them it widens them too (WIDEN);
// large layers have several workgroups a picture, and another kernel for the second.

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    tiles: u32,
    pixels: u32,   // of one picture
    channels: u32, // CHANNELS
    squeezed: u32, // channels of the squeezing layer, in fours
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (pictures, tiles, CHANNELS)
@group(0) @binding(2) var<storage, read> squeeze_weight: array<WeightBlock>; // (CHANNELS, squeezed); a column an input
@group(0) @binding(3) var<storage, read> widen_weight: array<WeightBlock>;  // (squeezed, CHANNELS); a column an input, if WIDEN
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;      // (squeezed), then (CHANNELS) if WIDEN
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;        // (pictures, CHANNELS) if WIDEN, or (pictures, squeezed)

// The loads of DEPTH turns of a loop are on their way together. Loops whose bounds compilers know they unroll, a hundred turns
// too, and then hold all of a product's weights in registers at once: hundreds spilled. So parameters bound them; and
// constants too, as Mesa's lavapipe compiles a small kernel anew at every dispatch, and keeps all of them, if nothing
// but parameters bounds its loops.

// How often all threads have to have a turn at so many items: a constant, so that compilers know the last for such.
fn rounds(items: u32) -> u32 {
    return (items + THREADS - 1u) / THREADS;
}

// Beyond what is of use there are zeros: a turn may reach over the end.
var<workgroup> spread: array<vec4<f32>, SPREAD * CHANNELS>;                // (SPREAD, CHANNELS)
var<workgroup> mean: array<vec4<f32>, CHANNELS + DEPTH * SPLITS>;
var<workgroup> partial: array<vec4<f32>, OWN * SPLITS>;                    // (SPLITS, OWN)
var<workgroup> squeezed: array<vec4<f32>, OWN + DEPTH>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let picture = group.y;
    let first = group.x * OWN;

    // SPREAD threads have the tiles of a channel between them.
    for (var round = 0u; round < rounds(SPREAD * CHANNELS); round++) {
        let item = lane + round * THREADS;
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
        let c = lane + round * THREADS;
        if (c < CHANNELS + DEPTH * SPLITS) {
            var sum = vec4(0.0);
            for (var s = 0u; s < SPREAD; s++) {
                sum += spread[s * CHANNELS + min(c, CHANNELS - 1u)];
            }
            mean[c] = select(vec4(0.0), sum / f32(params.pixels), c < CHANNELS);
        }
    }
    workgroupBarrier();

    // Few outputs and many inputs: SPLITS threads have an output between them.
    for (var round = 0u; round < rounds(OWN * SPLITS); round++) {
        let item = lane + round * THREADS;
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
        let own = lane + round * THREADS;
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
            let c = lane + round * THREADS;
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
