// The frame, its mask over it, and frames round boxes.

struct Screen {
    size: vec2<f32>, // of the target, in pixels
    boxes: u32,
    masked: u32, // 1: the mask is shown
    bounds: array<vec4<f32>, 16>, // left, top, right, bottom, 0 to 1
}

@group(0) @binding(0) var<uniform> screen: Screen;
@group(0) @binding(1) var frame: texture_2d<f32>;
@group(0) @binding(2) var mask: texture_2d<f32>;
@group(0) @binding(3) var smooth_: sampler;

// Thickness of a box's sides, in pixels.
const LINE = 3.0;

@vertex
fn vertex(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
    return vec4(select(-1.0, 3.0, index == 1u), select(-1.0, 3.0, index == 2u), 0.0, 1.0);
}

@fragment
fn fragment(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32> {
    let uv = position.xy / screen.size;
    var colour = textureSampleLevel(frame, smooth_, uv, 0.0).rgb;
    let over = textureSampleLevel(mask, smooth_, uv, 0.0);
    colour = mix(colour, over.rgb, over.a * f32(screen.masked));
    for (var i = 0u; i < screen.boxes; i++) {
        let bounds = screen.bounds[i] * screen.size.xyxy;
        let inner = min(position.xy - bounds.xy, bounds.zw - position.xy);
        let near = min(inner.x, inner.y);
        if (near >= 0.0 && near < LINE) {
            colour = vec3(1.0);
        }
    }
    return vec4(colour, 1.0);
}
