// Rescales 32-bit integers, bit for bit as `graph::Integers` does on the CPU. The host appends this file to
// any kernel that calls `rescaled`, directly or through `output_params.wgsl`.

// Returns x * multiplier / 2^shift, halves rounded up, clamped to +-2^30; callers clamp it to smaller ranges.
fn rescaled(x: vec4<i32>, multiplier: vec4<i32>, shift: vec4<u32>) -> vec4<i32> {
    let product = multiplied(x, multiplier);
    // Shifts of 33 and more need the upper half only.
    let far = (product.high + (vec4(1i) << ((shift - 33u) & vec4(31u)))) >> ((shift - 32u) & vec4(31u));
    let low = product.low + (vec4(1u) << ((shift - 1u) & vec4(31u)));
    let high = product.high + select(vec4(0i), vec4(1i), low < product.low);
    let right = shift & vec4(31u);
    let joined = bitcast<vec4<i32>>((bitcast<vec4<u32>>(high) << ((32u - right) & vec4(31u))) | (low >> right));
    let fits = (high >> ((shift - 1u) & vec4(31u))) == (high >> vec4(31u));
    let beyond = select(vec4(0x40000000i), vec4(-0x40000000i), high < vec4(0i));
    let near = select(select(beyond, joined, fits), high, right == vec4(0u));
    return clamp(select(near, far, shift > vec4(32u)), vec4(-0x40000000i), vec4(0x40000000i));
}

struct Product {
    low: vec4<u32>,
    high: vec4<i32>,
}

// Returns the 64-bit product. A multiplier is not negative.
fn multiplied(x: vec4<i32>, multiplier: vec4<i32>) -> Product {
    let a = bitcast<vec4<u32>>(x);
    let b = bitcast<vec4<u32>>(multiplier);
    let a_low = a & vec4(0xffffu);
    let a_high = a >> vec4(16u);
    let b_low = b & vec4(0xffffu);
    let b_high = b >> vec4(16u);
    let first = a_low * b_low;
    let second = a_high * b_low + (first >> vec4(16u)); // below 2^32
    let third = a_low * b_high + (second & vec4(0xffffu));
    let high = a_high * b_high + (second >> vec4(16u)) + (third >> vec4(16u));
    let low = (third << vec4(16u)) | (first & vec4(0xffffu));
    return Product(low, bitcast<vec4<i32>>(high) - select(vec4(0i), multiplier, x < vec4(0i)));
}
