//! The contents of a scene, drawn from a seed.

use std::f32::consts::TAU;

use super::shape::Shape;
use crate::random::Random;

/// Red, green and blue, 0 to 1.
pub type Colour = [f32; 3];

/// An area's colouring: two colours and a pattern.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paint {
    /// Its two colours.
    pub colours: [Colour; 2],
    /// How they are laid out.
    pub pattern: Pattern,
    /// The pattern's axis: a unit vector.
    pub axis: [f32; 2],
    /// Repetitions over half the picture, or over the shape's radius.
    pub repeats: f32,
}

/// How an area's two colours are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Only the first.
    Plain,
    /// From the first to the second, along the axis.
    Gradient,
    /// Stripes across the axis.
    Stripes,
    /// A checkerboard.
    Checks,
    /// Dots of the second on the first.
    Dots,
    /// Smooth noise between the two.
    Clouds,
}

/// A shape in a scene. Lengths are fractions of the picture's width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thing {
    /// Its shape.
    pub shape: Shape,
    /// Its centre, measured from the left and the top.
    pub centre: [f32; 2],
    /// The radius of its circumscribed circle.
    pub radius: f32,
    /// Its rotation: the direction of its x axis.
    pub turn: [f32; 2],
    /// Its colouring.
    pub paint: Paint,
    /// How much brighter it is towards the light, and darker away from it.
    pub shading: f32,
}

/// A scene: a subject and smaller things on a background. The same seed gives the same scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// The background's colouring.
    pub background: Paint,
    /// From the furthest to the nearest.
    pub things: Vec<Thing>,
    /// The index of the subject, by far the largest thing, in `things`.
    pub subject: usize,
    /// The direction towards the light: a unit vector.
    pub light: [f32; 2],
    /// Blur radius, as a fraction of the picture's size.
    pub blur: f32,
    /// The largest amount that noise adds to a colour or subtracts from it.
    pub noise: f32,
    /// The seed of the noise.
    pub(super) grain: u64,
}

/// The most things in a scene of [`Scene::new`].
pub const MOST_THINGS: usize = 5;

/// No network was trained on scenes with this seed or a higher one. Scenes from this seed up to [`SEARCHED`]
/// are for evaluation only.
pub const HELD_OUT: u64 = 1_000_000_000;

/// Scenes with this seed or a higher one are for comparing candidates in a search.
pub const SEARCHED: u64 = 2_000_000_000;

/// The ranges from which a scene is drawn.
struct Recipe {
    most_things: usize,
    /// The subject's radius, as a fraction of the picture's size.
    subject: [f32; 2],
    /// The other things' radius.
    others: [f32; 2],
    /// The smallest distance in the colour cube between a shape's colour and those behind it.
    contrast: f32,
    /// The largest noise.
    noise: f32,
}

const PLAIN: Recipe = Recipe {
    most_things: MOST_THINGS,
    subject: [0.2, 0.36],
    others: [0.08, 0.13],
    contrast: 0.33,
    noise: 0.12,
};

const HARD: Recipe =
    Recipe { most_things: 12, subject: [0.15, 0.25], others: [0.055, 0.09], contrast: 0.27, noise: 0.2 };

impl Scene {
    /// Generates the scene of a seed.
    pub fn new(seed: u64) -> Self {
        Self::from_recipe(seed, &PLAIN)
    }

    /// Generates a scene whose subject is harder to classify: smaller, among up to eleven other shapes, with less
    /// contrast and more noise. For comparing networks that differ too little on [`Scene::new`].
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
            // Things may overlap, but most of each stays visible.
            let free = |centre: [f32; 2]| {
                things.iter().all(|other| {
                    let [x, y] = [0, 1].map(|i| centre[i] - other.centre[i]);
                    (x * x + y * y).sqrt() > 0.75 * (radius + other.radius)
                })
            };
            // In a picture that is too full, the thing is left out.
            let inside = |random: &mut Random| random.between(0.85 * radius, 1.0 - 0.85 * radius);
            let centre = (0..40).map(|_| [inside(random), inside(random)]).find(|centre| free(*centre));
            let Some(centre) = centre else { continue };
            let paint = shape_paint(random, background, &things, recipe.contrast);
            things.push(Thing {
                shape: random.of(&Shape::ALL),
                centre,
                radius,
                turn: direction(random),
                paint,
                shading: random.between(0.0, 0.3),
            });
        }
        // Random depth of the subject.
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
    // A second colour close to the first, so that shapes can contrast with both.
    let second = [0, 1, 2].map(|i| first[i] + 0.45 * (other[i] - first[i]));
    paint(
        random,
        &[Plain, Gradient, Gradient, Stripes, Checks, Dots, Clouds, Clouds],
        [first, second],
        [1.0, 6.0],
    )
}

/// A shape's paint, chosen to contrast with what may be behind it.
fn shape_paint(random: &mut Random, background: Paint, things: &[Thing], contrast: f32) -> Paint {
    use Pattern::{Checks, Dots, Gradient, Plain, Stripes};
    let least_distance = |found: Colour| {
        let others = things.iter().map(|thing| &thing.paint).chain([&background]);
        let apart = others.flat_map(|paint| paint.colours).map(|other| distance(found, other));
        apart.fold(f32::INFINITY, f32::min)
    };
    // The colour with the most contrast so far, until it has enough.
    let mut first = colour(random);
    for _ in 0..24 {
        if least_distance(first) >= contrast {
            break;
        }
        let other = colour(random);
        if least_distance(other) > least_distance(first) {
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
    fn a_seed_gives_the_same_scene() {
        assert_eq!(Scene::new(7), Scene::new(7));
        assert_ne!(Scene::new(7), Scene::new(8));
    }

    #[test]
    fn subjects_are_uniform_and_scenes_have_one_to_five_things() {
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
            assert!((0.15..0.25).contains(&subject.radius), "{subject:?}");
            let largest = scene.things.iter().map(|thing| thing.radius).fold(0.0, f32::max);
            assert_eq!(largest, subject.radius);
            most = most.max(scene.things.len());
        }
        assert!((9..=12).contains(&most), "{most}");
    }
}
