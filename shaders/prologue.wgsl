// Prologue of a product: loads four channels of the pixel whose channels start at `row`, converts them to the
// accumulators' type and, if GATED, scales them by squeeze-excite's gate, which starts at `gates`. The host
// appends this file to any kernel that calls `load_input`.

fn load_input(row: u32, gates: u32, i: u32) -> SumQuad {
    var v = SumQuad(x[row + i]);
    if (GATED == 1u) {
        v *= SumQuad(gate[gates + i]);
    }
    return v;
}

// The offset of the gate of a pixel's picture. `first` is the invocation's first pixel: unless MANY_GATES,
// all pixels of an invocation are of one picture, so that its gate is loaded once.
fn gates_of(first: u32, pixel: u32) -> u32 {
    let own = select(min(first, params.batch_pixels - 1u), pixel, MANY_GATES == 1u);
    return own / params.picture_pixels * params.inputs;
}
