// How a product loads its input: four channels of the pixel whose row begins at `row`, in what sums are made in,
// and scaled by squeeze-excite's gate, whose row begins at `gates`, if GATED. The host puts this file behind any
// kernel that calls `load_input`.

fn load_input(row: u32, gates: u32, i: u32) -> SumQuad {
    var v = SumQuad(x[row + i]);
    if (GATED == 1u) {
        v *= SumQuad(gate[gates + i]);
    }
    return v;
}

// Where the gate of a pixel's picture begins, if the invocation's pixels begin with `first`. Where all of them are of one
// picture they have one gate, and it is loaded once.
fn gates_of(first: u32, pixel: u32) -> u32 {
    return select(min(first, params.pixels - 1u), pixel, MANY_GATES == 1u) / params.picture * params.inputs;
}
