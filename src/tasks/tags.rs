//! Draws detections on their picture.

use crate::tasks::draw::{Area, Pen, ink, name_of, scale, shortened};
use crate::tasks::{Detection, Picture, palette};

/// The maximum number of characters in a name.
const LETTERS: usize = 32;

/// The minimum number of characters in a shortened name that is followed by a score.
const STUB: usize = 6;

/// Draws a box around each detection, and a tag with its name and score.
///
/// A class's boxes have its colour in [`palette`], with an outline of the opposite brightness that makes them
/// visible on any background. Boxes with higher scores are drawn over the others. A box without area in the
/// picture is omitted, and so is a score that the picture is too narrow for. A picture that is too small for
/// tags has none.
pub fn draw(picture: &Picture, detections: &[Detection]) -> Picture {
    let palette = palette();
    // Classes beyond the table reuse its colours, except the background's.
    let colour = |class: usize| palette[if class < 256 { class } else { 1 + class % 255 }];
    let mut drawn = picture.clone();
    let line = 1 + (scale(picture) / 350.0) as isize;
    let mut boxes: Vec<(&Detection, Area)> =
        detections.iter().filter_map(|found| Some((found, area(found, picture)?))).collect();
    boxes.sort_by(|(a, _), (b, _)| a.score.total_cmp(&b.score));
    for &(found, area) in &boxes {
        let outline = ink(colour(found.index));
        let border = (line / 2).max(1);
        area.grown(border).frame(&mut drawn, border, outline);
        area.grown(-line).frame(&mut drawn, border, outline);
        area.frame(&mut drawn, line, colour(found.index));
    }
    let pen = Pen::new(scale(picture) / 36.0);
    for (tag, text, class) in tags(picture, pen, &boxes).iter().rev() {
        tag.fill(&mut drawn, colour(*class));
        pen.write(&mut drawn, tag.left + margin(pen), tag.top, text, ink(colour(*class)));
    }
    drawn
}

/// The pixels that a detection's box covers; `None` if it has no area in the picture.
fn area(found: &Detection, picture: &Picture) -> Option<Area> {
    let bounds = found.bounds.clipped(picture.width(), picture.height());
    let (left, top) = (bounds.left.floor() as isize, bounds.top.floor() as isize);
    let (right, bottom) = (bounds.right.ceil() as isize, bounds.bottom.ceil() as isize);
    let there = bounds.right > bounds.left && bounds.bottom > bounds.top;
    there.then_some(Area { left, top, width: right - left, height: bottom - top })
}

/// The position, text and class of each tag, the best first. A tag is above, in or below its box, at the
/// first position inside the picture that does not overlap the tag of a better detection. If there is none,
/// it is at the top of its box.
fn tags(picture: &Picture, pen: Pen, boxes: &[(&Detection, Area)]) -> Vec<(Area, String, usize)> {
    let (wide, high) = (picture.width() as isize, picture.height() as isize);
    let mut tags: Vec<(Area, String, usize)> = Vec::new();
    let room = usize::try_from((wide - 2 * margin(pen)) / pen.width(1)).unwrap_or(0);
    if room < STUB / 2 || high < 2 * pen.height() {
        return tags;
    }
    for &(found, area) in boxes.iter().rev() {
        let text = text_of(found, room);
        let (width, height) = (pen.width(text.chars().count()) + 2 * margin(pen), pen.height());
        let tops = [area.top - height, area.top, area.bottom() - height, area.bottom()];
        let lefts = [area.left, area.right() - width].map(|left| left.clamp(0, wide - width));
        let mut positions = lefts.iter().flat_map(|&left| tops.map(|top| Area { left, top, width, height }));
        let free = |tag: &Area| {
            let inside = tag.top >= 0 && tag.bottom() <= high;
            inside && !tags.iter().any(|(other, ..)| other.overlaps(*tag))
        };
        let crowded = Area { left: lefts[0], top: area.top.min(high - height), width, height };
        tags.push((positions.find(free).unwrap_or(crowded), text, found.index));
    }
    tags
}

/// A detection's name and score in at most `room` characters, or only its name if `room` is small.
fn text_of(found: &Detection, room: usize) -> String {
    let name = shortened(&name_of(found.index, found.label.as_deref()), LETTERS);
    let score = format!(" {:.0}%", 100.0 * found.score.clamp(0.0, 1.0));
    match room.checked_sub(score.len()) {
        Some(letters) if letters >= name.chars().count().min(STUB) => shortened(&name, letters) + &score,
        _ => shortened(&name, room),
    }
}

