//! What Goldcrest's WebAssembly modules share.

use goldcrest::gpu::Gpu;
use js_sys::Reflect;

/// Sends log messages and panics to the console.
pub fn log_to_console() {
    console_error_panic_hook::set_once();
    // Fails only if there is a logger already.
    let _ = console_log::init_with_level(log::Level::Warn);
}

/// The browser's description of a GPU, or its vendor and architecture. wgpu passes on neither.
pub fn described(gpu: &Gpu) -> Option<String> {
    let info = Reflect::get(gpu.device().as_webgpu()?, &"adapterInfo".into()).ok()?;
    let text =
        |field: &str| Reflect::get(&info, &field.into()).ok()?.as_string().filter(|text| !text.is_empty());
    text("description").or_else(|| Some([text("vendor")?, text("architecture")?].join(" ")))
}
