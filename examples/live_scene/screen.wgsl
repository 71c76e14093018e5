// The frame with its mask on top, boxes around the detections, and text below.

struct Screen {
    scene: vec2<f32>,                // size of the scene on the target, in pixels
    target_size: vec2<f32>,
    masked: f32,                     // 1: the mask is shown
    colours: array<vec4<f32>, 16>,   // of the classes
}

@group(0) @binding(0) var<uniform> screen: Screen;
@group(0) @binding(1) var frame: texture_2d<f32>;
@group(0) @binding(2) var mask: texture_2d<f32>;
@group(0) @binding(3) var words: texture_2d<f32>;
@group(0) @binding(4) var linear: sampler;

@vertex
fn whole(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
    return vec4(select(-1.0, 3.0, index == 1u), select(-1.0, 3.0, index == 2u), 0.0, 1.0);
}

@fragment
fn shown(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32> {
    if (position.y >= screen.scene.y) {
        let at = vec2<u32>(position.xy - vec2(0.0, screen.scene.y));
        return vec4(textureLoad(words, at, 0).rrr, 1.0);
    }
    let uv = position.xy / screen.scene;
    let colour = textureSampleLevel(frame, linear, uv, 0.0).rgb;
    let over = textureSampleLevel(mask, linear, uv, 0.0);
    return vec4(mix(colour, over.rgb, over.a * screen.masked), 1.0);
}

// Line width of a box, in pixels.
const LINE = 3.0;

struct Corner {
    @builtin(position) position: vec4<f32>,
    @location(0) @interpolate(flat) kind: u32,
}

// A box as a strip of ten vertices: four corners clockwise and the first again, each as an outer and an
// inner vertex.
@vertex
fn box(@builtin(vertex_index) index: u32, @location(0) bounds: vec4<f32>, @location(1) score: f32, @location(2) kind: u32) -> Corner {
    let corner = (index / 2u) % 4u;
    let right = corner == 1u || corner == 2u;
    let low = corner >= 2u;
    let edge = vec2(select(bounds.x, bounds.z, right), select(bounds.y, bounds.w, low)) * screen.scene;
    let inward = vec2(select(LINE, -LINE, right), select(LINE, -LINE, low)) * f32(index % 2u);
    let position = (edge + inward) / screen.target_size;
    return Corner(vec4(2.0 * position.x - 1.0, 1.0 - 2.0 * position.y, 0.0, 1.0), kind);
}

@fragment
fn side(corner: Corner) -> @location(0) vec4<f32> {
    return screen.colours[corner.kind % 16u];
}
