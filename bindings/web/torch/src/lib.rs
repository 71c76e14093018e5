//! The reader of PyTorch files, as a module of its own so that pages without such files do not download it. It
//! converts them to safetensors, which the main module reads.

use goldcrest::checkpoint::Checkpoint;
use wasm_bindgen::prelude::*;

/// Converts a file's bytes to safetensors. Its name is for error messages.
///
/// # Errors
/// If it is not a checkpoint.
#[wasm_bindgen(js_name = toSafetensors)]
pub fn to_safetensors(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, js_sys::Error> {
    Checkpoint::from_bytes(name, bytes, None, None)
        .and_then(|checkpoint| checkpoint.to_safetensors())
        .map_err(|error| js_sys::Error::new(&error.to_string()))
}
