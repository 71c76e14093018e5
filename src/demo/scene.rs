//! What is in a scene: drawn from a seed, before a pixel is painted.

use std::f32::consts::TAU;

use super::shape::Shape;
use crate::random::Random;

/// Red, green and blue, 0 to 1.
pub type Colour = [f32; 3];

/// How an area is coloured: two colours, and which is where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paint {
    /// Its two colours.
    pub colours: [Colour; 2],
    /// Which of them is where.
    pub pattern: Pattern,
    /// The pattern's axis: a unit vector.
    pub axis: [f32; 2],
    /// Repetitions over half the picture, or over the shape's radius.
    pub repeats: f32,
}

/// Where an area has which of its two colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// The first everywhere.
    Plain,
    /// From the first to the second, along the axis.
    Gradient,
    /// Across the axis.
    Stripes,
    /// Squares of a board.
    Checks,
    /// Of the second, on the first.
    Dots,
    /// Smooth noise between the two.
    Clouds,
}

/// A shape in a scene. Lengths are shares of the picture's sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thing {
    /// What it is.
    pub shape: Shape,
    /// Where its middle is: right of the left edge, and below the top.
    pub centre: [f32; 2],
    /// The radius of the circle round it.
    pub radius: f32,
    /// How far it is turned: the direction of its own x axis.
    pub turn: [f32; 2],
    /// How it is coloured.
    pub paint: Paint,
    /// How much brighter it is towards the light, and darker away from it.
    pub shading: f32,
}

/// A scene: a subject and smaller things on a background. The same seed is the same scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Behind everything.
    pub background: Paint,
    /// From the furthest to the nearest.
    pub things: Vec<Thing>,
    /// The index of the subject: by far the largest.
    pub subject: usize,
    /// Where the light comes from: a unit vector.
    pub light: [f32; 2],
    /// How far a point is smeared, as a share of the picture's sides.
    pub blur: f32,
    /// The most that noise adds to a colour, or takes from it.
    pub noise: f32,
    /// What the noise is drawn from.
    pub(super) grain: u64,
}

/// The most things in a scene of [`Scene::new`].
pub const MOST_THINGS: usize = 5;

/// The seeds from here on are of scenes that no network was trained on: for measuring alone.
pub const HELD_OUT: u64 = 1_000_000_000;

/// The seeds from here on are of scenes that no network was trained on: for comparing candidates in a search.
pub const SEARCHED: u64 = 2_000_000_000;

/// Ranges that a scene is drawn from.
struct Recipe {
    most_things: usize,
    /// The subject's radius, as a share of the picture's sides.
    subject: [f32; 2],
    /// The other things' radius.
    others: [f32; 2],
    /// Colours closer than this, as a distance in the colour cube, are not put on one another.
    contrast: f32,
    /// The most noise.
    noise: f32,
}

const PLAIN: Recipe = Recipe {
    most_things: MOST_THINGS,
    subject: [0.2, 0.36],
    others: [0.08, 0.13],
    contrast: 0.33,
    noise: 0.12,
};

const HARD: Recipe = Recipe {
    most_things: 12,
    subject: [0.13, 0.22],
    others: [0.05, 0.085],
    contrast: 0.25,
    noise: 0.25,
};

impl Scene {
    /// The scene of a seed.
    pub fn new(seed: u64) -> Self {
        Self::from_recipe(seed, &PLAIN)
    }

    /// A scene whose subject is harder to name: smaller, among up to eleven other shapes, in fainter colours and more
    /// noise. For comparing networks, where those of [`Scene::new`] are too easy to tell them apart.
    pub fn hard(seed: u64) -> Self {
        Self::from_recipe(seed, &HARD)
    }

    fn from_recipe(seed: u64, recipe: &Recipe) -> Self {
        let random = &mut Random::new(seed);
        let background = background(random);
        let light = direction(random);
        let count = 1 + random.below(recipe.most_things);
        let mut things: Vec<Thing> = Vec::new();
        for i in 0..count {
            let [least, most] = if i == 0 { recipe.subject } else { recipe.others };
            let radius = random.between(least, most);
            // They may overlap, but each shows most of itself.
            let free = |centre: [f32; 2]| {
                things.iter().all(|other| {
                    let [x, y] = [0, 1].map(|i| centre[i] - other.centre[i]);
                    (x * x + y * y).sqrt() > 0.75 * (radius + other.radius)
                })
            };
            // A picture may be too full: then there is one thing less.
            let inside = |random: &mut Random| random.between(0.85 * radius, 1.0 - 0.85 * radius);
            let centre = (0..40).map(|_| [inside(random), inside(random)]).find(|centre| free(*centre));
            let Some(centre) = centre else { continue };
            let paint = coat(random, background, &things, recipe.contrast);
            things.push(Thing {
                shape: random.of(&Shape::ALL),
                centre,
                radius,
                turn: direction(random),
                paint,
                shading: random.between(0.0, 0.3),
            });
        }
        // Near or far, whoever came first.
        let subject = random.below(things.len());
        things.swap(0, subject);
        let blurred = random.below(2) == 0;
        Self {
            background,
            things,
            subject,
            light,
            blur: if blurred { random.between(0.0, 0.009) } else { 0.0 },
            noise: random.between(0.0, recipe.noise),
            grain: random.bits(),
        }
    }
}

