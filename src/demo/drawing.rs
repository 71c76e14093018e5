//! Draws a scene, with the ground truth of each pixel.

use super::{
    scene::{Colour, Paint, Pattern, Scene, Thing},
    shape::Shape,
};
use crate::{
    Error, Result,
    random::Random,
    tasks::{Bounds, PIXEL_LIMIT, Picture, Segmentation},
};

/// A drawn scene: a picture and its ground truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// The picture.
    pub picture: Picture,
    /// The class of each pixel: 0 for the background, else one more than the shape's index in [`Shape::ALL`].
    pub classes: Segmentation,
    /// The visible things, from the furthest to the nearest.
    pub seen: Vec<Seen>,
    /// The shape of the subject.
    pub subject: Shape,
}

/// The visible part of a thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Its shape.
    pub shape: Shape,
    /// The bounding box of its visible pixels.
    pub bounds: Bounds,
}

/// Sample positions within a pixel: a rotated grid, so that horizontal and vertical edges cross one sample at
/// a time.
const SAMPLES: [[f32; 2]; 4] = [[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]];

impl Scene {
    /// Draws the scene as a picture of `width` x `height` pixels. It is stretched to this aspect ratio, so
    /// that circles may become ellipses.
    ///
    /// # Errors
    /// [`Error::Input`] if the width or height is zero, or for more pixels than [`PIXEL_LIMIT`].
    pub fn draw(&self, width: usize, height: usize) -> Result<Drawing> {
        if !(1..=PIXEL_LIMIT).contains(&(width as u64).saturating_mul(height as u64)) {
            return Err(Error::Input(format!("a scene cannot be drawn in {width} x {height} pixels")));
        }
        let at = |x: f32, y: f32| [x / width as f32, y / height as f32];
        let mut colours = Vec::with_capacity(width * height);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let [u, v] = at(x as f32 + 0.5, y as f32 + 0.5);
            colours.push(self.background.at([2.0 * u - 1.0, 2.0 * v - 1.0], self.grain));
        }
        // The nearest thing at each pixel, counted from 1; 0 is the background.
        let mut nearest = vec![0; width * height];
        for (i, thing) in self.things.iter().enumerate() {
            let reach = |middle: f32, side: usize| {
                let (first, last) = (middle - thing.radius, middle + thing.radius);
                let pixel = |fraction: f32| (fraction * side as f32).clamp(0.0, side as f32);
                pixel(first) as usize..pixel(last).ceil() as usize
            };
            let columns = reach(thing.centre[0], width);
            for (y, x) in reach(thing.centre[1], height).flat_map(|y| columns.clone().map(move |x| (y, x))) {
                let (middle, pixel) = ([x as f32 + 0.5, y as f32 + 0.5], y * width + x);
                let inside = |[right, down]: [f32; 2]| {
                    thing.shape.contains(thing.local(at(middle[0] + right, middle[1] + down)))
                };
                let covered = SAMPLES.iter().filter(|sample| inside(**sample)).count();
                if covered > 0 {
                    let over = thing.colour(at(middle[0], middle[1]), self);
                    let coverage = covered as f32 / SAMPLES.len() as f32;
                    colours[pixel] = mix(colours[pixel], over, coverage);
                }
                if inside([0.0; 2]) {
                    nearest[pixel] = i + 1;
                }
            }
        }
        let radius = (self.blur * width.min(height) as f32).round() as usize;
        let mut colours = blur(&blur(&colours, width, radius), height, radius);
        let mut grain = Random::new(self.grain);
        for value in colours.as_flattened_mut() {
            *value += grain.between(-self.noise, self.noise);
        }
        let pixels = colours.as_flattened().iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8);
        let class = |&thing: &usize| match thing {
            0 => 0,
            thing => self.things[thing - 1].shape.class() as u8,
        };
        Ok(Drawing {
            picture: Picture::new(width, height, pixels.collect())?,
            classes: Segmentation::new(width, height, nearest.iter().map(class).collect())?,
            seen: self.seen(&nearest, width),
            subject: self.things[self.subject].shape,
        })
    }

    /// The bounding boxes of the visible things.
    fn seen(&self, nearest: &[usize], width: usize) -> Vec<Seen> {
        let none = Bounds {
            left: f32::INFINITY,
            top: f32::INFINITY,
            right: f32::NEG_INFINITY,
            bottom: f32::NEG_INFINITY,
        };
        let mut bounds = vec![none; self.things.len()];
        for (pixel, &thing) in nearest.iter().enumerate().filter(|(_, thing)| **thing > 0) {
            let (x, y) = ((pixel % width) as f32, (pixel / width) as f32);
            let Bounds { left, top, right, bottom } = &mut bounds[thing - 1];
            (*left, *top) = (left.min(x), top.min(y));
            (*right, *bottom) = (right.max(x + 1.0), bottom.max(y + 1.0));
        }
        let seen = self.things.iter().zip(bounds).filter(|(_, bounds)| bounds.left < bounds.right);
        seen.map(|(thing, bounds)| Seen { shape: thing.shape, bounds }).collect()
    }
}

impl Thing {
    /// Converts a point of the picture to the shape's coordinates.
    fn local(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        let [x, y] = self.off_centre([u, v]);
        let [cos, sin] = self.turn;
        [x * cos + y * sin, y * cos - x * sin]
    }

    /// The offset of a picture's point from the centre, in radii.
    fn off_centre(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        [(u - self.centre[0]) / self.radius, (v - self.centre[1]) / self.radius]
    }

