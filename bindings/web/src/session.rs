//! Sessions: networks that are ready to run on pictures of one size.

use std::{rc::Rc, time::Duration};

use futures_channel::oneshot;
use goldcrest::{
    Options, Tensor,
    gpu::{Gpu, Readback, Ring, Source},
    session::{Precision, SourceOptions},
    tasks::{Class, Detection, Picture, Segmentation},
    wgpu::{self, webgpu::GpuTexture},
    zoo::{self, Outputs},
};
use js_sys::{Error, Float32Array, Function, Object, Promise, Reflect, Uint8Array};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::{
    Device, Network, Result, device_error, named, plain,
    texture::{self, unreadable},
    thrown,
};

/// The longest time to build without a pause in which the page can draw.
const SLICE: Duration = Duration::from_millis(8);

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** A class and its probability. */
export interface Class {
  /** Its index in the network's output. */
  index: number;
  /** Its name, if known. */
  label: string | null;
  /** Its probability, 0 to 1; null if the network's outputs are plain values. */
  probability: number | null;
  /** The network's output. */
  value: number;
}

/** An object in a picture. */
export interface Detection {
  /** Its class: the index in the network's output. */
  index: number;
  /** The name of its class, if known. */
  label: string | null;
  /** The network's confidence, 0 to 1. */
  score: number;
  /** Its box, in pixels of the picture. */
  bounds: { left: number; top: number; right: number; bottom: number };
}

/** The class of each pixel of a picture. */
export interface Segmentation {
  width: number;
  height: number;
  /** The class of each pixel, by row. */
  labels: Uint8Array;
  /** The classes in the picture, largest first. */
  classes: { index: number; label: string | null; share: number }[];
}
"#;

/// A network on a device. The first picture of each size builds the library's session for that size.
#[wasm_bindgen]
pub struct Session {
    network: Rc<zoo::Network>,
    device: goldcrest::Device,
    options: Options,
    built: Option<Built>,
}

/// What pictures of one size need.
struct Built {
    /// Rows and columns.
    size: [usize; 2],
    session: goldcrest::Session,
    /// On a GPU.
    frames: Option<Frames>,
}

/// How pictures reach a GPU, and results leave it.
struct Frames {
    gpu: Gpu,
    /// The texture that pictures are copied to, and its source.
    texture: wgpu::Texture,
    source: Source,
    /// The page's texture that was read last, and its source.
    given: Option<(GpuTexture, Source)>,
    ring: Ring,
    count: u64,
}

#[wasm_bindgen]
impl Session {
    /// A session of a network on a device. `embedding` asks for the embedding of a classifier instead of its
    /// classes; `f16` for 16-bit floats on
    /// GPUs that have them.
    #[wasm_bindgen(constructor)]
    pub fn new(network: &Network, device: &Device, embedding: bool, f16: bool) -> Session {
        let outputs = if embedding { Outputs::Embedding } else { Outputs::Scores };
        let has_f16 = matches!(&device.0, goldcrest::Device::Gpu(gpu) if gpu.has_f16());
        let precision = if f16 && has_f16 { Precision::F16 } else { Precision::F32 };
        let options = Options { outputs, precision, ..Options::default() };
        Self { network: network.0.clone(), device: device.0.clone(), options, built: None }
    }

    /// Builds what pictures of this size need, unless it is built. `progress` is called with the number of
    /// compiled pipelines and their total.
    ///
    /// # Errors
    /// If the network does not accept such pictures, or the device cannot run it.
    pub async fn build(&mut self, width: usize, height: usize, progress: Option<Function>) -> Result<()> {
        let size = [height, width];
        if self.built.as_ref().is_some_and(|built| built.size == size) {
            return Ok(());
        }
        self.built = None;
        let mut building =
            goldcrest::Session::building(&self.device, &self.network, size, self.options).map_err(thrown)?;
        let session = loop {
            if let Some(session) = building.advance(SLICE).map_err(thrown)? {
                break session;
            }
            if let Some(progress) = &progress {
                let [done, of] = building.progress();
                let _ = progress.call2(&JsValue::NULL, &done.into(), &of.into());
            }
            pause().await;
        };
        let frames = match &self.device {
            goldcrest::Device::Gpu(gpu) => Some(Frames::new(gpu, &session, size).await?),
            goldcrest::Device::Cpu(_) => None,
        };
        self.built = Some(Built { size, session, frames });
        Ok(())
    }

    /// The task: `classify`, `segment`, `detect` or `embed`.
    #[wasm_bindgen(getter, unchecked_return_type = "Task")]
    pub fn task(&self) -> String {
        let embedding = self.options.outputs == Outputs::Embedding;
        if embedding { zoo::Task::Embed } else { self.network.task }.method().into()
    }

