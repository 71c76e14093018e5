//! GIF, with its frames composed as Pillow composes them.

use gif::{ColorOutput, DecodeOptions, Decoder, DisposalMethod, MemoryLimit};

use super::{
    Picture,
    canvas::{Area, Canvas},
    limits::Budget,
    read::{Bytes, Decode},
};

pub(super) struct Gif<'a> {
    decoder: Decoder<Bytes<'a>>,
    /// From the first frame on.
    canvas: Option<Canvas<3>>,
    /// Where the last frame leaves something else before the next is drawn, and what.
    restored: Option<(Area, Vec<[u8; 3]>)>,
    /// What becomes of a frame; one that says nothing is like the one before.
    disposal: DisposalMethod,
    indices: Vec<u8>,
}

/// Bytes a pixel at the peak: the canvas, what it is restored from, a frame's indices, and the picture
/// that is given out.
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
    Ok(Gif { decoder, canvas: None, restored: None, disposal: DisposalMethod::Any, indices: Vec::new() })
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
            return Err("a frame lies outside of the picture".into());
        }
        if first {
            // Around the first frame, and through it, its transparent colour is seen, as alpha is dropped.
            let screen = Area { left: 0, top: 0, width: screen_width, height: screen_height };
            canvas.fill(screen, colour(transparent.unwrap_or(0)));
        }
        if let Some((area, before)) = self.restored.take() {
            canvas.draw(area, &before, |under, before| *under = *before);
        }
        self.restored = match self.disposal {
            DisposalMethod::Any | DisposalMethod::Keep => None,
            DisposalMethod::Background => {
                let background = self.decoder.bg_color().and_then(|index| u8::try_from(index).ok());
                let left_behind = colour(transparent.or(background).unwrap_or(0));
                Some((area, vec![left_behind; width * height]))
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
