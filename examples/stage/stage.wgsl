// Shapes on a gradient, drawn with one triangle that covers the target.

struct Actor {
    centre: vec2<f32>, // 0 to 1, from the top left corner
    radius: f32,
    angle: f32,
    colour: vec3<f32>,
    shape: u32, // its index among the demo's shapes
}

struct Stage {
    upper: vec4<f32>,
    lower: vec4<f32>,
    actors: array<Actor, 5>, // back to front
}

@group(0) @binding(0) var<uniform> stage: Stage;

@vertex
fn vertex(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
    return vec4(select(-1.0, 3.0, index == 1u), select(-1.0, 3.0, index == 2u), 0.0, 1.0);
}

const TAU = 6.2831853;

fn polygon(corners: f32, p: vec2<f32>) -> bool {
    let side = TAU / corners;
    let turned = abs(fract((atan2(p.x, -p.y) / side)) - 0.5) * side;
    return length(p) * cos(turned) <= cos(side / 2.0);
}

fn star(p: vec2<f32>) -> bool {
    let fifth = TAU / 5.0;
    let folded = abs(fract(atan2(p.x, -p.y) / fifth + 0.5) - 0.5) * fifth;
    let at = length(p) * vec2(sin(folded), cos(folded));
    let notch = 0.45 * vec2(sin(fifth / 2.0), cos(fifth / 2.0));
    return at.x * (1.0 - notch.y) <= (1.0 - at.y) * notch.x;
}

fn heart(p: vec2<f32>) -> bool {
    let x = 1.34 * p.x;
    let y = 0.12 - 1.34 * p.y;
    let a = x * x + y * y - 1.0;
    return a * a * a <= x * x * y * y * y;
}

fn contains(shape: u32, p: vec2<f32>) -> bool {
    if (dot(p, p) > 1.0) {
        return false;
    }
    switch shape {
        case 1u: { return polygon(3.0, p); }
        case 2u: { return polygon(4.0, p); }
        case 3u: { return polygon(5.0, p); }
        case 4u: { return polygon(6.0, p); }
        case 5u: { return star(p); }
        case 6u: { return length(p) >= 0.55; }
        case 7u: { return min(abs(p.x), abs(p.y)) <= 0.33; }
        case 8u: { return heart(p); }
        case 9u: { return length(p - vec2(0.5, 0.0)) > 0.85; }
        default: { return true; }
    }
}

@fragment
fn fragment(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32> {
    let size = vec2(stage.upper.w, stage.lower.w);
    var colour = mix(stage.upper.rgb, stage.lower.rgb, position.y / size.y);
    for (var i = 0u; i < 5u; i++) {
        let actor = stage.actors[i];
        let turn = vec2(cos(actor.angle), sin(actor.angle));
        var covered = 0.0;
        for (var s = 0u; s < 4u; s++) {
            let sample = vec2(f32(s % 2u) - 0.5, f32(s / 2u) - 0.5) / 2.0;
            let p = ((position.xy + sample) / size - actor.centre) / max(actor.radius, 1e-6);
            covered += select(0.0, 0.25, contains(actor.shape, vec2(dot(p, turn), p.y * turn.x - p.x * turn.y)));
        }
        colour = mix(colour, actor.colour, covered);
    }
    return vec4(colour, 1.0);
}
