// Max pool: the largest value in a KERNEL x KERNEL window, among its pixels inside the map. An invocation
// makes four channels of an output; invocations are ordered along the channels first.

struct Params {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,     // rows of the first window above the map
    left: u32,    // columns of the first window left of the map
    quads: u32,   // channels / 4, rounded up
    invocations: u32, // pictures * out_height * out_width * quads
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (pictures, height, width, quads)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (pictures, out_height, out_width, quads)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index >= params.invocations) {
        return;
    }
    let quad = index % params.quads;
    let column = index / params.quads % params.out_width;
    let row = index / (params.quads * params.out_width);
    let picture = row / params.out_height;

    // The lowest finite f32; every window has a pixel inside the map.
    var most = vec4(-0x1.fffffep+127f);
    for (var ky = 0u; ky < KERNEL; ky++) {
        // Negative positions wrap around to huge values: one comparison covers both edges.
        let iy = row % params.out_height * STRIDE + ky - params.top;
        for (var kx = 0u; kx < KERNEL; kx++) {
            let ix = column * STRIDE + kx - params.left;
            if (iy < params.height && ix < params.width) {
                let pixel = (picture * params.height + iy) * params.width + ix;
                most = max(most, vec4<f32>(x[pixel * params.quads + quad]));
            }
        }
    }
    y[index] = Quad(most);
}
