//! Formats of a program's textures, and conversion from YUV.

use wgpu::{TextureFormat as Format, TextureSampleType};

use crate::{
    Error, Result,
    kernels::sample::{Planes, Texels},
};

/// The conversion of a video frame's luma and chroma planes to red, green and blue. The planes do not record
/// it; it comes with the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Yuv {
    /// The conversion matrix.
    pub matrix: YuvMatrix,
    /// The range of the values.
    pub range: YuvRange,
    /// True if V comes before U, as in NV21.
    pub swapped: bool,
}

/// The YUV-to-RGB matrix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum YuvMatrix {
    /// ITU-R BT.601: standard definition, JPEG, and most webcams.
    Bt601,
    /// ITU-R BT.709: high definition.
    #[default]
    Bt709,
    /// ITU-R BT.2020 with non-constant luminance. PQ and HLG transfer functions are not
    /// converted.
    Bt2020,
}

/// The range of luma and chroma values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum YuvRange {
    /// 8-bit values of 16 to 235 for luma and 16 to 240 for chroma: video.
    #[default]
    Limited,
    /// 0 to 255 in 8 bits: JPEG, and many cameras.
    Full,
}

impl Yuv {
    /// Returns the conversion of these two textures.
    ///
    /// # Errors
    /// [`Error::Input`] if their formats or sizes are not those of luma and chroma planes.
    pub(super) fn planes(self, luma: &wgpu::Texture, chroma: &wgpu::Texture) -> Result<Planes> {
        let deep = match (luma.format(), chroma.format()) {
            (Format::R8Unorm, Format::Rg8Unorm) | (Format::NV12, Format::NV12) => false,
            (Format::R16Unorm, Format::Rg16Unorm) | (Format::P010, Format::P010) => true,
            (luma, chroma) => {
                return Err(Error::Input(format!(
                    "luma of {luma:?} and chroma of {chroma:?} cannot be read: use R8Unorm and Rg8Unorm, \
                     R16Unorm and Rg16Unorm, or one texture of NV12 or P010 as both"
                )));
            }
        };
        let size = |texture: &wgpu::Texture| [texture.width(), texture.height()];
        let whole = size(luma);
        let one = chroma.format().is_multi_planar_format();
        let part = size(chroma).map(|side| if one { side.div_ceil(2) } else { side });
        let halved = halved(whole, part).ok_or_else(|| {
            Error::Input(format!(
                "chroma of {} x {} texels with luma of {} x {}: it has to be as large, half as wide, or half \
                 as wide and high, rounded up",
                part[0], part[1], whole[0], whole[1]
            ))
        })?;
        Ok(self.conversion(deep, halved))
    }

    /// Returns the conversion of 8-bit planes or, if `deep`, of deeper samples in the high bits of 16.
    fn conversion(self, deep: bool, halved: [bool; 2]) -> Planes {
        let [red, blue] = match self.matrix {
            YuvMatrix::Bt601 => [0.299, 0.114],
            YuvMatrix::Bt709 => [0.2126, 0.0722],
            YuvMatrix::Bt2020 => [0.2627, 0.0593],
        };
        let green = 1.0 - red - blue;
        // Black and the spans of luma and chroma, in 8-bit units. In full range, P010's largest 10-bit value
        // is white. P016's largest value is a thousandth more, which is clipped.
        let (largest, step, all) =
            if deep { (65_535.0, 256.0, 1023.0 * 64.0 / 256.0) } else { (255.0, 1.0, 255.0) };
        let [black, luma, chroma] = match self.range {
            YuvRange::Limited => [16.0, 219.0, 224.0],
            YuvRange::Full => [0.0, all, all],
        };
        let gain = |span: f64| largest / (step * span);
        let colour = |weight: f64| (2.0 * weight * gain(chroma)) as f32;
        Planes {
            black: (step * black / largest) as f32,
            gain: gain(luma) as f32,
            grey: (step * 128.0 / largest) as f32,
            red_of_v: colour(1.0 - red),
            green_of_u: colour(-blue * (1.0 - blue) / green),
            green_of_v: colour(-red * (1.0 - red) / green),
            blue_of_u: colour(1.0 - blue),
            halved,
            swapped: self.swapped,
        }
    }
}

/// Returns whether chroma has half of luma's columns, and half of its rows (4:4:4, 4:2:2 or 4:2:0); `None`
/// for any other size.
fn halved(luma: [u32; 2], chroma: [u32; 2]) -> Option<[bool; 2]> {
    let of_side = |i: usize| match chroma[i] {
        side if side == luma[i] => Some(false),
        side if side == luma[i].div_ceil(2) => Some(true),
        _ => None,
    };
    match [of_side(0)?, of_side(1)?] {
        // 4:4:0 is not supported. With a single luma column, it is the same as 4:2:0.
        [false, true] if luma[0] > 1 => None,
        halved => Some(halved),
    }
}

/// Returns how texels of this format are read: as luminance with one or two channels, else as colours.
///
/// # Errors
/// [`Error::Input`] if the format cannot hold a picture.
pub(super) fn shown(format: Format) -> Result<Texels> {
    let refused =
        |reason: &str| Err(Error::Input(format!("the texture has the format {format:?}, {reason}")));
    if format.is_multi_planar_format() {
        return refused(
            "whose planes are not colours: pass it to Session::source_yuv, as luma and as chroma",
        );
    }
    if !matches!(format.sample_type(None, None), Some(TextureSampleType::Float { .. })) || is_signed(format) {
        return refused("which does not hold colours or luminance from 0 to 1");
    }
    Ok(if format.components() < 3 { Texels::Luminance } else { Texels::Colours })
}

