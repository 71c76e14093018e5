// The two of `size` pixels that output `at` of `outputs` lies between where a map is scaled, and the
// share of the second. The host puts this file behind any kernel that calls `taps`.

struct Taps {
    first: u32,
    second: u32,
    share: f32,
}

// The output's centre is at (at + 1/2) * size / outputs - 1/2, which is exact over 2 * outputs.
fn taps(at: u32, size: u32, outputs: u32) -> Taps {
    let centre = max((2u * at + 1u) * size, outputs) - outputs;
    let first = centre / (2u * outputs);
    return Taps(first, min(first + 1u, size - 1u), f32(centre % (2u * outputs)) / f32(2u * outputs));
}
