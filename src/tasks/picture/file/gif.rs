//! Reads GIF and composes its frames as Pillow does.

use gif::{ColorOutput, DecodeOptions, Decoder, DisposalMethod, MemoryLimit};

use super::{
    Picture,
    canvas::{Area, Canvas},
    limits::Budget,
    read::{Bytes, Decode},
};

pub(super) struct Gif<'a> {
    decoder: Decoder<Bytes<'a>>,
    /// `None` before the first frame.
    canvas: Option<Canvas<3>>,
    /// The area to restore before the next frame is drawn, and its pixels.
    to_restore: Option<(Area, Vec<[u8; 3]>)>,
    /// How a frame is disposed of. A frame without a method keeps that of the previous one.
    disposal: DisposalMethod,
    indices: Vec<u8>,
}

/// The peak bytes per pixel: the canvas, the pixels to restore, a frame's indices, and the returned picture.
const PEAK: u64 = 3 + 3 + 1 + 3;

pub(super) fn decoder(bytes: Bytes<'_>, budget: Budget) -> Result<Gif<'_>, String> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.check_frame_consistency(true);
    if let Some(memory) = std::num::NonZeroU64::new(budget.memory()) {
        options.set_memory_limit(MemoryLimit::Bytes(memory));
    }
    let decoder = options.read_info(bytes).map_err(|e| e.to_string())?;
    budget.admits(decoder.width().into(), decoder.height().into(), PEAK)?;
    Ok(Gif { decoder, canvas: None, to_restore: None, disposal: DisposalMethod::Any, indices: Vec::new() })
}

impl Decode for Gif<'_> {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        let Some(frame) = self.decoder.next_frame_info().map_err(|e| e.to_string())? else {
            return Ok(None);
        };
        let [left, top, width, height] = [frame.left, frame.top, frame.width, frame.height].map(usize::from);
        let area = Area { left, top, width, height };
        let transparent = frame.transparent;
        if frame.dispose != DisposalMethod::Any {
            self.disposal = frame.dispose;
        }
        self.indices.clear();
        self.indices.resize(self.decoder.buffer_size(), 0);
        self.decoder.read_into_buffer(&mut self.indices).map_err(|e| e.to_string())?;
        let palette = self.decoder.palette().map_err(|e| e.to_string())?.as_chunks::<3>().0;
        let colour = |index: u8| palette.get(usize::from(index)).copied().unwrap_or_default();

        let (screen_width, screen_height) = (self.decoder.width().into(), self.decoder.height().into());
        let first = self.canvas.is_none();
        let canvas = self.canvas.get_or_insert_with(|| Canvas::new(screen_width, screen_height));
        if !canvas.holds(area) {
            return Err("a frame is outside the picture".into());
        }
        if first {
            // Alpha is dropped: transparent pixels of the first frame, and the canvas around it, get the
            // palette's colour of the transparent index, or of index 0 if there is none.
            let screen = Area { left: 0, top: 0, width: screen_width, height: screen_height };
            canvas.fill(screen, colour(transparent.unwrap_or(0)));
        }
        if let Some((area, before)) = self.to_restore.take() {
            canvas.draw(area, &before, |under, before| *under = *before);
        }
        self.to_restore = match self.disposal {
            DisposalMethod::Any | DisposalMethod::Keep => None,
            DisposalMethod::Background => {
                let background = self.decoder.bg_color().and_then(|index| u8::try_from(index).ok());
                let fill = colour(transparent.or(background).unwrap_or(0));
                Some((area, vec![fill; width * height]))
            }
            DisposalMethod::Previous => Some((area, canvas.cut(area))),
        };
        canvas.draw(area, &self.indices, |under, index| {
            if transparent != Some(*index) || first {
                *under = colour(*index);
            }
        });
        Ok(Some(canvas.picture()))
    }
}
