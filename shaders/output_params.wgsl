// Rescaling and activation of a convolution in int8. The host appends this file to any kernel that calls
// `output_params_of`. Such a kernel has all bindings and fields of `params` that are read here.

// Constants of four outputs. If BY_HALF, the shifts are those of `Rescale::by_upper_half`.
struct OutputParams {
    bias: vec4<i32>,
    multiplier: vec4<i32>,          // of the sum; if FLOAT, a factor, as f32 bits
    residual_multiplier: vec4<i32>, // if RESIDUAL
    shifts: vec4<u32>,              // a byte each: left and right shift of the sum, left and right shift of the residual
}

fn output_params_of(output: u32) -> OutputParams {
    let at = output * 4u;
    return OutputParams(
        output_params[at],
        output_params[at + 1u],
        output_params[at + 2u],
        bitcast<vec4<u32>>(output_params[at + 3u]),
    );
}

fn scaled(x: vec4<i32>, multiplier: vec4<i32>, shifts: vec4<u32>) -> vec4<i32> {
    let right = (shifts >> vec4(8u)) & vec4(0xffu);
    if (BY_HALF == 1u) {
        let high = multiplied(x << (shifts & vec4(0xffu)), multiplier).high;
        return (high + (vec4(1i) << (right - 1u))) >> right;
    }
    return rescaled(x, multiplier, right);
}

// Adds bias and residual. A kernel with several sums calls this for all of them before it completes one: see
// `epilogue.wgsl`.
fn with_residual(n: OutputParams, pixel: u32, output: u32, sum: vec4<i32>) -> vec4<i32> {
    if (RESIDUAL == 1u) {
        let offset = unpack4xI8(residual[pixel * params.outputs + output]) - bitcast<i32>(params.residual_zero);
        let added = scaled(offset, n.residual_multiplier, n.shifts >> vec4(16u));
        return sum + n.bias + clamp(added, vec4(-0x20000000i), vec4(0x20000000i));
    }
    return sum + n.bias;
}

// Returns four outputs as a word. `range` is the zero point, or the index of the table's entry for 0, and the
// bounds of the rescaled sums. If `has_table`, the rescaled sums are indices into the table that starts at
// the word `first`.
fn requantised(n: OutputParams, sum: vec4<i32>, range: vec3<u32>, has_table: u32, first: u32) -> u32 {
    let limits = bitcast<vec3<i32>>(range);
    let made = clamp(scaled(sum, n.multiplier, n.shifts) + limits.x, vec4(limits.y), vec4(limits.z));
    if (has_table == 0u) {
        return pack4xI8(made);
    }
    let indices = bitcast<vec4<u32>>(made);
    var bytes: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        bytes[i] = (table[first + indices[i] / 4u] >> (indices[i] % 4u * 8u)) & 0xffu;
    }
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