/// Returns true for signed formats: they hold normals and the like, since pictures have no negative values.
fn is_signed(format: Format) -> bool {
    matches!(
        format,
        Format::R8Snorm
            | Format::Rg8Snorm
            | Format::Rgba8Snorm
            | Format::R16Snorm
            | Format::Rg16Snorm
            | Format::Rgba16Snorm
            | Format::Bc4RSnorm
            | Format::Bc5RgSnorm
            | Format::EacR11Snorm
            | Format::EacRg11Snorm
    )
}

/// Returns whether values in this format are linear light by default.
pub(super) fn is_light(format: Format) -> bool {
    let float = matches!(
        format,
        Format::Rgba16Float
            | Format::Rgba32Float
            | Format::Rg11b10Ufloat
            | Format::Rgb9e5Ufloat
            | Format::R16Float
            | Format::Rg16Float
            | Format::R32Float
            | Format::Rg32Float
            | Format::Bc6hRgbUfloat
            | Format::Bc6hRgbFloat
            | Format::Astc { channel: wgpu::AstcChannel::Hdr, .. }
    );
    float || format.is_srgb()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Converts the codes `[luma, U, V]` to red, green and blue.
    fn colour(yuv: Yuv, deep: bool, codes: [f64; 3]) -> [f64; 3] {
        let planes = yuv.conversion(deep, [false; 2]);
        let largest = if deep { 65_535.0 } else { 255.0 };
        let [y, u, v] = codes.map(|code| code / largest);
        let luma = (y - f64::from(planes.black)) * f64::from(planes.gain);
        let [u, v] = [u, v].map(|v| v - f64::from(planes.grey));
        let of = |weight: f32, v: f64| f64::from(weight) * v;
        [
            luma + of(planes.red_of_v, v),
            luma + of(planes.green_of_u, u) + of(planes.green_of_v, v),
            luma + of(planes.blue_of_u, u),
        ]
    }

    #[test]
    fn white_black_and_the_primaries_are_exact() {
        for matrix in [YuvMatrix::Bt601, YuvMatrix::Bt709, YuvMatrix::Bt2020] {
            for (range, deep, [black, white, grey, span]) in [
                (YuvRange::Limited, false, [16.0, 235.0, 128.0, 112.0]),
                (YuvRange::Full, false, [0.0, 255.0, 128.0, 127.5]),
                // Ten bits in the high bits of 16.
                (YuvRange::Limited, true, [64.0 * 64.0, 940.0 * 64.0, 512.0 * 64.0, 448.0 * 64.0]),
                (YuvRange::Full, true, [0.0, 1023.0 * 64.0, 512.0 * 64.0, 511.5 * 64.0]),
            ] {
                let yuv = Yuv { matrix, range, swapped: false };
                let [red, blue] = match matrix {
                    YuvMatrix::Bt601 => [0.299, 0.114],
                    YuvMatrix::Bt709 => [0.2126, 0.0722],
                    YuvMatrix::Bt2020 => [0.2627, 0.0593],
                };
                let close = |codes: [f64; 3], expected: [f64; 3]| {
                    let found = colour(yuv, deep, codes);
                    let off = (0..3).map(|i| (found[i] - expected[i]).abs()).fold(0.0, f64::max);
                    assert!(off < 1e-5, "{yuv:?}, {deep}: {found:?}, not {expected:?}");
                };
                close([black, grey, grey], [0.0; 3]);
                close([white, grey, grey], [1.0; 3]);
                // In units of the whole span, 2 `span`, pure red has V = 1/2 and U = -red / (2 (1 - blue)).
                // For pure blue, U and V are exchanged, and so are the two weights.
                let luma = |weight: f64| black + weight * (white - black);
                close([luma(red), grey - span * red / (1.0 - blue), grey + span], [1.0, 0.0, 0.0]);
                close([luma(blue), grey + span, grey - span * blue / (1.0 - red)], [0.0, 0.0, 1.0]);
            }
        }
    }

    #[test]
    fn sizes_tell_how_chroma_is_halved() {
        assert_eq!(halved([6, 4], [3, 2]), Some([true, true]));
        assert_eq!(halved([7, 5], [4, 3]), Some([true, true]));
        assert_eq!(halved([6, 4], [3, 4]), Some([true, false]));
        assert_eq!(halved([6, 4], [6, 4]), Some([false, false]));
        assert_eq!(halved([1, 5], [1, 3]), Some([false, true]));
        for other in [[6, 2], [4, 2], [2, 2], [3, 1], [12, 8]] {
            assert_eq!(halved([6, 4], other), None);
        }
        assert_eq!(halved([7, 5], [3, 2]), None);
    }

    #[test]
    fn formats_that_hold_no_picture_are_refused() {
        use Format as F;
        for format in [F::Rgba8Unorm, F::Bgra8UnormSrgb, F::Rgb10a2Unorm, F::Rg11b10Ufloat, F::Bc7RgbaUnorm] {
            assert_eq!(shown(format).unwrap(), Texels::Colours);
        }
        for format in [F::R8Unorm, F::Rg8Unorm, F::R16Unorm, F::Rg16Float, F::R32Float, F::Bc4RUnorm] {
            assert_eq!(shown(format).unwrap(), Texels::Luminance);
        }
        for format in [
            F::R8Uint,
            F::Rgba16Sint,
            F::Rgba8Snorm,
            F::EacR11Snorm,
            F::Depth32Float,
            F::Depth24PlusStencil8,
            F::Stencil8,
            F::NV12,
            F::P010,
        ] {
            let reason = shown(format).unwrap_err().to_string();
            assert!(reason.contains(&format!("{format:?}")) && reason.lines().count() == 1, "{reason}");
        }
    }
}
