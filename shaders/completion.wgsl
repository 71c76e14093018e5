// What follows a convolution's sums in integers: bias and residual, then what becomes of them. The host puts this file
// behind any kernel that calls `complete`, whose `params` have what is read of them here.

// Of four outputs. BY_HALF says that shifts are those of `Rescale::by_upper_half`.
struct Numbers {
    bias: vec4<i32>,
    multiplier: vec4<i32>, // of sums; FLOAT: factors, as bits
    carry: vec4<i32>,      // the multiplier of the residual, if RESIDUAL
    shifts: vec4<u32>,     // left of the sum, right of it, left of the residual, right of it, a byte each
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

// The sum with bias and residual. Whoever has several sums does this with all before it completes one: see
// `epilogue.wgsl`.
fn carried(n: Numbers, pixel: u32, output: u32, sum: vec4<i32>) -> vec4<i32> {
    if (RESIDUAL == 1u) {
        let steps = unpack4xI8(residual[pixel * params.outputs + output]) - bitcast<i32>(params.carried_zero);
        let added = scaled(steps, n.carry, n.shifts >> vec4(16u));
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

// The bytes of a curve at four places.
fn looked_up(places: vec4<u32>) -> u32 {
    if (BENT == 0u) {
        return 0u;
    }
    var bytes: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        bytes[i] = (curve[places[i] / 4u] >> (places[i] % 4u * 8u)) & 0xffu;
    }
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