    /// Its colour at a point of the picture.
    fn colour(&self, point: [f32; 2], scene: &Scene) -> Colour {
        let [x, y] = self.off_centre(point);
        let lit = 1.0 + self.shading * (x * scene.light[0] + y * scene.light[1]);
        self.paint.at(self.local(point), scene.grain).map(|v| v * lit)
    }
}

impl Paint {
    /// Its colour at a point; -1 to 1 spans the whole picture, or the whole shape.
    fn at(&self, [x, y]: [f32; 2], grain: u64) -> Colour {
        let [cos, sin] = self.axis;
        let [along, across] = [x * cos + y * sin, y * cos - x * sin];
        let cell = |v: f32| (self.repeats * v).floor();
        let within = |v: f32| self.repeats * v - cell(v);
        let weight = match self.pattern {
            Pattern::Plain => 0.0,
            Pattern::Gradient => (0.5 + 0.5 * along).clamp(0.0, 1.0),
            Pattern::Stripes => f32::from(within(along) < 0.5),
            Pattern::Checks => (cell(along) + cell(across)).rem_euclid(2.0),
            Pattern::Dots => {
                let [x, y] = [within(along) - 0.5, within(across) - 0.5];
                f32::from(x * x + y * y < 0.09)
            }
            Pattern::Clouds => {
                let [x, y] = [self.repeats * along, self.repeats * across];
                0.65 * cloud([x, y], grain) + 0.35 * cloud([2.0 * x, 2.0 * y], !grain)
            }
        };
        mix(self.colours[0], self.colours[1], weight)
    }
}

/// Value noise: random values at integer positions, interpolated smoothly.
fn cloud([x, y]: [f32; 2], seed: u64) -> f32 {
    let value = |x: f32, y: f32| {
        let cell = (u64::from(x as i32 as u32) << 32) | u64::from(y as i32 as u32);
        Random::new(seed ^ cell).unit()
    };
    let (left, top) = (x.floor(), y.floor());
    let [right, down] = [x - left, y - top].map(|t| t * t * (3.0 - 2.0 * t));
    let row = |y: f32| value(left, y) + right * (value(left + 1.0, y) - value(left, y));
    row(top) + down * (row(top + 1.0) - row(top))
}

fn mix(under: Colour, over: Colour, weight: f32) -> Colour {
    std::array::from_fn(|i| under[i] + weight * (over[i] - under[i]))
}

/// A box blur along rows, with the edge pixels repeated. It transposes the picture, so that applied twice it
/// blurs in both directions.
fn blur(colours: &[Colour], width: usize, radius: usize) -> Vec<Colour> {
    let height = colours.len() / width;
    let window = (2 * radius + 1) as f32;
    let mut out = vec![[0.0; 3]; colours.len()];
    for (y, row) in colours.chunks_exact(width).enumerate() {
        for x in 0..width {
            let near = (x..=x + 2 * radius).map(|at| row[at.saturating_sub(radius).min(width - 1)]);
            let sum = near.fold([0.0; 3], |sum: Colour, c| std::array::from_fn(|i| sum[i] + c[i]));
            out[x * height + y] = sum.map(|v| v / window);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ground_truth_matches_the_pixels() {
        for seed in 0..40 {
            let scene = Scene::new(seed);
            let drawing = scene.draw(96, 80).unwrap();
            assert_eq!(drawing.seen.len(), scene.things.len(), "{seed}: each shows");
            for seen in &drawing.seen {
                let Bounds { left, top, right, bottom } = seen.bounds;
                assert!(0.0 <= left && left < right && right <= 96.0 && 0.0 <= top && bottom <= 80.0);
                let inside = |at: &usize| {
                    let (x, y) = ((at % 96) as f32, (at / 96) as f32);
                    left <= x && x < right && top <= y && y < bottom
                };
                let class = seen.shape.class() as u8;
                assert!((0..96 * 80).filter(inside).any(|at| drawing.classes.labels()[at] == class));
            }
            let boxes = |class: usize| drawing.seen.iter().any(|seen| seen.shape.class() == class);
            assert!(drawing.classes.labels().iter().all(|&c| c == 0 || boxes(c.into())), "{seed}");
        }
        assert!(Scene::new(0).draw(0, 9).is_err() && Scene::new(0).draw(1 << 40, 1 << 40).is_err());
    }

    #[test]
    fn a_larger_picture_shows_the_same() {
        let scene = Scene { noise: 0.0, blur: 0.0, ..Scene::new(3) };
        let (small, large) = (scene.draw(64, 64).unwrap(), scene.draw(192, 192).unwrap());
        let same = (0..64 * 64).filter(|at| {
            let (x, y) = (at % 64, at / 64);
            small.classes.at(x, y) == large.classes.at(3 * x + 1, 3 * y + 1)
        });
        assert_eq!(same.count(), 64 * 64);
    }

    #[test]
    fn blur_keeps_uniform_pictures_and_spreads_points() {
        let even = vec![[0.25; 3]; 12];
        assert_eq!(blur(&even, 4, 2), even);
        let mut one = vec![[0.0; 3]; 35];
        one[17] = [1.0; 3];
        let twice = blur(&blur(&one, 7, 1), 5, 1);
        for (at, [v, ..]) in twice.into_iter().enumerate() {
            let near = (2..=4).contains(&(at % 7)) && (1..=3).contains(&(at / 7));
            assert!((v - if near { 1.0 / 9.0 } else { 0.0 }).abs() < 1e-6, "{at}: {v}");
        }
    }
}
