//! The colours of classes, and tables of them for a renderer's blending.
//!
//! [`palette`] is sRGB-encoded, and a table of colours and opacities has straight (not premultiplied) alpha.
//! The other functions convert such tables for renderers that read or blend colours differently.

use std::f64::consts::TAU;

/// Red, green, blue and opacity of each class.
type Table = [[u8; 4]; 256];

/// The RGB colour of each class, the same for masks, boxes and legends. Class 0, the background, is black.
///
/// All others are bright enough for black text and dark backgrounds; on light backgrounds they need a dark
/// outline. Hues advance by the golden ratio, and lightness alternates between three levels of OKLCH
/// (Björn Ottosson, "A perceptual color space for image processing", 2020), so that the colours of small
/// numbers of classes are far apart.
///
/// ```
/// let half_transparent = goldcrest::tasks::palette().map(|[r, g, b]| [r, g, b, 128]);
/// ```
pub fn palette() -> [[u8; 3]; 256] {
    const LIGHTNESS: [f64; 3] = [0.66, 0.74, 0.83];
    std::array::from_fn(|class| match class {
        0 => [0; 3],
        _ => {
            let hue = (class as f64 * 0.618_033_988_75 + 0.12).fract();
            vivid(LIGHTNESS[class % 3], TAU * hue)
        }
    })
}

/// The sRGB colour of a lightness and hue (in radians) of OKLCH, with the largest chroma up to 0.2 that sRGB
/// has.
fn vivid(lightness: f64, hue: f64) -> [u8; 3] {
    let mut chroma = 0.2;
    loop {
        let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
        let [l, m, s] = [
            lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b,
            lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b,
            lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b,
        ]
        .map(|response| response.powi(3));
        let rgb = [
            4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
            -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
            -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
        ];
        if chroma <= 0.0 || rgb.iter().all(|light| (0.0..=1.0).contains(light)) {
            return rgb.map(|light| (255.0 * encode(light.clamp(0.0, 1.0))).round() as u8);
        }
        chroma -= 0.002;
    }
}

/// The relative luminance of an sRGB colour, from 0 to 1, as WCAG 2 defines it for contrast.
#[cfg(any(feature = "image", test))]
pub(super) fn luminance(colour: [u8; 3]) -> f64 {
    let [r, g, b] = colour.map(|value| decode(f64::from(value) / 255.0));
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// Decodes sRGB colours to linear light, for a texture whose values a shader reads as linear.
///
/// 8-bit linear values are coarse in dark colours. A texture of sRGB-encoded colours, read through an
/// `Rgba8UnormSrgb` view, gives the same light without that loss.
pub fn to_linear(colours: &Table) -> Table {
    each(colours, |value, _| decode(value))
}

/// Multiplies encoded colours by their opacity, for premultiplied blending without decoding.
pub fn premultiply(colours: &Table) -> Table {
    each(colours, |value, opacity| value * opacity)
}

/// Multiplies sRGB colours by their opacity in linear light, for premultiplied blending of a texture that is
/// read through an `Rgba8UnormSrgb` view.
pub fn premultiply_srgb(colours: &Table) -> Table {
    each(colours, |value, opacity| encode(decode(value) * opacity))
}

fn each(colours: &Table, convert: impl Fn(f64, f64) -> f64) -> Table {
    colours.map(|[red, green, blue, opacity]| {
        let byte =
            |value: u8| (255.0 * convert(f64::from(value) / 255.0, f64::from(opacity) / 255.0)).round() as u8;
        [byte(red), byte(green), byte(blue), opacity]
    })
}

/// The sRGB transfer function (IEC 61966-2-1), from the encoded value to linear light.
fn decode(value: f64) -> f64 {
    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// The inverse of [`decode`].
fn encode(light: f64) -> f64 {
    if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_distinct_and_legible() {
        let palette = palette();
        let distinct: std::collections::HashSet<_> = palette.into_iter().collect();
        assert_eq!((distinct.len(), palette[0]), (256, [0; 3]));
        for (class, &colour) in palette.iter().enumerate().skip(1) {
            // WCAG 2 asks for a contrast of 4.5 between text and its background.
            let contrast = (luminance(colour) + 0.05) / 0.05;
            assert!((6.0..14.0).contains(&contrast), "{class}: {contrast}");
        }
        // The classes of PASCAL VOC: no two are less than 30 of 255 apart in every channel.
        for (a, b) in (1..21).flat_map(|a| (a + 1..21).map(move |b| (a, b))) {
            let apart = (0..3).map(|i| palette[a][i].abs_diff(palette[b][i])).max();
            assert!(apart >= Some(30), "{a} and {b}: {:?}, {:?}", palette[a], palette[b]);
        }
    }

    #[test]
    fn tables_are_converted_by_value() {
        let table: Table = std::array::from_fn(|i| [i as u8, 255 - i as u8, 188, 128]);
        let linear = to_linear(&table);
        // Half of the light is 188 of 255 in sRGB.
        assert_eq!((linear[0], linear[255]), ([0, 255, 128, 128], [255, 0, 128, 128]));
        assert_eq!(premultiply(&table)[255], [128, 0, 94, 128]);
        assert_eq!(premultiply_srgb(&table)[255], [188, 0, 138, 128]);
        let opaque = table.map(|[r, g, b, _]| [r, g, b, 255]);
        assert_eq!((premultiply(&opaque), premultiply_srgb(&opaque)), (opaque, opaque));
    }
}
