//! Reads PNG and APNG, whose frames are composed as in Pillow.

use png::{BlendOp, ColorType, DecodingError, DisposeOp, Info, Reader, Transformations};

use super::{
    Picture,
    canvas::{Area, Canvas},
    exif,
    limits::Budget,
    pixels::{Colour, Pixel, Pixels, upright, upright_peak},
    read::{Bytes, Decode},
};

pub(super) struct Png<'a> {
    reader: Reader<Bytes<'a>>,
    pixel: Pixel,
    orientation: Option<u8>,
    /// The state of an animation.
    animation: Option<Animation>,
    /// The number of pictures left.
    left: u32,
}

struct Animation {
    canvas: Canvas<4>,
    /// The area to restore before the next frame is drawn, and its pixels.
    to_restore: Option<(Area, Vec<[u8; 4]>)>,
    /// True while a default image that is not a frame is still to be read.
    default_image: bool,
}

pub(super) fn decoder(bytes: Bytes<'_>, budget: Budget) -> Result<Png<'_>, String> {
    let orientation = exif::of_png(bytes.get_ref()).and_then(exif::orientation);
    let mut decoder = png::Decoder::new(bytes);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Checked before `read_info`, which allocates a row.
    let header = decoder.read_header_info().map_err(message)?;
    let (width, height) = (u64::from(header.width), u64::from(header.height));
    budget.admits(width, height, 3)?;
    let reader = decoder.read_info().map_err(message)?;

    let (colour, _) = reader.output_color_type();
    let pixel = Pixel {
        colour: match colour {
            ColorType::Grayscale | ColorType::GrayscaleAlpha => Colour::Grey,
            _ => Colour::Rgb,
        },
        alpha: matches!(colour, ColorType::GrayscaleAlpha | ColorType::Rgba),
        is_16_bit: false,
    };
    let info = reader.info();
    let frames = info.animation_control().map_or(0, |control| control.num_frames);
    // The default image of an animation is not always one of its frames.
    let default_image = frames > 0 && info.frame_control().is_none();
    let animated = frames > 1 || default_image;
    let still = pixel.peak().max(upright_peak(orientation));
    // The canvas, the pixels to restore, a frame as stored and as RGBA, and the returned picture.
    budget.admits(width, height, if animated { 12 + still + upright_peak(orientation) } else { still })?;
    let animation = animated.then(|| Animation {
        canvas: Canvas::new(width as usize, height as usize),
        to_restore: None,
        default_image,
    });
    Ok(Png { reader, pixel, orientation, animation, left: frames.max(1) + u32::from(default_image) })
}

impl Decode for Png<'_> {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let picture = match &mut self.animation {
            Some(animation) if !animation.default_image => animation.next(&mut self.reader, self.pixel)?,
            animation => {
                if let Some(animation) = animation {
                    animation.default_image = false;
                }
                let Info { width, height, .. } = *self.reader.info();
                let mut pixels = Pixels::new(width as usize, height as usize, self.pixel);
                self.reader.next_frame(pixels.samples()).map_err(message)?;
                pixels.into_picture()
            }
        };
        Ok(Some(upright(picture, self.orientation)))
    }
}

impl Animation {
    fn next(&mut self, reader: &mut Reader<Bytes>, pixel: Pixel) -> Result<Picture, String> {
        let mut samples = vec![0; reader.output_buffer_size().ok_or("a frame is too large")?];
        let output = reader.next_frame(&mut samples).map_err(message)?;
        let Some(control) = reader.info().frame_control().copied() else {
            return Err("a frame has no position".into());
        };
        let [left, top, width, height] =
            [control.x_offset, control.y_offset, control.width, control.height].map(|n| n as usize);
        let area = Area { left, top, width, height };
        if !self.canvas.holds(area) {
            return Err("a frame is outside the picture".into());
        }
        // An interlaced frame has the row stride of the whole picture.
        let across = if reader.info().interlaced { reader.info().width } else { output.width };
        let stride = reader.output_line_size(across).ok_or("a frame is too large")?;

        if let Some((area, before)) = self.to_restore.take() {
            self.canvas.draw(area, &before, |under, before| *under = *before);
        }
        self.to_restore = match control.dispose_op {
            DisposeOp::None => None,
            DisposeOp::Background => Some((area, vec![[0; 4]; width * height])),
            DisposeOp::Previous => Some((area, self.canvas.cut(area))),
        };
        let frame: Vec<[u8; 4]> = samples
            .chunks_exact(stride)
            .take(height)
            .flat_map(|row| row.chunks_exact(pixel.bytes()).take(width))
            .map(|sample| match *sample {
                [grey] => [grey, grey, grey, 255],
                [grey, alpha] => [grey, grey, grey, alpha],
                [r, g, b] => [r, g, b, 255],
                [r, g, b, alpha, ..] => [r, g, b, alpha],
                [] => [0; 4],
            })
            .collect();
        self.canvas.draw(area, &frame, |under, over| match control.blend_op {
            BlendOp::Source => *under = *over,
            BlendOp::Over => {
                let alpha = u32::from(over[3]);
                for (under, over) in under.iter_mut().zip(over) {
                    // Blended and rounded as in Pillow, which blends alpha like a colour.
                    let sum = u32::from(*under) * (255 - alpha) + u32::from(*over) * alpha + 128;
                    *under = (((sum >> 8) + sum) >> 8) as u8;
                }
            }
        });
        Ok(self.canvas.picture())
    }
}

fn message(error: DecodingError) -> String {
    error.to_string()
}