/// The space between a tag's edge and its text, in pixels.
fn margin(pen: Pen) -> isize {
    pen.width(1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::draw::{BLACK, Colour};
    use crate::tasks::{Bounds, Labels};

    fn grey(width: usize, height: usize) -> Picture {
        Picture::new(width, height, vec![99; width * height * 3]).unwrap()
    }

    fn found(index: usize, score: f32, [left, top, right, bottom]: [f32; 4]) -> Detection {
        let label = Labels::coco().get(index).map(str::to_owned);
        Detection { index, label, score, bounds: Bounds { left, top, right, bottom } }
    }

    fn pixel(picture: &Picture, x: usize, y: usize) -> Colour {
        picture.pixels().as_chunks().0[y * picture.width() + x]
    }

    #[test]
    fn any_box_on_any_picture() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -3.5, 0.0, 2.5, 1e9];
        let mut all = Vec::new();
        for a in odd {
            for b in odd {
                all.push(found(all.len(), b, [a, b, b, a]));
                all.push(found(all.len(), a, [a, a, b, b]));
            }
        }
        all[3].label = Some("猫\n\u{0}".repeat(99));
        all[5].label = Some("__".into());
        for (width, height) in [(1, 1), (7, 3), (3, 500), (500, 3), (34, 40), (40, 40), (1200, 900)] {
            let drawn = draw(&grey(width, height), &all);
            assert_eq!((drawn.width(), drawn.height()), (width, height));
            assert_ne!(drawn, grey(width, height));
        }
    }

    #[test]
    fn boxes_outside_the_picture_or_empty_are_left_out() {
        let nothing = [
            [-9.0, -9.0, 0.0, 50.0],
            [100.0, 0.0, 150.0, 50.0],
            [20.0, 20.0, 20.0, 80.0],
            [60.0, 60.0, 40.0, 80.0],
            [f32::NAN, 0.0, 50.0, 50.0],
        ];
        let all: Vec<Detection> = nothing.into_iter().map(|bounds| found(1, 0.9, bounds)).collect();
        assert_eq!(draw(&grey(100, 100), &all), grey(100, 100));
    }

    #[test]
    fn the_better_box_is_on_top() {
        let bounds = [50.0, 50.0, 250.0, 250.0];
        let (good, bad) = (found(17, 0.9, bounds), found(18, 0.3, bounds));
        for all in [[good.clone(), bad.clone()], [bad, good]] {
            let drawn = draw(&grey(300, 300), &all);
            assert_eq!(pixel(&drawn, 249, 150), palette()[17]);
            // The box is outlined on both sides.
            assert_eq!((pixel(&drawn, 250, 150), pixel(&drawn, 248, 150)), (BLACK, BLACK));
            assert_eq!((pixel(&drawn, 251, 150), pixel(&drawn, 150, 150)), ([99; 3], [99; 3]));
        }
    }

    #[test]
    fn tags_are_inside_and_apart() {
        let picture = grey(640, 480);
        let all: Vec<Detection> = (0..12)
            .map(|i| {
                let (x, y) = ((i % 4 * 200) as f32 - 20.0, (i / 4 * 200) as f32 - 10.0);
                found(i + 1, 0.5, [x, y, x + 90.0, y + 90.0])
            })
            .collect();
        let boxes: Vec<_> = all.iter().map(|d| (d, area(d, &picture).unwrap())).collect();
        let tags = tags(&picture, Pen::new(16.0), &boxes);
        assert_eq!(tags.len(), 12);
        for (i, (tag, ..)) in tags.iter().enumerate() {
            assert!(tag.left >= 0 && tag.top >= 0 && tag.right() <= 640 && tag.bottom() <= 480, "{tag:?}");
            assert!(tags[..i].iter().all(|(other, ..)| !other.overlaps(*tag)), "{tags:?}");
        }
        // Above its box if there is room, else in it.
        let position = |class| tags.iter().find(|(.., index)| *index == class).unwrap().0;
        assert_eq!((position(6).left, position(6).bottom()), (180, 190));
        assert_eq!((position(2).left, position(2).top), (180, 0));
    }

    #[test]
    fn text_fits_its_room() {
        let plant = found(64, 0.987, [0.0; 4]);
        for (room, expected) in
            [(40, "potted plant 99%"), (12, "potted.. 99%"), (10, "pott.. 99%"), (9, "potted .."), (3, "p..")]
        {
            assert_eq!(text_of(&plant, room), expected, "{room}");
        }
        assert_eq!(text_of(&found(17, 1.0, [0.0; 4]), 8), "cat 100%");
        assert_eq!(text_of(&Detection { label: Some("_".into()), ..plant.clone() }, 3), "");
        assert_eq!(text_of(&Detection { label: None, ..plant }, 40), "class 64 99%");
    }
}
