// A convolution's activation. The host puts this file behind any kernel that calls `activate`, with FLAG, where
// the flag is bound, HALF, whether maps are f16, and `alarm` as its first parameter; the kinds are
// `graph::Activation`'s codes, constants wherever they are used.
//
// Activations hide what overflows: ReLU6 makes six of infinity, and of NaN anything. So every sum is
// looked at before, and every value that f16 maps are to hold after it; a kernel calls `raise` when it has made its
// last. The flag keeps the alarm of the earliest step, which is the highest. Bits are compared, since compilers may
// take floats for finite: as whole numbers those of infinity and of NaN are the highest of their sign.

@group(0) @binding(FLAG) var<storage, read_write> flag: atomic<u32>;

var<private> positive: i32; // highest bits of a sum without a sign
var<private> negative: u32; // highest bits of a sum with one
var<private> largest: f32;  // largest magnitude of what is stored, if HALF

fn activate(kind: u32, v: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<i32>>(v);
    positive = max(max(positive, bits.x), bits.y);
    positive = max(max(positive, bits.z), bits.w);
    let signed = bitcast<vec4<u32>>(v);
    negative = max(max(negative, signed.x), signed.y);
    negative = max(max(negative, signed.z), signed.w);
    let activated = applied(kind, v);
    if (HALF == 1u) {
        let size = abs(activated);
        largest = max(max(largest, size.x), size.y);
        largest = max(max(largest, size.z), size.w);
    }
    return activated;
}

fn raise() {
    // f16's largest is 65504; 65520 is the first that is not rounded to it.
    if (positive >= 0x7f800000 || negative >= 0xff800000u || (HALF == 1u && largest >= 65520.0)) {
        atomicMax(&flag, params.alarm);
    }
}

fn applied(kind: u32, v: vec4<f32>) -> vec4<f32> {
    switch kind {
        case 1u: { return max(v, vec4(0.0)); }                              // ReLU
        case 2u: { return clamp(v, vec4(0.0), vec4(6.0)); }                 // ReLU6
        case 3u: { return v * clamp(v + 3.0, vec4(0.0), vec4(6.0)) / 6.0; } // h-swish
        case 4u: { return clamp(v + 3.0, vec4(0.0), vec4(6.0)) / 6.0; }     // hard-sigmoid
        case 5u: { return 1.0 / (1.0 + exp(-v)); }                          // sigmoid
        case 6u: { return v / (1.0 + exp(min(-v, vec4(80.0)))); }           // swish; exp(89) is no f32
        default: { return v; }
    }
}
