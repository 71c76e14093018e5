// Stores an output of a convolution in int8. The host appends this file to any kernel that calls `complete`.
// Such a kernel has all fields of `params` that are read here.

fn complete(n: OutputParams, pixel: u32, output: u32, sum: vec4<i32>) {
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
    y[at] = requantised(n, sum, vec3(params.zero, params.least, params.most), HAS_TABLE, 0u);
}
