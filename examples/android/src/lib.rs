//! Segments the frames of an Android camera. `Segmenter.kt` declares the functions at the end of this file.

mod frame;

use std::slice;

use goldcrest::{
    Device, Options, Session,
    checkpoint::Checkpoint,
    demo,
    tasks::{palette, premultiply},
    zoo::Network,
};
use jni::{
    Env, EnvUnowned,
    errors::ThrowRuntimeExAndDefault,
    objects::{JByteArray, JByteBuffer, JObject, JString},
    sys::{jint, jlong},
};

use frame::{Frame, Plane};

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Goldcrest(#[from] goldcrest::Error),
    #[error(transparent)]
    Java(#[from] jni::errors::Error),
    #[error("the frame {0}")]
    Frame(String),
    #[error("the mask has {has} bytes, but the picture needs {needs}")]
    Mask { has: usize, needs: usize },
}

/// A network on the device's GPU or, without Vulkan, on its CPU.
struct Segmenter {
    device: Device,
    network: Network,
    /// The session, and the rows and columns that it was built for.
    session: Option<([usize; 2], Session)>,
    /// The colour of each class, with premultiplied opacity.
    colours: [[u8; 4]; 256],
}

impl Segmenter {
    /// Opens a safetensors file with its `config.json`, or the demo's network of shapes.
    fn open(weights: Option<Vec<u8>>, config: Option<&str>) -> Result<Self, Error> {
        let network = match weights {
            Some(weights) => {
                let checkpoint = Checkpoint::from_bytes("model.safetensors", weights, config, None)?;
                Network::from_checkpoint(&checkpoint, None)?
            }
            None => demo::segmenter()?,
        };
        let mut colours = palette().map(|[r, g, b]| [r, g, b, 150]);
        // The background.
        colours[0] = [0; 4];
        Ok(Self { device: Device::best()?, network, session: None, colours: premultiply(&colours) })
    }

    /// Writes the colour of each pixel's class into `mask`, as RGBA of the upright picture.
    fn segment(&mut self, frame: &Frame, mask: &mut [u8]) -> Result<(), Error> {
        let picture = frame.picture()?;
        let size = [picture.height(), picture.width()];
        if self.session.as_ref().is_none_or(|(built, _)| *built != size) {
            let session = Session::for_pictures(&self.device, &self.network, size, Options::default())?;
            self.session = Some((size, session));
        }
        let Some((_, session)) = &mut self.session else { unreachable!("it was just built") };
        let classes = session.segment(&picture)?;
        let (has, needs) = (mask.len(), 4 * classes.labels().len());
        if has != needs {
            return Err(Error::Mask { has, needs });
        }
        for (pixel, class) in mask.chunks_exact_mut(4).zip(classes.labels()) {
            pixel.copy_from_slice(&self.colours[usize::from(*class)]);
        }
        Ok(())
    }
}

/// Opens a network and returns its handle.
#[unsafe(no_mangle)]
extern "system" fn Java_goldcrest_example_Segmenter_open<'a>(
    mut env: EnvUnowned<'a>,
    _: JObject<'a>,
    weights: JByteArray<'a>,
    config: JString<'a>,
) -> jlong {
    let open = |env: &mut Env| -> Result<_, Error> {
        let weights = (!weights.is_null()).then(|| env.convert_byte_array(&weights)).transpose()?;
        let config = (!config.is_null()).then(|| config.try_to_string(env)).transpose()?;
        let segmenter = Segmenter::open(weights, config.as_deref())?;
        Ok(Box::into_raw(Box::new(segmenter)) as jlong)
    };
    env.with_env(open).resolve::<ThrowRuntimeExAndDefault>()
}

/// The name of the device that it runs on.
///
/// # Safety
/// `handle` is from `open` and not closed.
#[unsafe(no_mangle)]
unsafe extern "system" fn Java_goldcrest_example_Segmenter_device<'a>(
    mut env: EnvUnowned<'a>,
    _: JObject<'a>,
    handle: jlong,
) -> JString<'a> {
    let device = |env: &mut Env<'a>| -> Result<_, Error> {
        // SAFETY: the caller's promise.
        let segmenter = unsafe { &*(handle as *const Segmenter) };
        Ok(env.new_string(segmenter.device.to_string())?)
    };
    env.with_env(device).resolve::<ThrowRuntimeExAndDefault>()
}

/// Segments a frame of three planes with their row strides and pixel strides.
///
/// # Safety
/// `handle` is from `open`, not closed, and not in use by another thread. The buffers are direct; nothing writes
/// to the planes meanwhile, nothing else uses `mask`.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // Java has no structures to pass
unsafe extern "system" fn Java_goldcrest_example_Segmenter_segment<'a>(
    mut env: EnvUnowned<'a>,
    _: JObject<'a>,
    handle: jlong,
    y: JByteBuffer<'a>,
    y_row: jint,
    y_pixel: jint,
    u: JByteBuffer<'a>,
    u_row: jint,
    u_pixel: jint,
    v: JByteBuffer<'a>,
    v_row: jint,
    v_pixel: jint,
    width: jint,
    height: jint,
    rotation: jint,
    mask: JByteBuffer<'a>,
) {
    let segment = |env: &mut Env<'a>| -> Result<_, Error> {
        let memory = |buffer: &JByteBuffer| -> Result<_, Error> {
            Ok((env.get_direct_buffer_address(buffer)?, env.get_direct_buffer_capacity(buffer)?))
        };
        let number = |number: jint| {
            usize::try_from(number).map_err(|_| Error::Frame(format!("has the negative number {number}")))
        };
        let plane = |buffer: &JByteBuffer, row, pixel| -> Result<_, Error> {
            let (address, length) = memory(buffer)?;
            // SAFETY: the memory of a direct buffer, which outlives the call; the caller's promise.
            let samples = unsafe { slice::from_raw_parts(address, length) };
            Ok(Plane { samples, row_stride: number(row)?, pixel_stride: number(pixel)? })
        };
        let frame = Frame {
            width: number(width)?,
            height: number(height)?,
            planes: [plane(&y, y_row, y_pixel)?, plane(&u, u_row, u_pixel)?, plane(&v, v_row, v_pixel)?],
            rotation: number(rotation)?,
        };
        let (address, length) = memory(&mask)?;
        // SAFETY: as above.
        let mask = unsafe { slice::from_raw_parts_mut(address, length) };
        // SAFETY: the caller's promise.
        let segmenter = unsafe { &mut *(handle as *mut Segmenter) };
        segmenter.segment(&frame, mask)
    };
    env.with_env(segment).resolve::<ThrowRuntimeExAndDefault>();
}

/// Frees a network.
///
/// # Safety
/// `handle` is from `open` and not closed.
#[unsafe(no_mangle)]
unsafe extern "system" fn Java_goldcrest_example_Segmenter_close<'a>(
    mut env: EnvUnowned<'a>,
    _: JObject<'a>,
    handle: jlong,
) {
    let close = |_: &mut Env| -> Result<_, Error> {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle as *mut Segmenter) });
        Ok(())
    };
    env.with_env(close).resolve::<ThrowRuntimeExAndDefault>();
}
