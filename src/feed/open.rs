//! Decodes inputs to pictures.

use std::{
    io::{Cursor, Read},
    iter,
    sync::Arc,
};

use super::{
    inputs::{Content, Input, Name},
    y4m::Header,
};
use crate::{
    Error, Result,
    tasks::{Frames, Picture, PictureLimits},
};

/// A decoded picture, or the error.
pub struct Opened {
    pub name: Name,
    pub picture: Result<Picture>,
    /// The header of the video stream, if the picture is a frame of one.
    pub video: Option<Arc<Header>>,
}

/// The pictures of an input.
pub enum Opening {
    One(Opened),
    /// The frames of an animation or the pages of a file, each decoded on demand.
    Many(Box<dyn Iterator<Item = Opened> + Send>),
}

/// Decodes an input.
pub fn open(input: Input, limits: PictureLimits) -> Opening {
    let Input { name, content } = input;
    let frames = match content {
        Content::Failed(error) => Err(error),
        Content::Raw([width, height], pixels) => {
            return one(name, Picture::new(width, height, pixels), None);
        }
        Content::Lazy(picture) => return one(name, picture(), None),
        Content::Frame(header, samples) => {
            let picture = header.picture(samples).map_err(|reason| Error::file(&name.file, reason));
            return one(name, picture, Some(header));
        }
        Content::Encoded(bytes) => Frames::read(Cursor::new(bytes), &name.file, limits),
        Content::File(file, head) => Frames::read(Cursor::new(head).chain(file), &name.file, limits),
    };
    let mut frames = match frames {
        Ok(frames) => frames,
        Err(error) => return one(name, Err(error), None),
    };
    let (first, second) = (frames.next(), frames.next());
    let Some(second) = second else {
        let none = || Err(Error::file(&name.file, "there is no picture in the file"));
        let picture = first.unwrap_or_else(none);
        return one(name, picture, None);
    };
    let all = first.into_iter().chain(iter::once(second)).chain(frames);
    Opening::Many(Box::new(all.enumerate().map(move |(at, picture)| {
        // The last picture of a stream may be an animation, whose frames continue the stream's indices.
        let frame = name.frame.unwrap_or(0) + at;
        Opened { name: Name { frame: Some(frame), ..name.clone() }, picture, video: None }
    })))
}

fn one(name: Name, picture: Result<Picture>, video: Option<Arc<Header>>) -> Opening {
    Opening::One(Opened { name, picture, video })
}
