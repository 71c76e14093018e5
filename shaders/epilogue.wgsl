// What follows a convolution's sum, its bias in it: the residual, then the activation and the place in the map that is
// made. The host puts this file behind any kernel that calls `finish`, and `activation.wgsl` and `placement.wgsl`
// behind it.

// The sum with the residual. Whoever has several sums does this with all before it finishes one, for pixels and outputs
// beyond the last too, as the last: a condition round the loads would have each waited for by itself.
fn carried(pixel: u32, output: u32, sum: vec4<f32>) -> vec4<f32> {
    if (RESIDUAL == 1u) {
        return sum + vec4<f32>(residual[pixel * params.outputs + output]);
    }
    return sum;
}

fn finish(pixel: u32, output: u32, sum: vec4<f32>) {
    y[place(pixel) + output] = Quad(activate(ACTIVATION, sum));
}
