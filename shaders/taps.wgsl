// Linear interpolation. The host appends this file to any kernel that calls `taps`.

struct Taps {
    first: u32,
    second: u32,
    weight: f32,
}

// The two input pixels around output pixel `at`, and the second one's weight. `size` and `outputs` are the
// lengths of the axes. The output's centre is at (at + 1/2) * size / outputs - 1/2, an exact fraction over
// 2 * outputs.
fn taps(at: u32, size: u32, outputs: u32) -> Taps {
    let numerator = max((2u * at + 1u) * size, outputs) - outputs;
    let first = numerator / (2u * outputs);
    return Taps(first, min(first + 1u, size - 1u), f32(numerator % (2u * outputs)) / f32(2u * outputs));
}
