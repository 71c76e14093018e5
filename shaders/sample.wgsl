// A network's input from a texture: a rectangle of it, perhaps mirrored, scaled with a filter that
// widens as it shrinks, cropped and normalised, as pictures are on the CPU. A thread has a pixel.

struct Params {
    left: u32,   // of the rectangle in the texture, in texels
    top: u32,
    width: u32,
    height: u32,
    mirror_x: u32, // 1: from right to left
    mirror_y: u32, // 1: from bottom to top
    rows_first: u32, // 1: scaled from top to bottom before from left to right
    encode: u32,   // 1: texels are linear, networks want sRGB's curve
    scaled_width: u32, // of the whole rectangle
    scaled_height: u32,
    crop_left: u32, // of the input in it; as an i32, negative where black is added before
    crop_top: u32,
    out_width: u32,
    out_height: u32,
    mean_red: u32, // as an f32, like the others
    mean_green: u32,
    mean_blue: u32,
    std_red: u32,
    std_green: u32,
    std_blue: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<Quad>; // (out_height, out_width)
@group(0) @binding(2) var picture: texture_2d<f32>;

const NEAREST = 0u;
const BILINEAR = 1u;
const BICUBIC = 2u;
const LANCZOS = 3u;
const LINEAR = 4u; // two taps, however far it shrinks

const PI = 3.14159265358979;

// The pixels of a side that an output is made of, and its centre among them.
struct Reach {
    first: u32,
    end: u32,
    centre: f32,
    stretch: f32,
}

fn radius() -> f32 {
    return select(select(1.0, 2.0, FILTER == BICUBIC), 3.0, FILTER == LANCZOS);
}

fn reach(at: u32, size: u32, outputs: u32) -> Reach {
    let scale = f32(size) / f32(outputs);
    let centre = (f32(at) + 0.5) * scale;
    if (FILTER == NEAREST) {
        let first = min(u32(centre), size - 1u);
        return Reach(first, first + 1u, f32(first) + 0.5, 1.0);
    }
    // Beyond the edge the outermost pixel goes on: its neighbour there has no share.
    let inner = select(centre, clamp(centre, 0.5, f32(size) - 0.5), FILTER == LINEAR);
    let stretch = select(max(scale, 1.0), 1.0, FILTER == LINEAR);
    let half = radius() * stretch;
    let first = u32(max(inner - half + 0.5, 0.0));
    return Reach(first, min(u32(inner + half + 0.5), size), inner, stretch);
}

fn sinc(x: f32) -> f32 {
    return select(sin(PI * x) / (PI * x), 1.0, x == 0.0);
}

// The share of a pixel, up to a factor that all of an output have in common.
fn share(pixel: u32, of_output: Reach) -> f32 {
    let x = abs((f32(pixel) + 0.5 - of_output.centre) / of_output.stretch);
    if (FILTER == NEAREST) {
        return 1.0;
    }
    if (x >= radius()) {
        return 0.0;
    }
    if (FILTER == LANCZOS) {
        return sinc(x) * sinc(x / 3.0);
    }
    if (FILTER == BICUBIC) {
        return select(((2.5 - 0.5 * x) * x - 4.0) * x + 2.0, (1.5 * x - 2.5) * x * x + 1.0, x < 1.0);
    }
    return 1.0 - x;
}

fn texel(column: u32, row: u32) -> vec3<f32> {
    let x = params.left + select(column, params.width - 1u - column, params.mirror_x == 1u);
    let y = params.top + select(row, params.height - 1u - row, params.mirror_y == 1u);
    let value = clamp(textureLoad(picture, vec2(x, y), 0).rgb, vec3(0.0), vec3(1.0));
    if (params.encode == 0u) {
        return value;
    }
    return select(1.055 * pow(value, vec3(1.0 / 2.4)) - 0.055, 12.92 * value, value <= vec3(0.0031308));
}

// What is stored of a level between the two directions and behind them: with levels beyond black and
// white cut off, and whole ones of 255 but with two taps.
fn settled(level: vec3<f32>) -> vec3<f32> {
    let inside = clamp(level, vec3(0.0), vec3(1.0));
    return select(inside, floor(255.0 * inside + 0.5) / 255.0, FILTER != LINEAR);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread >= params.out_width * params.out_height) {
        return;
    }
    let column = i32(thread % params.out_width) + i32(params.crop_left);
    let row = i32(thread / params.out_width) + i32(params.crop_top);
    var level = vec3(0.0);
    let inside = column >= 0 && row >= 0
        && column < i32(params.scaled_width) && row < i32(params.scaled_height);
    if (inside) {
        var inner = reach(u32(column), params.width, params.scaled_width);
        var outer = reach(u32(row), params.height, params.scaled_height);
        let down = params.rows_first == 1u;
        if (down) {
            let across = inner;
            inner = outer;
            outer = across;
        }
        var sum = vec3(0.0);
        var whole = 0.0;
        for (var v = outer.first; v < outer.end; v++) {
            var line = vec3(0.0);
            var shares = 0.0;
            for (var u = inner.first; u < inner.end; u++) {
                let part = share(u, inner);
                line += part * texel(select(u, v, down), select(v, u, down));
                shares += part;
            }
            let part = share(v, outer);
            sum += part * settled(line / shares);
            whole += part;
        }
        level = settled(sum / whole);
    }
    let mean = bitcast<vec3<f32>>(vec3(params.mean_red, params.mean_green, params.mean_blue));
    let deviation = bitcast<vec3<f32>>(vec3(params.std_red, params.std_green, params.std_blue));
    y[thread] = Quad(vec4((level - mean) / deviation, 0.0));
}