fn direction(random: &mut Random) -> [f32; 2] {
    let (sin, cos) = random.between(0.0, TAU).sin_cos();
    [cos, sin]
}

fn colour(random: &mut Random) -> Colour {
    std::array::from_fn(|_| random.between(0.02, 0.98))
}

fn distance(a: Colour, b: Colour) -> f32 {
    (0..3).map(|i| (a[i] - b[i]) * (a[i] - b[i])).sum::<f32>().sqrt()
}

fn paint(random: &mut Random, patterns: &[Pattern], colours: [Colour; 2], repeats: [f32; 2]) -> Paint {
    Paint {
        colours,
        pattern: random.of(patterns),
        axis: direction(random),
        repeats: random.between(repeats[0], repeats[1]),
    }
}

fn background(random: &mut Random) -> Paint {
    use Pattern::{Checks, Clouds, Dots, Gradient, Plain, Stripes};
    let first = colour(random);
    let other = colour(random);
    // A quiet second colour, so that there is room for others.
    let second = [0, 1, 2].map(|i| first[i] + 0.45 * (other[i] - first[i]));
    paint(
        random,
        &[Plain, Gradient, Gradient, Stripes, Checks, Dots, Clouds, Clouds],
        [first, second],
        [1.0, 6.0],
    )
}

/// A shape's paint: apart from what it may lie on.
fn coat(random: &mut Random, background: Paint, things: &[Thing], contrast: f32) -> Paint {
    use Pattern::{Checks, Dots, Gradient, Plain, Stripes};
    let behind = |found: Colour| {
        let others = things.iter().map(|thing| &thing.paint).chain([&background]);
        let apart = others.flat_map(|paint| paint.colours).map(|other| distance(found, other));
        apart.fold(f32::INFINITY, f32::min)
    };
    // The best of some, where none is far enough from all.
    let mut first = colour(random);
    for _ in 0..24 {
        if behind(first) >= contrast {
            break;
        }
        let other = colour(random);
        if behind(other) > behind(first) {
            first = other;
        }
    }
    let other = colour(random);
    let second = [0, 1, 2].map(|i| first[i] + 0.3 * (other[i] - first[i]));
    paint(random, &[Plain, Plain, Gradient, Stripes, Checks, Dots], [first, second], [1.5, 3.5])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_scene() {
        assert_eq!(Scene::new(7), Scene::new(7));
        assert_ne!(Scene::new(7), Scene::new(8));
    }

    #[test]
    fn every_shape_is_a_subject_as_often_and_scenes_have_one_thing_to_five() {
        let (mut subjects, mut counts) = ([0; 10], [0; MOST_THINGS + 1]);
        for scene in (0..4000).map(Scene::new) {
            let subject = scene.things[scene.subject];
            subjects[Shape::ALL.iter().position(|shape| *shape == subject.shape).unwrap()] += 1;
            counts[scene.things.len()] += 1;
            for thing in &scene.things {
                assert!(thing.shape == subject.shape || thing.radius != subject.radius);
                assert!(thing == &subject || thing.radius < 0.7 * subject.radius);
            }
        }
        assert!(subjects.iter().all(|count| (320..480).contains(count)), "{subjects:?}");
        assert!(counts[1..].iter().all(|count| *count > 400) && counts[0] == 0, "{counts:?}");
    }

    #[test]
    fn hard_scenes_have_a_small_subject_that_is_the_largest() {
        let mut most = 0;
        for scene in (0..1000).map(Scene::hard) {
            let subject = scene.things[scene.subject];
            assert!((0.13..0.22).contains(&subject.radius), "{subject:?}");
            let largest = scene.things.iter().map(|thing| thing.radius).fold(0.0, f32::max);
            assert_eq!(largest, subject.radius);
            most = most.max(scene.things.len());
        }
        assert!((9..=12).contains(&most), "{most}");
    }
}
