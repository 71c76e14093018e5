// Bilinear interpolation to other rows and columns, centres of pixels on centres of pixels. A
// thread has four channels of an output pixel; threads go along the channels first.

struct Params {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    outputs: u32, // channels, in fours
    threads: u32, // pictures * out_height * out_width * outputs
    part_pixels: u32,   // of a picture, if PLACED
    part_first: u32,    // fours of channels before the part
    whole_pixel: u32,   // from a pixel of the whole to the next
    whole_picture: u32, // from a picture of the whole to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (pictures, height, width, outputs)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (pictures, out_height, out_width, outputs)

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
    let quad = thread % params.outputs;
    let pixel = thread / params.outputs;
    let row = pixel / params.out_width; // of the whole batch
    let rows = taps(row % params.out_height, params.height, params.out_height);
    let columns = taps(pixel % params.out_width, params.width, params.out_width);

    let picture = row / params.out_height * params.height;
    let upper = (picture + rows.first) * params.width;
    let lower = (picture + rows.second) * params.width;
    let a = vec4<f32>(x[(upper + columns.first) * params.outputs + quad]);
    let b = vec4<f32>(x[(upper + columns.second) * params.outputs + quad]);
    let c = vec4<f32>(x[(lower + columns.first) * params.outputs + quad]);
    let d = vec4<f32>(x[(lower + columns.second) * params.outputs + quad]);
    let above = a + columns.share * (b - a);
    let below = c + columns.share * (d - c);
    y[place(pixel) + quad] = Quad(above + rows.share * (below - above));
}
