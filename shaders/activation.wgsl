// The activation that a kernel applies last. The host puts this file after any kernel
// that declares ACTIVATION; the numbers are `graph::Activation`'s.

fn activate(v: vec4<f32>) -> vec4<f32> {
    switch ACTIVATION {
        case 1u: { return max(v, vec4(0.0)); }                          // ReLU
        case 2u: { return clamp(v, vec4(0.0), vec4(6.0)); }             // ReLU6
        case 3u: { return v * clamp(v + 3.0, vec4(0.0), vec4(6.0)) / 6.0; } // h-swish
        case 4u: { return clamp(v + 3.0, vec4(0.0), vec4(6.0)) / 6.0; } // hard-sigmoid
        case 5u: { return 1.0 / (1.0 + exp(-v)); }                      // sigmoid
        default: { return v; }
    }
}
