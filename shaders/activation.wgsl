// A convolution's activation. The host puts this file behind any kernel that calls `activate`, with FLAG, where
// the flag is bound, HALF, whether maps are f16, and `alarm` as its first parameter; the kinds are
// `graph::Activation`'s codes, constants wherever they are used.
//
// Activations hide what overflows: ReLU6 makes six of infinity, and of what is no number anything. So every sum is
// looked at before, and every value that maps cannot hold after it; the flag keeps the alarm of the earliest step,
// which is the highest. Bits are tested, since compilers may take floats for finite.

@group(0) @binding(FLAG) var<storage, read_write> flag: atomic<u32>;

fn activate(kind: u32, v: vec4<f32>) -> vec4<f32> {
    let activated = applied(kind, v);
    let exponents = vec4(0x7f800000u);
    var overflows = any((bitcast<vec4<u32>>(v) & exponents) == exponents);
    // f32 maps hold every finite sum. Beyond 65504, f16's largest, 65520 is the first that is not rounded to it.
    if (HALF == 1u) {
        overflows = overflows || any(abs(activated) >= vec4(65520.0));
    }
    if (overflows) {
        atomicMax(&flag, params.alarm);
    }
    return activated;
}

fn applied(kind: u32, v: vec4<f32>) -> vec4<f32> {
    switch kind {
        case 1u: { return max(v, vec4(0.0)); }                              // ReLU
        case 2u: { return clamp(v, vec4(0.0), vec4(6.0)); }                 // ReLU6
        case 3u: { return v * clamp(v + 3.0, vec4(0.0), vec4(6.0)) / 6.0; } // h-swish
        case 4u: { return clamp(v + 3.0, vec4(0.0), vec4(6.0)) / 6.0; }     // hard-sigmoid
        case 5u: { return 1.0 / (1.0 + exp(-v)); }                          // sigmoid
        default: { return v; }
    }
}
