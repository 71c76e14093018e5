// Max pool: the largest value of a KERNEL x KERNEL window, of those of its pixels that lie on
// the map. A thread has four channels of an output; threads go along the channels first.

struct Params {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,     // rows of the first window above the map
    left: u32,    // columns of it to the left
    quads: u32,   // channels, in fours
    threads: u32, // pictures * out_height * out_width * quads
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (pictures, height, width, quads)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (pictures, out_height, out_width, quads)

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread >= params.threads) {
        return;
    }
    let quad = thread % params.quads;
    let column = thread / params.quads % params.out_width;
    let row = thread / (params.quads * params.out_width);
    let picture = row / params.out_height;

    // Below every number: each window has a pixel on the map.
    var most = vec4(-0x1.fffffep+127f);
    for (var ky = 0u; ky < KERNEL; ky++) {
        // Left of or above the map wraps round to a huge number: one comparison serves both sides.
        let iy = row % params.out_height * STRIDE + ky - params.top;
        for (var kx = 0u; kx < KERNEL; kx++) {
            let ix = column * STRIDE + kx - params.left;
            if (iy < params.height && ix < params.width) {
                let pixel = (picture * params.height + iy) * params.width + ix;
                most = max(most, vec4<f32>(x[pixel * params.quads + quad]));
            }
        }
    }
    y[thread] = Quad(most);
}
