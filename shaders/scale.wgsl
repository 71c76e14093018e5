// Squeeze-excite's last step: every channel times its gate. A thread has four channels of a pixel.

struct Params {
    pixels: u32,  // of one picture
    quads: u32,   // channels, in fours
    threads: u32, // pictures * pixels * quads
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read> gate: array<Quad>;    // (pictures, quads)
@group(0) @binding(3) var<storage, read_write> y: array<Quad>; // (pictures, pixels, quads)

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread < params.threads) {
        let picture = thread / (params.pixels * params.quads);
        y[thread] = x[thread] * gate[picture * params.quads + thread % params.quads];
    }
}
