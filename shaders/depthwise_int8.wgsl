// Depthwise convolution in int8. A word is four channels of a pixel. Products are added up in f32, which is
// exact: the host admits no window whose sums could exceed 2^24.
//
// An invocation makes ROWS x COLUMNS adjacent outputs of four channels, as in `depthwise.wgsl`.

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,     // rows of padding above
    left: u32,    // columns of padding on the left
    outputs: u32, // channels / 4, rounded up
    invocations: u32, // pictures * ceil(out_height / ROWS) * ceil(out_width / COLUMNS) * outputs
    padding: u32, // the zero point of x in all four bytes: the padding
    zero: u32,    // zero point of y, or the index of the table's entry for 0
    least: u32,   // bounds of the rescaled sums
    most: u32,
    residual_zero: u32,  // zero point of the residual
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

const SPAN: u32 = (COLUMNS - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;
const LINES: u32 = (ROWS - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;             // (pictures, height, width, outputs)
@group(0) @binding(2) var<storage, read> weight: array<u32>;        // (KERNEL, KERNEL, outputs)
@group(0) @binding(3) var<storage, read> output_params: array<vec4<i32>>; // (outputs, 4)
@group(0) @binding(4) var<storage, read> table: array<u32>;         // four entries per word, if HAS_TABLE
@group(0) @binding(5) var<storage, read> residual: array<u32>;      // shaped as y, if RESIDUAL
@group(0) @binding(6) var<storage, read_write> y: array<u32>;       // (pictures, out_height, out_width, outputs)

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
    let across = (params.out_width + COLUMNS - 1u) / COLUMNS;
    let quad = index % params.outputs;
    let first = index / params.outputs % across * COLUMNS;
    let down = (params.out_height + ROWS - 1u) / ROWS;
    let band = index / (params.outputs * across);
    let picture = band / down;
    let first_row = band % down * ROWS;

    var sum: array<array<vec4<f32>, COLUMNS>, ROWS>;
    for (var l = 0u; l < LINES; l++) {
        // Negative positions wrap around to huge values: one comparison covers both edges.
        let iy = first_row * STRIDE + l - params.top;
        let line = (picture * params.height + min(iy, params.height - 1u)) * params.width;
        var words: array<u32, SPAN>;
        for (var s = 0u; s < SPAN; s++) {
            let ix = first * STRIDE + s - params.left;
            words[s] = x[(line + min(ix, params.width - 1u)) * params.outputs + quad];
        }
        var input: array<vec4<f32>, SPAN>;
        for (var s = 0u; s < SPAN; s++) {
            let inside = iy < params.height && first * STRIDE + s - params.left < params.width;
            input[s] = vec4<f32>(unpack4xI8(select(params.padding, words[s], inside)));
        }
        for (var r = 0u; r < ROWS; r++) {
            // If the window of output row r has this line, it is the window's row `away / DILATION`.
            let away = l - r * STRIDE;
            if (l >= r * STRIDE && away % DILATION == 0u && away / DILATION < KERNEL) {
                for (var kx = 0u; kx < KERNEL; kx++) {
                    let word = weight[(away / DILATION * KERNEL + kx) * params.outputs + quad];
                    let w = vec4<f32>(unpack4xI8(word));
                    for (var c = 0u; c < COLUMNS; c++) {
                        sum[r][c] += input[c * STRIDE + kx * DILATION] * w;
                    }
                }
            }
        }
    }
    let n = output_params_of(quad);
    var whole: array<array<vec4<i32>, COLUMNS>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        let row = picture * params.out_height + min(first_row + r, params.out_height - 1u);
        for (var c = 0u; c < COLUMNS; c++) {
            let pixel = row * params.out_width + min(first + c, params.out_width - 1u);
            whole[r][c] = with_residual(n, pixel, quad, vec4<i32>(sum[r][c]));
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
