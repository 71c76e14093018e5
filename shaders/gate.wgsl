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
@group(0) @binding(2) var<storage, read> squeeze_weight: array<Block>; // (CHANNELS, squeezed); a column an input
@group(0) @binding(3) var<storage, read> widen_weight: array<Block>;  // (squeezed, CHANNELS); a column an input, if WIDEN
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;      // (squeezed), then (CHANNELS) if WIDEN
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;        // (pictures, CHANNELS) if WIDEN, or (pictures, squeezed)

// Turns of a loop whose loads are on their way together. Loops whose bounds compilers know they unroll, a hundred turns
// too, and then hold all of a product's weights in registers at once: hundreds spilled. So parameters bound them; and
// constants too, as Mesa's lavapipe compiles a small kernel anew at every dispatch, and keeps all of them, if nothing
// but parameters bounds its loops.
const DEPTH: u32 = 4u;

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
    for (var item = lane; item < SPREAD * CHANNELS; item += THREADS) {
        var sum = vec4(0.0);
        for (var t = item / CHANNELS; t < min(params.tiles, arrayLength(&x)); t += DEPTH * SPREAD) {
            for (var d = 0u; d < DEPTH; d++) {
                let tile = t + d * SPREAD;
                let v = x[(picture * params.tiles + min(tile, params.tiles - 1u)) * CHANNELS + item % CHANNELS];
                sum += select(vec4(0.0), v, tile < params.tiles);
            }
        }
        spread[item] = sum;
    }
    workgroupBarrier();
    for (var c = lane; c < CHANNELS + DEPTH * SPLITS; c += THREADS) {
        var sum = vec4(0.0);
        for (var s = 0u; s < SPREAD; s++) {
            sum += spread[s * CHANNELS + min(c, CHANNELS - 1u)];
        }
        mean[c] = select(vec4(0.0), sum / f32(params.pixels), c < CHANNELS);
    }
    workgroupBarrier();

    // Few outputs and many inputs: SPLITS threads have an output between them.
    for (var item = lane; item < OWN * SPLITS; item += THREADS) {
        let s = min(first + item % OWN, params.squeezed - 1u);
        var sum = vec4(0.0);
        for (var c = item / OWN; c < min(params.channels, CHANNELS); c += DEPTH * SPLITS) {
            for (var d = 0u; d < DEPTH; d++) {
                let channel = c + d * SPLITS;
                sum += mat4x4<f32>(squeeze_weight[min(channel, CHANNELS - 1u) * params.squeezed + s]) * mean[channel];
            }
        }
        partial[item] = sum;
    }
    workgroupBarrier();
    for (var own = lane; own < OWN + DEPTH; own += THREADS) {
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
    if (WIDEN == 1u) {
        workgroupBarrier();
        for (var c = lane; c < CHANNELS; c += THREADS) {
            var sum = bias[OWN + c];
            for (var s = 0u; s < min(params.squeezed, OWN); s += DEPTH) {
                for (var d = 0u; d < DEPTH; d++) {
                    sum += mat4x4<f32>(widen_weight[min(s + d, OWN - 1u) * CHANNELS + c]) * squeezed[s + d];
                }
            }
            y[picture * CHANNELS + c] = Quad(activate(ACTIVATION, sum));
        }
    }
    raise();
}
