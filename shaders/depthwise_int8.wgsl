// Depthwise convolution in integers. A word is four channels of a pixel. Products are added up in f32, which is exact: no
// window is so large that a sum could reach 2^24.
//
// A thread makes COLUMNS neighbouring outputs of ROWS rows for four channels, as in `depthwise.wgsl`.

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,     // rows above the map
    left: u32,    // columns to its left
    outputs: u32, // channels, in fours
    threads: u32, // pictures * ceil(out_height / ROWS) * ceil(out_width / COLUMNS) * outputs
    around: u32,  // four bytes of what stands for 0 in x: what surrounds the map
    zero: u32,    // what stands for 0 in y, or the curve's place of it
    least: u32,   // what sums are cut off below, and above
    most: u32,
    carried_zero: u32,  // what stands for 0 in the residual
    part_pixels: u32,   // of a picture, if PLACED
    part_first: u32,    // fours of channels before the part
    whole_pixel: u32,   // from a pixel of the whole to the next
    whole_picture: u32, // from a picture of the whole to the next
}

const SPAN: u32 = (COLUMNS - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;
const LINES: u32 = (ROWS - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;             // (pictures, height, width, outputs)
@group(0) @binding(2) var<storage, read> weight: array<u32>;        // (KERNEL, KERNEL, outputs)
@group(0) @binding(3) var<storage, read> numbers: array<vec4<i32>>; // (outputs, 4)
@group(0) @binding(4) var<storage, read> curve: array<u32>;         // four entries a word, if BENT
@group(0) @binding(5) var<storage, read> residual: array<u32>;      // as y, if RESIDUAL
@group(0) @binding(6) var<storage, read_write> y: array<u32>;       // (pictures, out_height, out_width, outputs)

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
    let across = (params.out_width + COLUMNS - 1u) / COLUMNS;
    let quad = thread % params.outputs;
    let first = thread / params.outputs % across * COLUMNS;
    let down = (params.out_height + ROWS - 1u) / ROWS;
    let run = thread / (params.outputs * across);
    let picture = run / down;
    let first_row = run % down * ROWS;

    var sum: array<array<vec4<f32>, COLUMNS>, ROWS>;
    for (var l = 0u; l < LINES; l++) {
        // Left of or above the picture wraps round to a huge number: one comparison serves both sides.
        let iy = first_row * STRIDE + l - params.top;
        let line = (picture * params.height + min(iy, params.height - 1u)) * params.width;
        var words: array<u32, SPAN>;
        for (var s = 0u; s < SPAN; s++) {
            let ix = first * STRIDE + s - params.left;
            words[s] = x[(line + min(ix, params.width - 1u)) * params.outputs + quad];
        }
        var taken: array<vec4<f32>, SPAN>;
        for (var s = 0u; s < SPAN; s++) {
            let inside = iy < params.height && first * STRIDE + s - params.left < params.width;
            taken[s] = vec4<f32>(unpack4xI8(select(params.around, words[s], inside)));
        }
        for (var r = 0u; r < ROWS; r++) {
            // The row of the window that this line is, if it is one.
            let away = l - r * STRIDE;
            if (l >= r * STRIDE && away % DILATION == 0u && away / DILATION < KERNEL) {
                for (var kx = 0u; kx < KERNEL; kx++) {
                    let word = weight[(away / DILATION * KERNEL + kx) * params.outputs + quad];
                    let w = vec4<f32>(unpack4xI8(word));
                    for (var c = 0u; c < COLUMNS; c++) {
                        sum[r][c] += taken[c * STRIDE + kx * DILATION] * w;
                    }
                }
            }
        }
    }
    let n = numbers_of(quad);
    var whole: array<array<vec4<i32>, COLUMNS>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        let row = picture * params.out_height + min(first_row + r, params.out_height - 1u);
        for (var c = 0u; c < COLUMNS; c++) {
            let pixel = row * params.out_width + min(first + c, params.out_width - 1u);
            whole[r][c] = carried(n, pixel, quad, vec4<i32>(sum[r][c]));
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        for (var c = 0u; c < COLUMNS; c++) {
            if (first_row + r < params.out_height && first + c < params.out_width) {
                let pixel = (picture * params.out_height + first_row + r) * params.out_width + first + c;
                complete(n, pixel, quad, whole[r][c]);
            }
        }
    }
    if (FLOAT == 1u) {
        raise();
    }
}
