//! The ten shapes that scenes are made of.

use std::f32::consts::{PI, TAU};

/// A shape in its own coordinates, within the unit circle around the origin; y points down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are self-explanatory")]
pub enum Shape {
    Circle,
    Triangle,
    Square,
    Pentagon,
    Hexagon,
    Star,
    Ring,
    Cross,
    Heart,
    Crescent,
}

/// The inner radius of a star, as a fraction of its outer radius.
const STAR: f32 = 0.45;
/// The inner radius of a ring, as a fraction of its outer radius.
const RING: f32 = 0.55;
/// Half the thickness of a cross's bars.
const CROSS: f32 = 0.33;
/// The circle cut out of a crescent: its centre's x, and its radius.
const BITE: (f32, f32) = (0.5, 0.85);

impl Shape {
    /// Every shape, in the order of the models' classes.
    pub const ALL: [Self; 10] = [
        Self::Circle,
        Self::Triangle,
        Self::Square,
        Self::Pentagon,
        Self::Hexagon,
        Self::Star,
        Self::Ring,
        Self::Cross,
        Self::Heart,
        Self::Crescent,
    ];

    /// Its English name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Triangle => "triangle",
            Self::Square => "square",
            Self::Pentagon => "pentagon",
            Self::Hexagon => "hexagon",
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Cross => "cross",
            Self::Heart => "heart",
            Self::Crescent => "crescent",
        }
    }

    /// Its class in segmentation and detection, where 0 is the background.
    pub fn class(self) -> usize {
        1 + self as usize
    }

    /// True if a point is in the shape.
    pub fn contains(self, [x, y]: [f32; 2]) -> bool {
        let squared = x * x + y * y;
        match self {
            // No shape reaches beyond the unit circle.
            _ if squared > 1.0 => false,
            Self::Circle => true,
            Self::Triangle => polygon(3, [x, y]),
            Self::Square => polygon(4, [x, y]),
            Self::Pentagon => polygon(5, [x, y]),
            Self::Hexagon => polygon(6, [x, y]),
            Self::Star => star([x, y]),
            Self::Ring => squared >= RING * RING,
            Self::Cross => x.abs().min(y.abs()) <= CROSS && x.abs().max(y.abs()) <= 0.94,
            Self::Heart => heart([1.34 * x, 0.12 - 1.34 * y]),
            Self::Crescent => {
                let (right, radius) = BITE;
                (x - right) * (x - right) + y * y > radius * radius
            }
        }
    }
}

/// True in the regular polygon on the unit circle with a corner at the top.
fn polygon(corners: usize, [x, y]: [f32; 2]) -> bool {
    let half = PI / corners as f32;
    // Within the apothem in the direction of every side.
    (0..corners).all(|side| {
        let (sin, cos) = (TAU * side as f32 / corners as f32 + half).sin_cos();
        x * sin - y * cos <= half.cos()
    })
}

/// True in a star of five points, the first at the top.
fn star([x, y]: [f32; 2]) -> bool {
    // Folded by symmetry into half a point: between its tip, straight up, and the next notch.
    let fifth = TAU / 5.0;
    let angle = x.atan2(-y).rem_euclid(fifth);
    let (sin, cos) = angle.min(fifth - angle).sin_cos();
    let radius = (x * x + y * y).sqrt();
    let (notch_sin, notch_cos) = (fifth / 2.0).sin_cos();
    let [notch_x, notch_y] = [STAR * notch_sin, STAR * notch_cos];
    // On the inner side of the line from the tip (0, 1) to the notch.
    let [px, py] = [radius * sin, radius * cos];
    px * (1.0 - notch_y) <= (1.0 - py) * notch_x
}

/// True in a heart-shaped curve of the sixth degree; y points up.
fn heart([x, y]: [f32; 2]) -> bool {
    let a = x * x + y * y - 1.0;
    a * a * a <= x * x * y * y * y
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shape's area, measured on a fine grid.
    fn area(shape: Shape) -> f64 {
        let side = 800;
        let at = |i: usize| (2 * i + 1) as f32 / side as f32 - 1.0;
        let inside = (0..side * side).filter(|i| shape.contains([at(i % side), at(i / side)]));
        inside.count() as f64 * 4.0 / f64::from(side as u32 * side as u32)
    }

    #[test]
    fn areas_match_geometry() {
        let regular = |n: f64| n / 2.0 * (std::f64::consts::TAU / n).sin();
        for (shape, expected) in [
            (Shape::Circle, std::f64::consts::PI),
            (Shape::Triangle, regular(3.0)),
            (Shape::Square, regular(4.0)),
            (Shape::Pentagon, regular(5.0)),
            (Shape::Hexagon, regular(6.0)),
            (Shape::Star, 5.0 * 0.45 * (std::f64::consts::PI / 5.0).sin()),
            (Shape::Ring, std::f64::consts::PI * (1.0 - 0.55 * 0.55)),
            (Shape::Cross, 4.0 * 0.33 * (2.0 * 0.94 - 0.33)),
        ] {
            let found = area(shape);
            assert!((found / expected - 1.0).abs() < 0.01, "{}: {found}, not {expected}", shape.name());
        }
        // Without a formula, only a plausible range is checked.
        for shape in [Shape::Heart, Shape::Crescent] {
            assert!((1.0..2.6).contains(&area(shape)), "{}: {}", shape.name(), area(shape));
        }
    }

    #[test]
    fn upright_shapes_point_up() {
        for (shape, inside, outside) in [
            (Shape::Triangle, [0.0, -0.9], [0.0, 0.6]),
            (Shape::Pentagon, [0.0, -0.95], [0.0, 0.9]),
            (Shape::Star, [0.0, -0.9], [0.0, 0.6]),
            (Shape::Heart, [0.0, 0.8], [0.0, -0.8]),
            (Shape::Crescent, [-0.7, 0.0], [0.0, 0.0]),
        ] {
            assert!(shape.contains(inside) && !shape.contains(outside), "{}", shape.name());
        }
    }
}
