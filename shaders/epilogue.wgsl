// What follows a convolution's sum, its bias in it: the residual, the activation, and the place in the map that is
// made. The host puts this file behind any kernel that calls `finish`, and `activation.wgsl` and `placement.wgsl`
// behind it.

fn finish(pixel: u32, output: u32, sum: vec4<f32>) {
    var v = sum;
    if (RESIDUAL == 1u) {
        v += vec4<f32>(residual[pixel * params.outputs + output]);
    }
    y[place(pixel) + output] = Quad(activate(ACTIVATION, v));
}
