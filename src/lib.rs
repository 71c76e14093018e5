//! MobileNets on any GPU, in one small crate: image classification, semantic segmentation and object detection.
//!
//! Hand-written WGSL kernels run through [wgpu] on Vulkan, Metal, DX12, GL and WebGPU; a planner fuses and schedules
//! them. With the feature `cpu`, a CPU engine runs the same networks where there is no GPU. Checkpoints of
//! torchvision, timm and transformers load without conversion.
//!
//! # A picture
//!
//! ```toml
//! goldcrest = { version = "0.1", default-features = false, features = ["cpu", "image", "torch"] }
//! ```
//!
//! ```no_run
//! # #[cfg(feature = "image")]
//! # fn main() -> goldcrest::Result<()> {
//! use goldcrest::{Device, Options, Session, tasks::Picture, zoo::Network};
//!
//! // A folder from a hub, or a file. This one is in the repository.
//! let network = Network::open("assets/demo/detect")?;
//! let picture = Picture::open("assets/demo/scene.png")?;
//! let size = [picture.height(), picture.width()];
//! let mut session = Session::for_pictures(Device::best()?, &network, size, Options::default())?;
//!
//! for found in session.detect(&picture)?.iter().filter(|found| found.score > 0.5) {
//!     println!("{:3.0}%  {:?} at {:?}", 100.0 * found.score, found.label, found.bounds);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "image"))]
//! # fn main() {}
//! ```
//!
//! # A texture, in a program that renders
//!
//! The program owns the device, the textures and the encoder: here `gpu` wraps its device
//! ([`gpu::Gpu::from_device`]), and `frame` and `mask` are its textures. No frame waits for the GPU or allocates
//! GPU memory.
//!
//! ```no_run
//! use goldcrest::{Options, Result, Session, gpu::Gpu, session::SourceOptions, tasks::palette, zoo::Network};
//!
//! # fn program(
//! #     gpu: &Gpu, network: &Network, frame: &wgpu::Texture, mask: &wgpu::Texture,
//! # ) -> Result<()> {
//! let session = Session::for_pictures(gpu, network, [360, 640], Options::default())?;
//! let source = session.source(frame, SourceOptions::default())?;
//! let painting = session.painting(mask, &palette().map(|[r, g, b]| [r, g, b, 128]))?;
//!
//! // In every frame:
//! let mut encoder = gpu.device().create_command_encoder(&Default::default());
//! session.encode(&mut encoder, &source)?;
//! session.encode_painting(&mut encoder, &painting)?; // then draw `mask` over the frame
//! gpu.queue().submit([encoder.finish()]);
//! # Ok(())
//! # }
//! ```
//!
//! [`Session::read_back`] and a [`gpu::Ring`] return results to the CPU some frames later. The README extends this to a
//! complete program.
//!
//! # Modules
//!
//! | you want to | start at |
//! |---|---|
//! | embed a network in a program | [`Session`], [`Device`], [`Options`]; [`tasks`] has pictures and results |
//! | read frames from textures, draw results on the device | [`Session::source`], [`Session::painting`], [`Session::boxes`], [`gpu::Ring`] |
//! | open a checkpoint | [`zoo::Network`]; `hub` downloads one; [`checkpoint::Overrides`] sets what a file does not record |
//! | run many pictures or video | `feed::Pipeline` |
//! | shrink a network | `quantize` |
//! | choose a network for a device, or search for one | `search` |
//! | measure and tune | [`measure`]; `study` tests a paper's claims about separable convolutions |
//!
//! [`kernels`], [`plan`], [`graph`], [`tensor`] and [`cpu`] are internals. They are public for tests, benchmarks and
//! research, and may change in any release, except the types that the other modules take and return. `ARCHITECTURE.md`
//! in the repository has guides for adding a kernel, an operation, an activation function, a family of networks, a
//! library, a head or a shader feature tier (baseline, subgroups, matrix units).
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `cpu` | the CPU engine, for machines without a GPU; `quantize` and `search`, which compute with it |
//! | `image` | picture files, and drawing results: `tasks::Picture::open`, `tasks::draw`, `tasks::overlay` |
//! | `feed` | many pictures and video, decoded on all cores: `feed` |
//! | `torch` | PyTorch files: `.pth`, `.pt`, `.bin`, `.ckpt` |
//! | `hub` | downloads from the Hugging Face hub: `hub` |
//! | `demo` | scenes with ground truth, and small networks trained on them: `demo` |
//! | `study` | experiments on a paper's claims, and their report: `study`, `measure::report` |
//! | `translate` | kernels as SPIR-V, MSL, HLSL and GLSL: `kernels::translate` |
//! | `static-dxc` | Direct3D's compiler DXC, linked into the program (x86-64 Windows) |
//! | `cli` (default) | the `goldcrest` program and all features above except `static-dxc`; programs that embed the crate set `default-features = false` |
//!
//! There is one [`Error`] type; an error names the file, tensor or layer at fault, if there is one. The crate logs
//! through [`log`] and prints nothing.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Without the engine, a CPU device is a type without values.
#![cfg_attr(not(feature = "cpu"), allow(unreachable_code, unused_assignments, clippy::large_enum_variant))]

pub mod checkpoint;
#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(not(feature = "cpu"))]
#[path = "without_cpu.rs"]
pub mod cpu;
#[cfg(feature = "demo")]
pub mod demo;
mod error;
#[cfg(all(feature = "feed", not(target_arch = "wasm32")))]
pub mod feed;
pub mod files;
pub mod gpu;
pub mod graph;
#[cfg(feature = "hub")]
pub mod hub;
pub mod kernels;
pub mod measure;
pub mod plan;
#[cfg(feature = "cpu")]
pub mod quantize;
mod random;
#[cfg(all(feature = "cpu", not(target_arch = "wasm32")))]
pub mod search;
pub mod session;
#[cfg(feature = "study")]
pub mod study;
pub mod tasks;
pub mod tensor;
pub mod text;
pub mod zoo;

pub use error::{Error, Result};
pub use session::{Device, Options, Session, Startup};
pub use tensor::{Shape, Tensor};
pub use wgpu;

/// The README's code examples, compiled and run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
