// Epilogue of a convolution in int8: bias, residual, rescaling, activation, store. The host appends this file
// to any kernel that calls `complete`. Such a kernel has all fields of `params` that are read here.

// Constants of four outputs. If BY_HALF, the shifts are those of `Rescale::by_upper_half`.
struct Numbers {
    bias: vec4<i32>,
    multiplier: vec4<i32>,          // of the sum; if FLOAT, a factor, as f32 bits
    residual_multiplier: vec4<i32>, // if RESIDUAL
    shifts: vec4<u32>,              // a byte each: left and right shift of the sum, left and right shift of the residual
}

fn numbers_of(output: u32) -> Numbers {
    let at = output * 4u;
    return Numbers(numbers[at], numbers[at + 1u], numbers[at + 2u], bitcast<vec4<u32>>(numbers[at + 3u]));
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
fn with_residual(n: Numbers, pixel: u32, output: u32, sum: vec4<i32>) -> vec4<i32> {
    if (RESIDUAL == 1u) {
        let steps = unpack4xI8(residual[pixel * params.outputs + output]) - bitcast<i32>(params.residual_zero);
        let added = scaled(steps, n.residual_multiplier, n.shifts >> vec4(16u));
        return sum + n.bias + clamp(added, vec4(-0x20000000i), vec4(0x20000000i));
    }
    return sum + n.bias;
}

fn complete(n: Numbers, pixel: u32, output: u32, sum: vec4<i32>) {
    let at = place(pixel) + output;
    if (FLOAT == 1u) {
        let v = activate(0u, vec4<f32>(sum) * bitcast<vec4<f32>>(n.multiplier));
        if (HALF == 1u) {
            y[2u * at] = pack2x16float(v.xy);
            y[2u * at + 1u] = pack2x16float(v.zw);
        } else {
            y[4u * at] = bitcast<u32>(v.x);
            y[4u * at + 1u] = bitcast<u32>(v.y);
            y[4u * at + 2u] = bitcast<u32>(v.z);
            y[4u * at + 3u] = bitcast<u32>(v.w);
        }
        return;
    }
    let limits = bitcast<vec2<i32>>(vec2(params.least, params.most));
    let moved = scaled(sum, n.multiplier, n.shifts) + bitcast<i32>(params.zero);
    let made = clamp(moved, vec4(limits.x), vec4(limits.y));
    y[at] = select(pack4xI8(made), looked_up(bitcast<vec4<u32>>(made)), BENT == 1u);
}

// The curve's bytes at four indices.
fn looked_up(indices: vec4<u32>) -> u32 {
    if (BENT == 0u) {
        return 0u;
    }
    var bytes: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        bytes[i] = (curve[indices[i] / 4u] >> (indices[i] % 4u * 8u)) & 0xffu;
    }
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
