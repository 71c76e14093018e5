// A convolution's activation. The host puts this file behind any kernel with an ACTIVATION;
// the kinds are `graph::Activation`'s codes, constants wherever they are used.

fn activate(kind: u32, v: vec4<f32>) -> vec4<f32> {
    switch kind {
        case 1u: { return max(v, vec4(0.0)); }                              // ReLU
        case 2u: { return clamp(v, vec4(0.0), vec4(6.0)); }                 // ReLU6
        case 3u: { return v * clamp(v + 3.0, vec4(0.0), vec4(6.0)) / 6.0; } // h-swish
        case 4u: { return clamp(v + 3.0, vec4(0.0), vec4(6.0)) / 6.0; }     // hard-sigmoid
        case 5u: { return 1.0 / (1.0 + exp(-v)); }                          // sigmoid
        default: { return v; }
    }
}
