// Decodes boxes: moves and scales each anchor by the network's offsets, and clamps the box to the picture.
// Offsets that are not finite are copied to y, so that its reader detects them. An invocation makes one box.

struct Params {
    anchors: u32, // per picture
    height: u32,  // of the picture, in pixels
    width: u32,
    invocations: u32, // pictures * anchors
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;            // (pictures, anchors): dx, dy, dw, dh
@group(0) @binding(2) var<storage, read> anchor: array<vec4<f32>>;  // (anchors): centre x, centre y, width, height
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (pictures, anchors): left, top, right, bottom

// The bits of infinity. NaN has all of them set too.
const INFINITY = 0x7f800000u;

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
    let offset = vec4<f32>(x[index]);
    let old = anchor[index % params.anchors];
    let centre = old.xy + offset.xy / f32(CENTRE_WEIGHT) * old.zw;
    let growth = min(offset.zw / f32(SIZE_WEIGHT), vec2(bitcast<f32>(MOST_GROWTH_BITS)));
    let half = 0.5 * exp(growth) * old.zw;
    let edge = vec2(f32(params.width), f32(params.height));
    let made = clamp(vec4(centre - half, centre + half), vec4(0.0), vec4(edge, edge));
    let finite = all((bitcast<vec4<u32>>(offset) & vec4(INFINITY)) != vec4(INFINITY));
    y[index] = select(offset, made, finite);
}
