// Boxes: each anchor moved and grown as the network says, and cut off at the edges of the picture.
// Offsets that are not finite are left as they are, so that whoever reads y sees it. A thread has one
// box.

struct Params {
    anchors: u32, // of a picture
    height: u32,  // of the picture, in pixels
    width: u32,
    threads: u32, // pictures * anchors
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;            // (pictures, anchors): right, down, wider, higher
@group(0) @binding(2) var<storage, read> anchor: array<vec4<f32>>;  // (anchors): centre x, centre y, width, height
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (pictures, anchors): left, top, right, bottom

// The bits of infinity, all of which everything that is not finite has.
const INFINITY = 0x7f800000u;

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
    let offset = vec4<f32>(x[thread]);
    let old = anchor[thread % params.anchors];
    let centre = old.xy + offset.xy / f32(CENTRE_WEIGHT) * old.zw;
    let growth = min(offset.zw / f32(SIZE_WEIGHT), vec2(bitcast<f32>(MOST_GROWTH_BITS)));
    let half = 0.5 * exp(growth) * old.zw;
    let edge = vec2(f32(params.width), f32(params.height));
    let made = clamp(vec4(centre - half, centre + half), vec4(0.0), vec4(edge, edge));
    let finite = all((bitcast<vec4<u32>>(offset) & vec4(INFINITY)) != vec4(INFINITY));
    y[thread] = select(offset, made, finite);
}
