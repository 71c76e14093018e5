// Squeeze-excite's gate for one picture a workgroup, from the sums that tiles of the depthwise
// kernel left: their mean, a fully connected layer that squeezes, one that widens again.
//
//   gate = activate(widen(squeeze_activate(squeeze(mean of x))))

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    tiles: u32,
    pixels: u32,   // of one picture
    channels: u32, // CHANNELS
    squeezed: u32, // SQUEEZED
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (pictures, tiles, CHANNELS)
@group(0) @binding(2) var<storage, read> squeeze_weight: array<Block>; // (CHANNELS, SQUEEZED); a column an input
@group(0) @binding(3) var<storage, read> widen_weight: array<Block>;  // (SQUEEZED, CHANNELS); a column an input
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;      // (SQUEEZED), then (CHANNELS)
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;        // (pictures, CHANNELS)

// Loops whose bounds compilers know they unroll, a hundred turns too, and then hold all of a product's weights
// in registers at once: hundreds spilled. So parameters bound them; and constants too, as Mesa's lavapipe compiles
// a small kernel anew at every dispatch, and keeps all of them, if nothing but parameters bounds its loops.

var<workgroup> mean: array<vec4<f32>, CHANNELS>;
var<workgroup> partial: array<vec4<f32>, SQUEEZED * SPLITS>; // (SPLITS, SQUEEZED)
var<workgroup> squeezed: array<vec4<f32>, SQUEEZED>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let picture = group.x;
    for (var c = lane; c < CHANNELS; c += THREADS) {
        var sum = vec4(0.0);
        for (var t = 0u; t < min(params.tiles, arrayLength(&x)); t++) {
            sum += x[(picture * params.tiles + t) * CHANNELS + c];
        }
        mean[c] = sum / f32(params.pixels);
    }
    workgroupBarrier();

    // Few outputs and many inputs: SPLITS threads have an output between them.
    for (var item = lane; item < SQUEEZED * SPLITS; item += THREADS) {
        let s = item % SQUEEZED;
        var sum = vec4(0.0);
        for (var c = item / SQUEEZED; c < min(params.channels, CHANNELS); c += SPLITS) {
            sum += mat4x4<f32>(squeeze_weight[c * SQUEEZED + s]) * mean[c];
        }
        partial[item] = sum;
    }
    workgroupBarrier();
    for (var s = lane; s < SQUEEZED; s += THREADS) {
        var sum = bias[s];
        for (var i = 0u; i < SPLITS; i++) {
            sum += partial[i * SQUEEZED + s];
        }
        squeezed[s] = activate(SQUEEZE_ACTIVATION, sum);
    }
    workgroupBarrier();

    for (var c = lane; c < CHANNELS; c += THREADS) {
        var sum = bias[SQUEEZED + c];
        for (var s = 0u; s < min(params.squeezed, SQUEEZED); s++) {
            sum += mat4x4<f32>(widen_weight[s * CHANNELS + c]) * squeezed[s];
        }
        y[picture * CHANNELS + c] = Quad(activate(ACTIVATION, sum));
    }
    raise();
}
