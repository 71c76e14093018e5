// A convolution's activation. The host appends this file to any kernel that calls `activate`. Such a kernel
// has the constants FLAG (the binding of the overflow flag) and HALF (1 if maps are f16), and `alarm` as its
// first parameter. The kinds are the codes of `graph::Activation`, constant at every call.
//
// Activations hide overflow: ReLU6 turns infinity into 6, and NaN into anything. So every sum is checked
// before its activation, and every value of an f16 map after it; a kernel calls `raise` after its last
// output. The flag keeps the highest alarm, which is that of the first step that overflowed. Bits are
// compared because compilers may assume that floats are finite: as integers, infinity and NaN are the highest
// of their sign.

@group(0) @binding(FLAG) var<storage, read_write> flag: atomic<u32>;

var<private> positive: i32; // maximum of the sums' bits as i32: for positive infinity and NaN
var<private> negative: u32; // maximum of the sums' bits as u32: for negative ones
var<private> largest: f32;  // largest magnitude of the stored values, if HALF

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
    // The largest f16 is 65504; 65520 is the first value that does not round to it.
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
        case 6u: { return v / (1.0 + exp(min(-v, vec4(80.0)))); }           // swish; exp(89) overflows f32
        default: { return v; }
    }
}
