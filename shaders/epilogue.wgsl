// Epilogue of a convolution whose sum has its bias: residual, activation, store. The host appends this file
// to any kernel that calls `finish`, then `activation.wgsl` and `placement.wgsl`.

// Adds the residual. A kernel with several sums calls this for all of them before it finishes one, so that
// their loads are in flight together. Sums past the last pixel or output load the last one's residual: with
// conditions around them, loads would wait one by one.
fn with_residual(pixel: u32, output: u32, sum: vec4<f32>) -> vec4<f32> {
    if (RESIDUAL == 1u) {
        return sum + vec4<f32>(residual[pixel * params.outputs + output]);
    }
    return sum;
}

fn finish(pixel: u32, output: u32, sum: vec4<f32>) {
    y[place(pixel) + output] = Quad(activate(ACTIVATION, sum));
}