    /// The `top` most likely classes of a picture.
    ///
    /// # Errors
    /// If the network does not classify, or the device fails.
    #[wasm_bindgen(unchecked_return_type = "Class[]")]
    pub async fn classify(&mut self, input: Input, top: usize) -> Result<JsValue> {
        let (built, outputs, _) = self.run(input).await?;
        let classes: Vec<Class> = built.session.classes_of(&outputs, top).map_err(thrown)?;
        plain(&classes)
    }

    /// The class of each pixel of a picture.
    ///
    /// # Errors
    /// If the network does not segment, or the device fails.
    #[wasm_bindgen(unchecked_return_type = "Segmentation")]
    pub async fn segment(&mut self, input: Input) -> Result<JsValue> {
        let (built, outputs, picture) = self.run(input).await?;
        let segmentation: Segmentation = built.session.segmentation_of(&outputs, picture).map_err(thrown)?;
        #[derive(Serialize)]
        struct Plain {
            width: usize,
            height: usize,
            classes: Vec<goldcrest::tasks::ClassArea>,
        }
        let classes = built.session.labels().map(|labels| segmentation.areas(labels)).unwrap_or_default();
        let object = plain(&Plain { width: segmentation.width(), height: segmentation.height(), classes })?;
        let labels = Uint8Array::from(segmentation.labels());
        Reflect::set(&object, &"labels".into(), &labels).map_err(|_| Error::new("out of memory"))?;
        Ok(object)
    }

    /// The objects in a picture with scores of at least `min_score`, highest first.
    ///
    /// # Errors
    /// If the network does not detect, or the device fails.
    #[wasm_bindgen(unchecked_return_type = "Detection[]")]
    pub async fn detect(&mut self, input: Input, min_score: f32) -> Result<JsValue> {
        let (built, outputs, picture) = self.run(input).await?;
        let mut detections: Vec<Detection> =
            built.session.detections_of(&outputs, picture).map_err(thrown)?;
        detections.retain(|detection| detection.score >= min_score);
        plain(&detections)
    }

    /// The embedding vector of a picture.
    ///
    /// # Errors
    /// If the network has no embedding, if it classifies and the session was created without `embedding`, or
    /// if the device fails.
    pub async fn embed(&mut self, input: Input) -> Result<Float32Array> {
        let (built, outputs, _) = self.run(input).await?;
        let vector = built.session.embedding_of(&outputs).map_err(thrown)?;
        Ok(Float32Array::from(&vector[..]))
    }
}

impl Session {
    /// Runs on a picture, after building what it needs. Returns the outputs, and the picture's rows and
    /// columns.
    async fn run(&mut self, input: Input) -> Result<(&Built, Vec<Tensor>, [usize; 2])> {
        let size @ [height, width] = input.size();
        self.build(width, height, None).await?;
        let built = self.built.as_mut().ok_or_else(|| Error::new("the session is not built"))?;
        let outputs = match input.0 {
            Pixels::Memory(picture) => {
                let input = built.session.prepare(&picture).map_err(thrown)?;
                built.session.run_all_async(&input).await.map_err(thrown)?
            }
            pixels => {
                let frames = built.frames.as_mut();
                let frames = frames.ok_or_else(|| Error::new("the CPU needs pixels: pass ImageData"))?;
                frames.run(&built.session, &pixels).await?.outputs
            }
        };
        Ok((built, outputs, size))
    }
}

