// A network's input from a texture, or from the two planes of a video frame: a rectangle, optionally
// mirrored, scaled with an antialiasing filter, cropped and normalised, as on the CPU. An invocation makes
// one pixel.

struct Params {
    left: u32,   // of the rectangle in the texture, in texels
    top: u32,
    width: u32,
    height: u32,
    mirror_x: u32, // 1: read from right to left
    mirror_y: u32, // 1: read from bottom to top
    rows_first: u32, // 1: the vertical pass precedes the horizontal one
    encode: u32,   // 1: texels are linear and get sRGB's transfer curve
    scaled_width: u32, // of the whole rectangle
    scaled_height: u32,
    scale_x: u32,  // texels from one scaled pixel to the next, as f32 bits
    scale_y: u32,
    crop_left: u32, // of the input in the scaled rectangle, as an i32; negative for black padding
    crop_top: u32,
    out_width: u32,
    out_height: u32,
    mean_0: u32, // of the input's first channel, as f32 bits; the next five likewise
    mean_1: u32,
    mean_2: u32,
    std_0: u32,
    std_1: u32,
    std_2: u32,
    luma_black: u32, // luma of black, as f32 bits; the next six likewise
    luma_gain: u32,
    chroma_grey: u32, // chroma of grey
    red_of_v: u32,
    green_of_u: u32,
    green_of_v: u32,
    blue_of_u: u32,
    chroma_half_x: u32, // 1: one chroma texel for two luma texels
    chroma_half_y: u32,
    chroma_swapped: u32, // 1: V before U
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<Quad>; // (out_height, out_width)
@group(0) @binding(2) var picture: texture_2d<f32>; // luma, if TEXELS is YUV
@group(0) @binding(3) var chroma: texture_2d<f32>; // any texture, unless TEXELS is YUV

// FILTER
const NEAREST = 0u;
const BILINEAR = 1u;
const BICUBIC = 2u;
const LANCZOS = 3u;
const LINEAR = 4u; // two taps at any scale
// GRID
const AREA = 0u;
const CORNERS = 1u;
const TOP_LEFT = 2u;
// TEXELS; 0 is colours
const LUMINANCE = 1u;
const YUV = 2u;
// COLOURS; 0 is red, green, blue
const BGR = 1u;
const GREY = 2u;

const PI = 3.14159265358979;

// The pixels along an axis that an output is made of, the filter's centre and its stretch.
struct Reach {
    first: u32,
    end: u32,
    centre: f32,
    stretch: f32,
}

fn radius() -> f32 {
    return select(select(1.0, 2.0, FILTER == BICUBIC), 3.0, FILTER == LANCZOS);
}

fn reach(at: u32, size: u32, scale: f32) -> Reach {
    // A pixel's centre is at its index + 1/2.
    let centre = select(f32(at) * scale + 0.5, (f32(at) + 0.5) * scale, GRID == AREA);
    if (FILTER == NEAREST) {
        let first = min(u32(select(centre, f32(at) * scale, GRID == TOP_LEFT)), size - 1u);
        return Reach(first, first + 1u, f32(first) + 0.5, 1.0);
    }
    // Past the edge the outermost pixel is repeated: the clamped centre gives the tap outside no weight.
    let inner = select(centre, clamp(centre, 0.5, f32(size) - 0.5), FILTER == LINEAR);
    let stretch = select(max(scale, 1.0), 1.0, FILTER == LINEAR);
    let half = radius() * stretch;
    let first = u32(max(inner - half + 0.5, 0.0));
    return Reach(first, min(u32(inner + half + 0.5), size), inner, stretch);
}

fn sinc(x: f32) -> f32 {
    return select(sin(PI * x) / (PI * x), 1.0, x == 0.0);
}

// A pixel's weight, before normalisation.
fn weight(pixel: u32, of_output: Reach) -> f32 {
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

fn whole_levels(value: vec3<f32>) -> vec3<f32> {
    return floor(255.0 * value + 0.5);
}

// The chroma at a texel of luma, interpolated between the four nearest texels. With half as many columns,
// chroma's first column lies on luma's first; with half as many rows, its first row lies between luma's first
// two: as in MPEG-2 and H.264.
fn chroma_under(at: vec2<u32>) -> vec2<f32> {
    let half_x = params.chroma_half_x == 1u;
    let half_y = params.chroma_half_y == 1u;
    let position = vec2(
        select(f32(at.x), 0.5 * f32(at.x), half_x),
        select(f32(at.y), max(0.5 * f32(at.y) - 0.25, 0.0), half_y),
    );
    let low = vec2<u32>(position);
    let high = min(low + 1u, textureDimensions(chroma) - 1u);
    let part = fract(position);
    let upper = mix(textureLoad(chroma, low, 0).rg, textureLoad(chroma, vec2(high.x, low.y), 0).rg, part.x);
    let lower = mix(textureLoad(chroma, vec2(low.x, high.y), 0).rg, textureLoad(chroma, high, 0).rg, part.x);
    let found = mix(upper, lower, part.y);
    return select(found, found.yx, params.chroma_swapped == 1u);
}

fn from_planes(at: vec2<u32>) -> vec3<f32> {
    let uv = chroma_under(at) - bitcast<f32>(params.chroma_grey);
    let luma = (textureLoad(picture, at, 0).r - bitcast<f32>(params.luma_black)) * bitcast<f32>(params.luma_gain);
    let colour = luma + vec3(
        bitcast<f32>(params.red_of_v) * uv.y,
        bitcast<f32>(params.green_of_u) * uv.x + bitcast<f32>(params.green_of_v) * uv.y,
        bitcast<f32>(params.blue_of_u) * uv.x,
    );
    // Rounded as by a decoder with 8-bit output.
    return whole_levels(clamp(colour, vec3(0.0), vec3(1.0))) / 255.0;
}

// A texel's red, green and blue with sRGB's curve, or its luminance in the first component.
fn texel(column: u32, row: u32) -> vec3<f32> {
    let x = params.left + select(column, params.width - 1u - column, params.mirror_x == 1u);
    let y = params.top + select(row, params.height - 1u - row, params.mirror_y == 1u);
    var value: vec3<f32>;
    if (TEXELS == YUV) {
        value = from_planes(vec2(x, y));
    } else {
        let stored = clamp(textureLoad(picture, vec2(x, y), 0).rgb, vec3(0.0), vec3(1.0));
        value = select(stored, stored.rrr, TEXELS == LUMINANCE);
    }
    if (params.encode == 1u) {
        value = select(1.055 * pow(value, vec3(1.0 / 2.4)) - 0.055, 12.92 * value, value <= vec3(0.0031308));
    }
    if (COLOURS == GREY) {
        // Pillow's integer arithmetic, for the same rounding.
        let level = vec3<u32>(whole_levels(value));
        let grey = (19595u * level.r + 38470u * level.g + 7471u * level.b + 0x8000u) >> 16u;
        return vec3(f32(grey) / 255.0, 0.0, 0.0);
    }
    return value;
}

// The output of either pass: levels are clamped to black and white, and rounded to 8-bit levels unless the
// filter is LINEAR.
fn pass_output(level: vec3<f32>) -> vec3<f32> {
    let inside = clamp(level, vec3(0.0), vec3(1.0));
    return select(inside, whole_levels(inside) / 255.0, FILTER != LINEAR);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index >= params.out_width * params.out_height) {
        return;
    }
    let column = i32(index % params.out_width) + i32(params.crop_left);
    let row = i32(index / params.out_width) + i32(params.crop_top);
    var level = vec3(0.0);
    let inside = column >= 0 && row >= 0
        && column < i32(params.scaled_width) && row < i32(params.scaled_height);
    if (inside) {
        var inner = reach(u32(column), params.width, bitcast<f32>(params.scale_x));
        var outer = reach(u32(row), params.height, bitcast<f32>(params.scale_y));
        let rows_first = params.rows_first == 1u;
        if (rows_first) {
            let columns = inner;
            inner = outer;
            outer = columns;
        }
        var sum = vec3(0.0);
        var total = 0.0;
        for (var v = outer.first; v < outer.end; v++) {
            var line = vec3(0.0);
            var line_total = 0.0;
            for (var u = inner.first; u < inner.end; u++) {
                let w = weight(u, inner);
                line += w * texel(select(u, v, rows_first), select(v, u, rows_first));
                line_total += w;
            }
            let w = weight(v, outer);
            sum += w * pass_output(line / line_total);
            total += w;
        }
        level = pass_output(sum / total);
    }
    level = select(level, level.bgr, COLOURS == BGR);
    let mean = bitcast<vec3<f32>>(vec3(params.mean_0, params.mean_1, params.mean_2));
    let deviation = bitcast<vec3<f32>>(vec3(params.std_0, params.std_1, params.std_2));
    y[index] = Quad(vec4((level - mean) / deviation, 0.0));
}
