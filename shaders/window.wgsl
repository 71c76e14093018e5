// Loads of x for products of pixels by channels. Implicit GEMM: the inner dimension is (tap, input channel). A
// pointwise layer's window has one tap. The host appends this file to any kernel that calls `window_of`.

const TAPS: u32 = KERNEL * KERNEL;

// The window of an output pixel. Positions left of or above the map wrap around to huge values.
struct Window {
    row: u32,   // offset of its first tap in x
    gates: u32, // offset of its picture in the gate
    y: u32,
    column: u32,
}

fn window_of(pixel: u32) -> Window {
    let picture = pixel / params.picture_pixels;
    if (TAPS * STRIDE == 1u) {
        return Window(pixel * params.inputs, picture * params.inputs, 0u, 0u);
    }
    let y = pixel % params.picture_pixels / params.out_width * STRIDE - params.top;
    let column = pixel % params.picture_pixels % params.out_width * STRIDE - params.left;
    let row = ((picture * params.height + y) * params.width + column) * params.inputs;
    return Window(row, picture * params.inputs, y, column);
}

// Four inputs of a tap, in any window.
struct Term {
    i: u32,
    down: u32,
    right: u32,
    inside: bool, // true if the tap and the inputs exist
}

fn term_of(tap: u32, i: u32) -> Term {
    let last = params.inputs - 1u;
    return Term(min(i, last), tap / KERNEL * DILATION, tap % KERNEL * DILATION, tap < TAPS && i <= last);
}

// A window's values of a term. They are converted later: a conversion here would wait for the loads.
struct Loaded {
    x: Quad,
    gate: Quad,
    inside: bool,
}

fn load(window: Window, term: Term) -> Loaded {
    var loaded: Loaded;
    var row = window.row;
    loaded.inside = term.inside;
    if (TAPS > 1u) {
        loaded.inside &= window.y + term.down < params.height;
        loaded.inside &= window.column + term.right < params.width;
        row = select(0u, row + (term.down * params.width + term.right) * params.inputs, loaded.inside);
    }
    loaded.x = x[row + term.i];
    if (GATED == 1u) {
        loaded.gate = gate[window.gates + term.i];
    }
    return loaded;
}

// Converts the values and scales them by squeeze-excite's gate. Outside the map and past the last term they
// are zero.
fn value_of(loaded: Loaded) -> vec4<f32> {
    var v = vec4<f32>(loaded.x);
    if (GATED == 1u) {
        v *= vec4<f32>(loaded.gate);
    }
    return select(vec4(0.0), v, loaded.inside);
}
