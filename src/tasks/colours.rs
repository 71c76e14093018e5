//! Colour tables for a renderer's blending.
//!
//! [`palette`](super::palette) is sRGB-encoded, and a table of colours and opacities has straight (not
//! premultiplied) alpha. These functions convert such tables for renderers that read or blend colours
//! differently.

/// Red, green, blue and opacity of each class.
type Table = [[u8; 4]; 256];

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
