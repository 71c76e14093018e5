//! Goldcrest in a browser: networks on WebGPU or, without it, on the CPU in WebAssembly.
//!
//! This crate is the WebAssembly half of the npm package. `js/` is the other half: it fetches files, converts
//! sources of pictures, and chooses between the two devices.

mod device;
mod measure;
mod network;
mod session;
mod texture;
mod threads;

pub use device::Device;
pub use network::Network;
pub use session::Session;

use wasm_bindgen::prelude::*;

/// Sends log messages and panics to the console.
#[wasm_bindgen(start)]
pub fn start() {
    goldcrest_web_common::log_to_console();
}

/// The colours of the 256 classes, each as red, green and blue.
#[wasm_bindgen]
pub fn palette() -> Vec<u8> {
    goldcrest::tasks::palette().concat()
}

/// A result whose error is thrown as a JavaScript `Error`.
type Result<T> = std::result::Result<T, js_sys::Error>;

/// Converts an error of the library to a JavaScript `Error` with the same message. Those that a new device or the
/// CPU can mend have names of their own.
fn thrown(error: goldcrest::Error) -> js_sys::Error {
    use goldcrest::Error as E;
    let message = error.to_string();
    match error {
        E::Lost(_) => named("DeviceLostError", &message),
        E::Device(_) | E::Memory(_) | E::Limit { .. } | E::DeviceLimit { .. } => device_error(&message),
        _ => js_sys::Error::new(&message),
    }
}

/// The error of a device that fails, but is not lost.
fn device_error(message: &str) -> js_sys::Error {
    named("DeviceError", message)
}

/// An error with a name, by which `js/` knows it.
fn named(name: &str, message: &str) -> js_sys::Error {
    let error = js_sys::Error::new(message);
    error.set_name(name);
    error
}

/// Converts a value to a plain JavaScript object.
fn plain(value: &impl serde::Serialize) -> Result<JsValue> {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(|e| js_sys::Error::new(&e.to_string()))
}
