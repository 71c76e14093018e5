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