impl Frames {
    async fn new(gpu: &Gpu, session: &goldcrest::Session, [height, width]: [usize; 2]) -> Result<Self> {
        use wgpu::TextureUsages as Usage;
        let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
            label: Some("picture"),
            size: wgpu::Extent3d { width: width as u32, height: height as u32, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba8Unorm,
            // Browsers draw the picture onto the texture.
            usage: Usage::COPY_DST | Usage::RENDER_ATTACHMENT | Usage::TEXTURE_BINDING,
            view_formats: &[],
        });
        let source = session.source_async(&texture, SourceOptions::default()).await.map_err(thrown)?;
        let ring = session.ring(1).map_err(thrown)?;
        Ok(Self { gpu: gpu.clone(), texture, source, given: None, ring, count: 0 })
    }

    async fn run(&mut self, session: &goldcrest::Session, pixels: &Pixels) -> Result<Readback> {
        let given = match pixels {
            Pixels::Texture(texture) => {
                self.bind(session, texture).await?;
                self.given.as_ref().map(|(_, source)| source)
            }
            _ => None,
        };
        let device = self.gpu.device();
        let [memory, validation] = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation]
            .map(|filter| device.push_error_scope(filter));
        if let Pixels::Page { source, .. } = pixels {
            self.copy(source)?;
        }
        let mut encoder = device.create_command_encoder(&Default::default());
        session.encode(&mut encoder, given.unwrap_or(&self.source)).map_err(thrown)?;
        self.count += 1;
        // Without room the result would never arrive.
        if !session.read_back(&mut encoder, &mut self.ring, self.count).map_err(thrown)? {
            return Err(Error::new("an earlier picture has not been read back"));
        }
        self.gpu.queue().submit([encoder.finish()]);
        let refused = [validation.pop(), memory.pop()];
        let (sender, receiver) = oneshot::channel();
        self.gpu.queue().on_submitted_work_done(move || {
            let _ = sender.send(());
        });
        // Dropped without a message if the device is lost, which `poll` then reports.
        let _ = receiver.await;
        let read = loop {
            if let Some(read) = self.ring.poll().map_err(thrown)? {
                break read;
            }
            pause().await;
        };
        for refused in refused {
            if let Some(e) = refused.await {
                return Err(match given {
                    Some(_) => unreadable(&e.to_string()),
                    None => device_error(&e.to_string()),
                });
            }
        }
        Ok(read)
    }

    /// Prepares reading the page's texture, unless it is the same as the last time.
    async fn bind(&mut self, session: &goldcrest::Session, texture: &GpuTexture) -> Result<()> {
        if self.given.as_ref().is_none_or(|(bound, _)| bound != texture) {
            let wrapped = texture::wrapped(&self.gpu, texture)?;
            let source =
                session.source_async(&wrapped, SourceOptions::default()).await.map_err(|e| match e {
                    goldcrest::Error::Device(reason) => unreadable(&reason),
                    e => thrown(e),
                })?;
            self.given = Some((texture.clone(), source));
        }
        Ok(())
    }

    /// Copies the page's object to the texture. wgpu's own method panics if the browser cannot copy it.
    fn copy(&self, source: &JsValue) -> Result<()> {
        let (queue, texture) = (self.gpu.queue().as_webgpu(), self.texture.as_webgpu());
        let (Some(queue), Some(texture)) = (queue, texture) else {
            return Err(Error::new("the device is not WebGPU's"));
        };
        let object = |name: &str, value: &JsValue| {
            let object = Object::new();
            // Setting a field of a plain object does not fail.
            let _ = Reflect::set(&object, &name.into(), value);
            object
        };
        let size = object("width", &self.texture.width().into());
        let _ = Reflect::set(&size, &"height".into(), &self.texture.height().into());
        queue
            .unchecked_ref::<GpuQueue>()
            .copy(&object("source", source), &object("texture", texture), &size)
            .map_err(|reason| named("CopyError", &String::from(reason.unchecked_into::<Error>().message())))
    }
}

#[wasm_bindgen]
extern "C" {
    /// WebGPU's queue.
    type GpuQueue;

    #[wasm_bindgen(method, catch, js_name = copyExternalImageToTexture)]
    fn copy(
        this: &GpuQueue,
        source: &Object,
        texture: &Object,
        size: &Object,
    ) -> std::result::Result<(), JsValue>;
}

/// A picture: pixels in memory, or an object or a texture of the page that a GPU reads.
#[wasm_bindgen]
pub struct Input(Pixels);

enum Pixels {
    Memory(Picture),
    Page { source: JsValue, size: [usize; 2] },
    Texture(GpuTexture),
}

#[wasm_bindgen]
impl Input {
    /// Pixels in memory: red, green, blue and alpha in a byte each, as in `ImageData`. Alpha is ignored.
    ///
    /// # Errors
    /// If there are not four bytes per pixel.
    pub fn pixels(width: usize, height: usize, rgba: &[u8]) -> Result<Input> {
        let (pixels, rest) = rgba.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(Error::new(&format!("{} bytes are not whole RGBA pixels", rgba.len())));
        }
        let rgb = pixels.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect();
        Ok(Self(Pixels::Memory(Picture::new(width, height, rgb).map_err(thrown)?)))
    }

    /// An image, canvas, video, video frame or `ImageData` for a GPU to read.
    pub fn page(width: usize, height: usize, source: JsValue) -> Input {
        Self(Pixels::Page { source, size: [height, width] })
    }

    /// A texture of the session's own `GPUDevice`.
    pub fn texture(#[wasm_bindgen(unchecked_param_type = "GPUTexture")] texture: JsValue) -> Input {
        Self(Pixels::Texture(texture.unchecked_into()))
    }

    /// Rows and columns.
    fn size(&self) -> [usize; 2] {
        match &self.0 {
            Pixels::Memory(picture) => [picture.height(), picture.width()],
            Pixels::Page { size, .. } => *size,
            Pixels::Texture(texture) => [texture.height() as usize, texture.width() as usize],
        }
    }
}

/// Lets the page draw and handle events.
pub async fn pause() {
    let promise = Promise::new(&mut |resolve, _| {
        let timer = Reflect::get(&js_sys::global(), &"setTimeout".into());
        if let Ok(timer) = timer.and_then(JsCast::dyn_into::<Function>) {
            let _ = timer.call1(&JsValue::UNDEFINED, &resolve);
        }
    });
    let _ = JsFuture::from(promise).await;
}
