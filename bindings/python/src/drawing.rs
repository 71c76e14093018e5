//! Draws results on pictures.

use goldcrest::{
    Result as Outcome,
    tasks::{self, Bounds, Detection, Labels, Picture, PictureLimits, Segmentation},
};
use numpy::{IntoPyArray, PyArray3, PyArrayMethods, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::{
    errors::raised,
    images::{Source, contiguous},
};

/// A `Detection`.
#[derive(FromPyObject)]
pub struct Found {
    index: usize,
    label: Option<String>,
    score: f32,
    #[pyo3(attribute("box"))]
    corners: (f32, f32, f32, f32),
}

/// Draws the classes of a segmentation over its picture.
#[pyfunction]
pub fn overlay<'py>(
    image: &Bound<'py, PyAny>,
    labels: PyReadonlyArray2<'py, u8>,
    names: Vec<(usize, Option<String>)>,
    legend: bool,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let view = labels.as_array();
    let (height, width) = view.dim();
    let classes = contiguous(view.into_dyn());
    draw(image, |picture| {
        let segmentation = Segmentation::new(width, height, classes)?;
        if !legend {
            return tasks::tint(&picture, &segmentation);
        }
        let count = names.iter().map(|(index, _)| index + 1).max().unwrap_or(0).min(256);
        let mut all: Vec<String> = (0..count).map(|index| format!("class {index}")).collect();
        for (index, name) in names {
            if let (Some(name), Some(at)) = (name, all.get_mut(index)) {
                *at = name;
            }
        }
        tasks::overlay(&picture, &segmentation, &Labels::from(all))
    })
}

/// Draws the boxes, labels and scores of detections over their picture.
#[pyfunction]
pub fn draw_boxes<'py>(
    image: &Bound<'py, PyAny>,
    detections: Vec<Found>,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let detection = |Found { index, label, score, corners: (left, top, right, bottom) }: Found| Detection {
        index,
        label,
        score,
        bounds: Bounds { left, top, right, bottom },
    };
    let detections: Vec<Detection> = detections.into_iter().map(detection).collect();
    draw(image, move |picture| Ok(tasks::draw(&picture, &detections)))
}

/// Draws on a picture, without the interpreter's lock.
fn draw<'py>(
    image: &Bound<'py, PyAny>,
    how: impl FnOnce(Picture) -> Outcome<Picture> + Send,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let py = image.py();
    let source = Source::of(image)?;
    let name = source.name(None);
    let drawn = py.detach(|| how(source.decode(PictureLimits::default(), None)?));
    let drawn = drawn.map_err(|error| raised(error, name.as_deref()))?;
    let size = [drawn.height(), drawn.width(), 3];
    drawn.into_pixels().into_pyarray(py).reshape(size)
}
