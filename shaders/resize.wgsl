// Bilinear interpolation to another height and width, with half-pixel centres. An invocation makes four
// channels of an output pixel; invocations are ordered along the channels first.

struct Params {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    outputs: u32, // channels / 4, rounded up
    invocations: u32, // pictures * out_height * out_width * outputs
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (pictures, height, width, outputs)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (pictures, out_height, out_width, outputs)

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
    let quad = index % params.outputs;
    let pixel = index / params.outputs;
    let row = pixel / params.out_width; // in the whole batch
    let rows = taps(row % params.out_height, params.height, params.out_height);
    let columns = taps(pixel % params.out_width, params.width, params.out_width);

    let picture = row / params.out_height * params.height;
    let upper = (picture + rows.first) * params.width;
    let lower = (picture + rows.second) * params.width;
    let a = vec4<f32>(x[(upper + columns.first) * params.outputs + quad]);
    let b = vec4<f32>(x[(upper + columns.second) * params.outputs + quad]);
    let c = vec4<f32>(x[(lower + columns.first) * params.outputs + quad]);
    let d = vec4<f32>(x[(lower + columns.second) * params.outputs + quad]);
    let above = a + columns.weight * (b - a);
    let below = c + columns.weight * (d - c);
    y[place(pixel) + quad] = Quad(above + rows.weight * (below - above));
}
