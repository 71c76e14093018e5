// What products read of x whose inner dimension is the inputs of one tap of a window after the other. A pointwise
// layer's window has one tap. The host puts this file behind any kernel that calls `window_of`.

const TAPS: u32 = KERNEL * KERNEL;

// The window of a pixel that is made. Left of or above the map wraps round to huge numbers.
struct Window {
    row: u32,   // where its first tap begins in x
    gates: u32, // and its picture in the gate
    y: u32,
    column: u32,
}

fn window_of(pixel: u32) -> Window {
    let picture = pixel / params.picture;
    if (TAPS * STRIDE == 1u) {
        return Window(pixel * params.inputs, picture * params.inputs, 0u, 0u);
    }
    let y = pixel % params.picture / params.out_width * STRIDE - params.top;
    let column = pixel % params.picture % params.out_width * STRIDE - params.left;
    let row = ((picture * params.height + y) * params.width + column) * params.inputs;
    return Window(row, picture * params.inputs, y, column);
}

// Four inputs of a tap, the same of every window.
struct Term {
    i: u32,
    down: u32,
    right: u32,
    inside: bool, // whether there is such a tap, and such an input
}

fn term_of(tap: u32, i: u32) -> Term {
    let last = params.inputs - 1u;
    return Term(min(i, last), tap / KERNEL * DILATION, tap % KERNEL * DILATION, tap < TAPS && i <= last);
}

// What a window has of a term, as it is stored: whoever converts it waits for it.
struct Taken {
    x: Quad,
    gate: Quad,
    inside: bool,
}

fn take(window: Window, term: Term) -> Taken {
    var taken: Taken;
    var row = window.row;
    taken.inside = term.inside;
    if (TAPS > 1u) {
        taken.inside &= window.y + term.down < params.height;
        taken.inside &= window.column + term.right < params.width;
        row = select(0u, row + (term.down * params.width + term.right) * params.inputs, taken.inside);
    }
    taken.x = x[row + term.i];
    if (GATED == 1u) {
        taken.gate = gate[window.gates + term.i];
    }
    return taken;
}

// Its value: scaled by squeeze-excite's gate, and zeros beyond the map and beyond the last term.
fn value_of(taken: Taken) -> vec4<f32> {
    var v = vec4<f32>(taken.x);
    if (GATED == 1u) {
        v *= vec4<f32>(taken.gate);
    }
    return select(vec4(0.0), v, taken.inside);
}
