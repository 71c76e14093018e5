//! A stand-alone figure: title, legend, drawing and caption on one sheet.

use plotters::{
    coord::Shift,
    drawing::DrawingArea,
    style::text_anchor::{HPos, VPos},
};

use super::{
    Figure,
    frame::{Frame, LEADING, WIDE},
    pen::{At, Canvas, Drawn, LIGHT, Palette, Pen, SMALL, TEXT, drawing, part, width},
    plot::{self, SWATCH, failed},
};
use crate::Error;

/// The margin around the sheet.
const MARGIN: f64 = 16.0;

/// The layout of a sheet.
struct Sheet<'a> {
    figure: &'a Figure,
    frame: Frame,
    caption: Vec<String>,
    palette: &'static Palette,
}

impl Figure {
    /// Renders the figure as an SVG file.
    ///
    /// # Errors
    /// [`Error::Figure`] with its title, if it cannot be drawn.
    pub fn svg(&self) -> Result<String, Error> {
        let sheet = Sheet::new(self);
        let drawn = drawing(sheet.size(), |area| sheet.draw(area)).map_err(|cause| failed(self, cause))?;
        let ((width, height), (wide, high)) = (drawn.size, sheet.size());
        Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}\" height=\"{high}\" viewBox=\"0 0 {width} {height}\">\n{}\n</svg>\n",
            drawn.svg
        ))
    }

    /// Renders the figure as the bytes of a PNG file.
    ///
    /// # Errors
    /// [`Error::Figure`] with its title, if it cannot be drawn.
    #[cfg(feature = "image")]
    pub fn png(&self) -> Result<Vec<u8>, Error> {
        let sheet = Sheet::new(self);
        super::raster::png(sheet.size(), |area| sheet.draw(area)).map_err(|reason| failed(self, reason))
    }
}

impl<'a> Sheet<'a> {
    fn new(figure: &'a Figure) -> Self {
        let mut caption = vec![String::new()];
        for word in figure.caption.split_whitespace() {
            let line = caption.last().map_or("", String::as_str);
            let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            match caption.last_mut() {
                Some(line) if line.is_empty() || width(&longer, SMALL) <= WIDE.0 => *line = longer,
                _ => caption.push(word.into()),
            }
        }
        Self { figure, frame: Frame::new(figure, WIDE), caption, palette: &LIGHT }
    }

    /// Returns the top of the drawing.
    fn top(&self) -> f64 {
        MARGIN + 24.0 + 20.0 * self.figure.series.len() as f64 + 10.0
    }

    fn size(&self) -> At {
        let below = 12.0 + LEADING * self.caption.len() as f64;
        (WIDE.0 + 2.0 * MARGIN, self.top() + self.frame.height + below + MARGIN)
    }

    fn draw<C: Canvas>(&self, area: DrawingArea<C, Shift>) -> Drawn {
        let Self { figure, frame, caption, palette } = self;
        let pen = Pen { area, palette };
        pen.rectangle((0.0, 0.0), self.size(), palette.paper)?;
        pen.text(&figure.title, (MARGIN, MARGIN), (HPos::Left, VPos::Top), TEXT, palette.ink, false)?;
        for (i, (look, series)) in figure.looks(palette).into_iter().zip(&figure.series).enumerate() {
            let y = MARGIN + 24.0 + 20.0 * i as f64;
            let area = part(&pen.area, (MARGIN, y), SWATCH);
            plot::swatch(&Pen { area, palette }, look, series.style, figure.kind)?;
            let at = (MARGIN + SWATCH.0 + 8.0, y + SWATCH.1 / 2.0);
            pen.text(&series.name, at, (HPos::Left, VPos::Center), SMALL, palette.ink, false)?;
        }
        let area = part(&pen.area, (MARGIN, self.top()), (WIDE.0, frame.height));
        plot::plot(area, figure, frame, palette)?;
        for (i, line) in caption.iter().enumerate() {
            let y = self.top() + frame.height + 12.0 + LEADING * i as f64;
            pen.text(line, (MARGIN, y), (HPos::Left, VPos::Top), SMALL, palette.faint, false)?;
        }
        Ok(())
    }
}
